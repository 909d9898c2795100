#include "learn/lessons.h"

namespace accrete {

ExampleOptions Lessons::example_options(size_t item) const {
  ExampleOptions options;
  options.raw = raw[item];
  return options;
}

std::vector<Example> Lessons::examples(const LanguageModel& model) const {
  std::vector<Example> out;
  for (size_t i = 0; i < items.size(); ++i)
    for (Example& e : make_examples(model, {&items[i], 1}, example_options(i))) {
      e.item = static_cast<int64_t>(i);
      out.push_back(std::move(e));
    }
  return out;
}

}  // namespace accrete
