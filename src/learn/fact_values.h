// The values of facts: vectors that make the model say each fact's answer.
//
// Every fact has a few vectors of its own (model/fact_sites.h). Each step shows each fact in some
// of its examples, by turns, and takes one elementwise Adam step on its vectors alone, so a
// thousand facts cost a thousand times one. A fact rests once all its examples are said with next
// to no loss. Nothing in the network changes. (Kin: prefix tuning, Li and Liang 2021; the value
// optimisation of ROME, Meng et al. 2022.)
//
// Non-goals: which examples there are (fact_lessons.h), choosing facts (memory/fact_store.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/progress.h"
#include "learn/fact_passes.h"

namespace accrete {

struct FactValueOptions {
  int64_t steps = 20;  // of a fact at most
  int64_t more_steps =
      20;              // for facts that are not said exactly by then, with the rate falling anew
  int64_t rounds = 3;  // of more steps at most
  // First step length per coordinate, in units of the root mean square of what the vectors are
  // added to; falls linearly to `final_rate` of it.
  double rate = 0.5;
  double final_rate = 0.3;
  double beta1 = 0.5, beta2 = 0.99;
  double settled = 0.02;  // nats of a whole answer
  int64_t shown = 3;      // examples of a fact in a step at most
  bool low_precision = true;
  bool reference = false;
  // Facts are solved in groups whose prompts' keys and values stay below so many bytes.
  int64_t cache_bytes = int64_t{128} << 20;
};

struct FactValues {
  std::vector<int64_t> first;     // [F + 1]: rows of each fact
  std::vector<uint16_t> vectors;  // [first.back(), d] bfloat16 bits
  std::vector<uint8_t> exact;     // by example: said exactly with the vectors as stored
  std::vector<uint8_t> before;    // the same without any
  int64_t steps = 0;              // examples shown, over all steps
  int64_t tokens = 0;             // passed forward and backward
};

// Zeros, as many as the answers of examples ask for.
FactValues no_values(std::span<const FactExample> examples, int64_t facts, const FactSites& sites,
                     int64_t width);

// `examples` ascending by fact, facts from 0 to `facts`. Throws kInterrupted.
FactValues solve_fact_values(const Transformer& net, std::span<const FactExample> examples,
                             int64_t facts, const FactSites& sites, const FactValueOptions& options,
                             const Reporter& reporter);

// Whether examples are said exactly with these values.
std::vector<uint8_t> said_exactly(const Transformer& net, std::span<const FactExample> examples,
                                  const FactSites& sites, const FactValues& values,
                                  const FactValueOptions& options, const Reporter& reporter);

}  // namespace accrete
