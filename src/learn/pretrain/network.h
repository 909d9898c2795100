// The network while it is trained: every weight and the memory's value table, forward and backward.
//
// The same function as Transformer (model/transformer.h) of the folder that is written in the end.
// Two things are different while it trains: weights that multiply the same input lie in one matrix,
// and the memory's queries are normalised over a batch's tokens, which in the written model is
// folded into projection and bias.
//
// The value table has no gradient of its size: a pass leaves what its tokens read and the gradient
// of what they got, and the step makes of it the gradient of the rows that were read.
//
// Everything lies on one device, the CPU or a CUDA one; random numbers are always drawn on the CPU,
// so that both begin from the same weights.
//
// Non-goals: generation, padding, several devices.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/rng.h"
#include "learn/pretrain/config.h"

namespace accrete {

class TrainingNetwork {
 public:
  // Every parameter has a random stream of its own, all made from `rng` before any is filled.
  TrainingNetwork(const PretrainConfig& config, int64_t vocabulary, const Rng& rng,
                  at::Device device = at::kCPU);
  at::Device device() const { return values_.device(); }

  struct Parameter {
    std::string name;  // of checkpoints
    at::Tensor value;  // float32; its grad() is what the passes since begin_step() summed
    bool decays = true;
    bool addresses = false;  // the memory's queries and keys, which have a rate of their own
  };
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const at::Tensor& values() const { return values_; }  // [N, d]
  // Running mean and variance of the queries, [heads * query_width].
  const at::Tensor& query_mean() const { return query_mean_; }
  const at::Tensor& query_variance() const { return query_variance_; }

  // What the passes of a step read from the memory, and what it did to the loss.
  struct Reads {
    std::vector<at::Tensor> slots, weights, gradients;  // [T, K], [T, K], [T, d] of each pass
  };
  // Clears the gradients; weights were changed.
  void begin_step();
  // Forward and backward of `share` times the summed loss for ids, labels [B, T] int64. Returns the
  // loss in nats, summed. Adds to the parameters' gradients and to `reads`.
  double pass(const at::Tensor& ids, const at::Tensor& labels, double share, Reads& reads);

  // Without gradients and with the running statistics: final hidden states, [B T, d], and their
  // logits, [.., vocabulary].
  at::Tensor hidden(const at::Tensor& ids) const;
  at::Tensor logits(const at::Tensor& hidden) const;

  // The model's tensors under the names of its checkpoint (docs/formats.md), on the CPU.
  std::vector<std::pair<std::string, at::Tensor>> model_tensors() const;

 private:
  struct Block {
    size_t attention_norm = 0, qkv = 0, out = 0, ffn_norm = 0;
    size_t gate_up = 0, down = 0;  // of a block with an FFN
  };
  size_t add(std::string name, at::Tensor value, bool decays);
  const at::Tensor& weight(size_t i) const { return parameters_[i].value; }
  at::Tensor times(const at::Tensor& x, size_t i, bool half_out = false) const;
  at::Tensor attention(const Block& block, const at::Tensor& x, int64_t sequences) const;
  // Fills `read` where gradients are wanted.
  struct Read;
  at::Tensor memory(const at::Tensor& x, Read* read) const;
  at::Tensor run(const at::Tensor& ids, Read* read) const;
  double head(const at::Tensor& hidden, const at::Tensor& labels, double share,
              at::Tensor& gradient);

  const ModelConfig config_;
  const ProductKeyOptions options_;
  const at::Device device_;
  const bool query_norm_, bfloat16_;
  const bool
      half_between_;  // bfloat16 between the products of a block too: the CUDA kernels take it
  std::vector<Parameter> parameters_;
  std::vector<at::Tensor> half_;  // of each parameter in bfloat16; undefined: none
  std::vector<Block> blocks_;
  size_t embedding_ = 0, final_norm_ = 0, projection_ = 0, keys_ = 0;
  at::Tensor values_, query_mean_, query_variance_;
  at::Tensor cos_, sin_;  // [positions, head_dim / 2]
};

}  // namespace accrete
