// Scoring: what the model would say, token by token, without generating it.
//
// An example is exact when every label is the model's first choice given the tokens before it; that
// is what greedy decoding would write. One forward pass scores it, with logits only where a label
// is.
//
// Non-goals: sampling, text normalisation (text_metrics.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/progress.h"
#include "model/examples.h"
#include "model/language_model.h"

namespace accrete {

struct Score {
  bool exact = false;
  double nll = 0;  // sum over the labels, in nats
  int64_t labels = 0;
  int64_t right = 0;  // labels that are the model's first choice
};

// In the order of `examples`. `stage` names it in progress reports.
std::vector<Score> score_examples(const LanguageModel& model, std::span<const Example> examples,
                                  const Reporter& reporter = {}, std::string_view stage = "score");

// Of states that are there: [n, d], those that asked_states asks for of each example, one after
// another (model/prompt_tree.h).
std::vector<Score> score_states(const LanguageModel& model, std::span<const Example> examples,
                                const at::Tensor& states);

// Share of exact ones; 0 for none.
double exact_rate(std::span<const Score> scores);

// Of a model with facts (model/fact_memory.h) an item that accepts one is asked, to the natural
// stop, and is exact when it says an answer and nothing else. Best of several accepted answers: an
// item is exact when any answer is. One value per item, for the items' first prompt (or first
// `asked` one when `use_asked`).
std::vector<Score> score_items(const LanguageModel& model, std::span<const Item> items,
                               const ExampleOptions& options, bool use_asked,
                               const Reporter& reporter = {}, std::string_view stage = "score");

// Bits per byte of texts: -log2 p(text) / bytes, windows of `window` tokens, the first token of
// each window not counted... as the sum over all windows.
double bits_per_byte(const LanguageModel& model, std::span<const std::string> texts,
                     const Reporter& reporter = {}, int64_t window = 512);

}  // namespace accrete
