// What one teach takes: the items of its set, and behind them the companions that are learned along
// (earlier.h).
//
// Non-goals: reading files (io/dataset.h).
#pragma once

#include <cstdint>
#include <vector>

#include "io/dataset.h"
#include "model/examples.h"
#include "model/language_model.h"

namespace accrete {

struct Lessons {
  std::vector<Item> items;
  std::vector<bool> raw;  // of each: prompts as they are, without the chat template
  int64_t own = 0;        // items of the set itself

  ExampleOptions example_options(size_t item) const;
  // One example a phrasing of each; `item` counts in `items`.
  std::vector<Example> examples(const LanguageModel& model) const;
};

}  // namespace accrete
