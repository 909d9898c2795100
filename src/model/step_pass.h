// One more token of many texts at once, each behind a past of its own.
//
// The texts have nothing to do with each other: other lengths, other facts, other states of one
// network. What comes out for a text is the same, bit for bit, alone and beside any others, and in
// a model with codes (coded_matrix.h) what Transformer::run gives for it alone: every product sums
// a row in the order in which it is summed alone, whatever rows are beside it. That costs what
// docs/server.md says against products that may sum by the number of rows.
//
// On the CPU in float32 only.
//
// Non-goals: prompts (step_loop.h passes them by Transformer::run), sampling, gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>

#include "model/transformer.h"

namespace accrete {

class StepPass {
 public:
  static bool supports(const Transformer& net);
  // `net` must outlive it. Throws kUnsupported.
  explicit StepPass(const Transformer& net);

  struct Row {
    int32_t token = 0;
    KvCache* cache = nullptr;  // of one text; it grows by the token
  };
  // May add to what block `block`'s FFN gives, y [N, d] in place, for its input x [N, d].
  using Add = std::function<void(int64_t block, const at::Tensor& x, at::Tensor& y)>;
  // Logits [N, vocabulary]. Call it under InferenceMode or NoGradGuard. Throws kInvalidArgument
  // when a text has no position left; then nothing has changed.
  at::Tensor run(std::span<const Row> rows, const Add* add = nullptr);

 private:
  at::Tensor product(const at::Tensor& x, const Linear& linear);
  void attend(size_t block, std::span<const Row> rows, const at::Tensor& q, const at::Tensor& k,
              const at::Tensor& v, at::Tensor& out);

  const Transformer& net_;
  at::Tensor no_bias_;        // zeros, as many as a product has columns
  at::Tensor probabilities_;  // of attention
};

}  // namespace accrete
