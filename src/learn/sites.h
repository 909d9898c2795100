// The sites of facts: the tokens at which they are written, which are the last ones of their
// subjects. What a token is like where addresses are made depends on the words before it, so a
// subject is read in every phrasing, in those after a few contexts, and by itself at the beginning
// and behind a few words: of 60 development subjects the query is then 3.1 (median) and 4.4 (95 %)
// away from the nearest site in wordings that begin otherwise, and within 4.8 in the middle of
// other texts; at the beginning of a text it is 0. (After contexts alone: 3.5, 5.2, and 6.0 in the
// median at the beginning, where the gate is then shut.)
//
// Non-goals: what is written there (value_solver.h), in which slots (ranking.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "learn/lessons.h"
#include "learn/subject_prompts.h"
#include "memory/accesses.h"
#include "memory/gate.h"

namespace accrete {

struct Sites {
  Accesses accesses;          // of n sites
  at::Tensor queries;         // [n, query_width]
  std::vector<int64_t> item;  // of each: the item that is written there
  Accesses others;            // of all other tokens of the phrasings
};

// `examples` are phrasings of `lessons` with their subjects marked. With `gated`, sites that lie
// where all first tokens do are left out, but for half of a fact's, unless the gate tells first
// tokens apart. `prompts`, when not null, are those of the examples. Throws kInterrupted.
Sites read_sites(const LanguageModel& model, const Lessons& lessons,
                 std::span<const Example> examples, bool gated, const Reporter& reporter,
                 const SubjectPrompts* prompts = nullptr);

// Short contexts that a prompt is read behind as well.
std::span<const std::string_view> reading_contexts();

// [n] bool: which of `queries` are clear of `first`, the queries of first tokens, for a gate that
// does not know where those lie; all for one that does.
at::Tensor clear_of_first(const at::Tensor& queries, const at::Tensor& first, const Gate& gate);

}  // namespace accrete
