// Probes of a model whose facts are addressed by the question: what they score under any state.
//
// A question that accepts no fact is answered by the base model, so what the base model answers
// right is looked at once (and kept in the probe's record); of a state only the accepted questions
// have to be asked.
//
// Non-goals: probes of memory layers (probe.h, learn/probe_watch.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "measure/probe.h"
#include "model/language_model.h"

namespace accrete {

// What the record of a probe keeps about the base model: a '1' for each item that it answers right,
// else '0'; empty for running text.
std::string base_answers(const LanguageModel& model, const Probe& probe,
                         const Reporter& reporter = {});

struct FactProbeState {
  double score = 0;
  std::vector<int64_t>
      chosen;  // of each item the fact that it accepts (or the first passage), or -1
  std::vector<std::string> id;  // their ids, the same in every store; empty: none
  std::vector<uint8_t> exact;   // of each item
};
// The question of a probe's item that is a fact: its first wording, else the first that is asked.
const std::string& probe_question(const Item& item);

// Under the facts that `model` has. `base` is base_answers().
FactProbeState fact_probe_state(const LanguageModel& model, const Probe& probe,
                                const std::string& base, const Reporter& reporter = {});

}  // namespace accrete
