// The passes that a fact's value is learned by: from the value's places to the answer's end.
//
// A value is a few vectors added to the output of one block: the first `sites` of them at the last
// tokens of the prompt, and one more at every `every`-th token of the answer. Nothing before those
// places ever changes, and below the block nothing changes at all, so both are passed once: a step
// takes the prompt's last tokens and the answer through the blocks above, some ten tokens a
// wording. What is computed is what generation computes, up to rounding.
//
// Beside the packed passes stands a readable path over whole sequences with automatic gradients
// (`reference`), for models that packed passes do not support and for tests.
//
// Non-goals: steps (fact_values.h), choosing facts (memory/fact_store.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "model/fact_sites.h"
#include "model/transformer.h"

namespace accrete {

// A prompt and what is to be said behind it, the end of the turn included.
struct FactExample {
  std::vector<int32_t> tokens;
  int64_t prompt = 0;  // tokens of the prompt, 1 <= prompt < tokens.size()
  int64_t fact = 0;    // whose value it receives
};

struct FactPassOptions {
  FactSites sites;
  bool low_precision = false;  // products in bfloat16 (packed_pass.h)
  bool reference = false;      // whole sequences, automatic gradients
  int64_t rows = 384;          // of a packed batch
};

class FactPasses {
 public:
  // `net` and `examples` must outlive it. Throws kInterrupted.
  FactPasses(const Transformer& net, std::span<const FactExample> examples,
             const FactPassOptions& options, const Reporter& reporter, std::string_view stage);
  ~FactPasses();
  FactPasses(const FactPasses&) = delete;
  FactPasses& operator=(const FactPasses&) = delete;

  // Root mean square of the block's outputs at the values' places, over all examples.
  double scale() const;

  struct Outcome {
    double nll = 0;      // sum over the labels, nats
    bool exact = false;  // every label is the first choice: what greedy decoding writes
  };
  // `vectors` [V, d] float32 on the CPU; fact f has rows first[f] to first[f + 1]. Of those
  // examples, in order; adds to `gradient` [V, d] (null: forward only) that of the sum of nll,
  // without the examples whose nll is at most `settled`.
  std::vector<Outcome> run(std::span<const int64_t> which, const at::Tensor& vectors,
                           std::span<const int64_t> first, at::Tensor* gradient, double settled = 0,
                           bool exactly = false);

 private:
  struct Packed;
  std::vector<Outcome> run_reference(std::span<const int64_t> which, const at::Tensor& vectors,
                                     std::span<const int64_t> first, at::Tensor* gradient);

  const Transformer& net_;
  std::span<const FactExample> examples_;
  FactPassOptions options_;
  std::unique_ptr<Packed> packed_;  // null: reference
  double scale_ = 0;
};

}  // namespace accrete
