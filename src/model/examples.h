// Examples: items of a teach set, a probe or a question file as token sequences with labels.
//
// A fact becomes one example per phrasing: the prompt (in the chat template unless raw), then its
// completion, whose tokens are the labels. Messages: the labels are the assistant's turns. Text:
// every token but the first, in windows.
//
// Non-goals: reading files (io/dataset.h), scoring (measure/), teaching (learn/).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/dataset.h"
#include "model/language_model.h"

namespace accrete {

struct Example {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> label;    // per token: 1 if it is to be predicted (never the first)
  std::vector<uint8_t> subject;  // per token: 1 inside the subject's span; all 0 when none is known
  int64_t item = 0;              // index into the items
  int64_t phrasing = 0;          // index into the item's prompts
};

struct ExampleOptions {
  bool raw = false;
  int64_t window = 512;  // tokens of a text example
  std::string prefix;    // put before every raw prompt (few-shot demonstrations)
};

// One prompt with one completion. `subject` may be empty. Throws kInvalidArgument when nothing is
// left to predict.
Example make_example(const LanguageModel& model, const std::string& prompt,
                     const std::string& completion, const std::string& subject,
                     const ExampleOptions& options);

// Every example of every item, in order. Errors name the item's line.
std::vector<Example> make_examples(const LanguageModel& model, std::span<const Item> items,
                                   const ExampleOptions& options);

// The tokens of the prompt alone, as `ask` would give them to the model.
std::vector<int32_t> encode_prompt(const LanguageModel& model, const std::string& prompt,
                                   const ExampleOptions& options);

// A right-padded batch. The last token of an example is only ever a label, so T is one less than
// the longest.
struct Batch {
  at::Tensor ids;        // [B, T] int64, padded with 0
  at::Tensor mask;       // [B, T] bool: a real input token
  at::Tensor positions;  // [L] int64: flat index b T + t of every position that predicts a label
  at::Tensor labels;     // [L] int64: the token it must predict
  at::Tensor owner;      // [L] int64: index in the batch of the example it belongs to
  at::Tensor subject;    // [B, T] bool
  std::vector<int64_t> examples;  // [B] index of each example
};

// Batches of at most `tokens` padded tokens each, examples sorted by length (stable): little
// padding, and a fixed order.
std::vector<Batch> make_batches(std::span<const Example> examples, int64_t tokens);
// The same for some of the examples.
std::vector<Batch> make_batches(std::span<const Example> examples, std::vector<int64_t> which,
                                int64_t tokens);
Batch make_batch(std::span<const Example> examples, std::span<const int64_t> which);

}  // namespace accrete
