// How far a gate reaches (memory/gate.h) in the query space of learned keys, from facts: the
// distance between a subject's queries in two wordings, against that to the nearest other subject.
//
// Non-goals: gates of single updates.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

#include "base/progress.h"
#include "io/dataset.h"
#include "memory/gate.h"
#include "model/language_model.h"

namespace accrete {

struct GateFit {
  Gate gate;
  int64_t subjects = 0;
  double same = 0;   // 9 of 10 subjects are nearer than this to themselves in another wording
  double other = 0;  // 9 of 10 are farther than this from every other subject
};

// From two distances: a subject is heard fully up to `same`, and not at all from 15 % of the way to
// `other` on. Where they overlap the gate opens around their middle.
Gate gate_between(double same, double other);

// Of at most `limit` facts with a subject and two phrasings. Fewer than 8 of them: the defaults of
// Gate, scaled to the spread of the queries `states` [T, query_width] of background tokens.
GateFit fit_gate(const LanguageModel& model, std::vector<Item> facts, const at::Tensor& queries,
                 int64_t limit, const Reporter& reporter);

}  // namespace accrete
