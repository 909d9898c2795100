// Generation: batched, with a key/value cache, streaming.
//
// Non-goals: beam search, speculative decoding.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "model/fact_sites.h"
#include "model/language_model.h"

namespace accrete {

struct GenerateOptions {
  int64_t max_tokens = 256;
  double temperature = 0;         // 0: greedy
  int64_t top_k = 0;              // 0: off
  double top_p = 1;               // nucleus: smallest set of at least this probability
  double min_p = 0;               // drop tokens below min_p times the best one's probability
  double repetition_penalty = 1;  // divides positive and multiplies negative logits of seen tokens
  std::vector<std::string> stop;  // the text ends before the first of these
  uint64_t seed = 0;
  bool recital = true;  // false: no answer is brought back (Recital), to measure what values say
};

struct Generation {
  std::string text;
  std::vector<int32_t> tokens;  // without the ending token
  std::string finish_reason;    // "stop" or "length"
  bool brought_back = false;    // it went astray from the answer that it had begun (Recital)
};

// What becomes of an answer that begins as what was taught, its first token at least, and goes
// astray from there ("31 grams" for 310 grams).
enum class Recital {
  kFree,   // nothing
  kWords,  // no word or number is left half said: "310" goes on with what was taught
  kWhole,  // it is said to its end and ends there
};

// The value of a fact that one prompt is answered by: `vectors` at their places (fact_sites.h),
// those within the answer while what is written is what was taught.
struct FactUse {
  FactSites sites;
  at::Tensor vectors;           // [V, d] float32 on the CPU; undefined: none
  std::vector<int32_t> answer;  // what was taught, its end included
  Recital recital = Recital::kFree;
};

// Called with the index of the prompt and the text that became final.
using StreamFn = std::function<void(size_t index, std::string_view text)>;

// Continues every prompt (token ids, at least one each). What all of them begin with is passed
// once. `facts`, one a prompt or none at all, are what prompts are answered by. The result of a
// prompt does not depend on the others but for rounding. Throws kInvalidArgument (empty prompt,
// impossible options, prompt longer than the model's positions).
std::vector<Generation> generate(const LanguageModel& model,
                                 std::span<const std::vector<int32_t>> prompts,
                                 const GenerateOptions& options, const StreamFn& stream = nullptr,
                                 const Reporter& reporter = {},
                                 std::span<const FactUse> facts = {});

}  // namespace accrete
