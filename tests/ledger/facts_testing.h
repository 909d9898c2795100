// Updates of facts for tests: texts as given, keys and values of any numbers.
#pragma once

#include <string>
#include <vector>

#include "base/rng.h"
#include "ledger/update_file.h"

namespace accrete::testing {

inline TaughtItem fact_item(const std::string& subject, const std::vector<std::string>& wordings,
                            const std::string& answer) {
  TaughtItem item;
  item.subject = subject;
  item.prompts = wordings;
  item.answers = {answer};
  return item;
}

inline TaughtItem left_item(const std::string& subject, const std::vector<std::string>& wordings) {
  TaughtItem item;
  item.subject = subject;
  item.prompts = wordings;
  item.leave = true;
  return item;
}

// Facts with random keys and `vectors[i % n]` random value vectors each.
inline Update facts_update(uint64_t seed, std::vector<TaughtItem> items,
                           const std::vector<int32_t>& vectors = {3, 4, 0}, int64_t width = 5,
                           int64_t key_width = 7) {
  Rng rng(seed, 91);
  Update update;
  UpdateFacts& facts = update.facts;
  facts.width = width;
  facts.key_width = key_width;
  const auto key = [&](std::vector<int8_t>& to, std::vector<float>& scales) {
    std::vector<float> v(static_cast<size_t>(key_width));
    for (float& x : v) x = static_cast<float>(rng.normal());
    std::vector<int8_t> k(v.size());
    scales.push_back(quantize_key(v.data(), key_width, k.data()));
    to.insert(to.end(), k.begin(), k.end());
  };
  for (size_t i = 0; i < items.size(); ++i) {
    items[i].line = static_cast<int64_t>(i) + 1;
    for (size_t p = 0; p < items[i].prompts.size(); ++p) {
      key(facts.whole, facts.scales);
      key(facts.masked, facts.scales);
    }
    key(facts.answers, facts.answer_scales);
    const bool none = items[i].leave || items[i].verbatim;
    facts.vectors.push_back(none ? 0 : vectors[i % vectors.size()]);
    for (int64_t v = 0; v < facts.vectors.back() * width; ++v)
      facts.values.push_back(static_cast<uint16_t>(0x3F00 + rng.below(0x100)));  // about 0.5 to 1
  }
  update.taught.items = std::move(items);
  update.metadata = {{"seed", std::to_string(seed)}, {"method", "questions+value"}};
  return update;
}

}  // namespace accrete::testing
