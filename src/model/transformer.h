// A decoder-only transformer of the Llama family: weights, forward pass, key/value cache.
//
// accrete never trains the weights: gradients flow through the network only from where a caller
// adds something that requires them (a memory layer's output), and never below the lowest such
// block. The baselines (bench/baselines) do: they replace the weights of a copy in memory by
// tensors that require gradients, or give linear layers a low-rank branch. The folder never
// changes.
//
// Non-goals: sampling (generate.h), memory layers beside an FFN (they enter through `FfnSide`; only
// one in place of an FFN is part of the base), other families.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "model/config.h"
#include "model/memory_ffn.h"

namespace accrete {

// Keys and values of the positions seen so far; grows in steps.
struct KvCache {
  std::vector<at::Tensor> k, v;  // per block [B, kv_heads, capacity, head_dim]
  int64_t length = 0;

  // The same cache for `rows` copies of a batch of one (a shared prompt prefix).
  KvCache repeated(int64_t rows) const;
  // A copy of its first `n` positions.
  KvCache first(int64_t n) const;
};

// What block `block`'s memory layer adds to the FFN's output, given the FFN's input x [B, T, d]
// (after the norm). An undefined tensor adds nothing.
using FfnSide = std::function<at::Tensor(int64_t block, const at::Tensor& x)>;

struct ForwardOptions {
  at::Tensor positions;  // [B, T] int64; undefined: cache length, + 1, ...
  at::Tensor key_mask;   // [B, S] bool, false: padding that nobody attends to; undefined: none
  KvCache* cache = nullptr;
  const FfnSide* side = nullptr;
};

class CodedMatrix;
class CodedWeights;

// y = x W^T + bias; where `a` is defined + scale (x A^T) B^T, a low-rank branch (LoRA, Hu et al.
// 2021).
struct Linear {
  at::Tensor weight, bias;  // [out, in]; [out] or undefined
  at::Tensor a, b;          // [rank, in], [out, rank]; undefined: no branch
  double scale = 1;
  std::shared_ptr<const CodedMatrix> coded;  // `weight` in few bits, or null (coded_matrix.h)

  at::Tensor operator()(const at::Tensor& x) const;
};

// A value: copies share their tensors until one of them has its own put in.
class Transformer {
 public:
  // Reads weights by memory map (float32 on the CPU: no copy). Throws kNotFound, kFormat (a missing
  // tensor or a wrong shape, by name), kUnsupported.
  static Transformer load(const std::filesystem::path& folder, at::Device device,
                          at::ScalarType dtype);

  const ModelConfig& config() const { return config_; }
  at::Device device() const { return device_; }
  at::ScalarType dtype() const { return dtype_; }

  // Token ids [B, T] int64 to embeddings [B, T, d].
  at::Tensor embed(const at::Tensor& ids) const;
  // Blocks from <= b < to on h [B, T, d]; causal, right padding needs no mask.
  at::Tensor run(at::Tensor h, int64_t from, int64_t to, const ForwardOptions& options = {}) const;
  const at::Tensor& final_norm() const { return final_norm_; }  // [d]
  const at::Tensor& head() const {
    return head_.defined() ? head_ : embedding_;
  }  // [vocabulary, d]
  // Final norm and head: [..., d] to [..., vocabulary].
  at::Tensor logits(const at::Tensor& h) const;
  // embed, run over all blocks, logits of every position.
  at::Tensor forward(const at::Tensor& ids, const ForwardOptions& options = {}) const;

  // Calls f for every weight by its name in the checkpoint (a tied head is the embedding and comes
  // once), and for the linear layers of the blocks by their module names, in a fixed order. What f
  // puts in is what this copy computes with from then on.
  void each_weight(const std::function<void(const std::string& name, at::Tensor& weight)>& f);
  void each_linear(const std::function<void(const std::string& name, Linear& linear)>& f);

  // Every tensor of the checkpoint by its name in the file, sorted: what a digest covers, whatever
  // each_weight has replaced.
  std::vector<const TensorView*> base_tensors() const;

 private:
  friend class PackedPass;  // the same blocks for packed rows (packed_pass.h)
  friend class StepPass;    // the same blocks for one token of many texts (step_pass.h)
  struct Block {
    at::Tensor attention_norm, ffn_norm;
    Linear q, k, v, o;
    at::Tensor q_norm, k_norm;        // [head_dim], of every head; undefined: none
    Linear gate, up, down;            // without weights where there is a memory instead
    std::optional<MemoryFfn> memory;  // in place of the FFN
  };
  at::Tensor ffn(const Block& block, const at::Tensor& x) const;
  at::Tensor attention(const Block& block, size_t index, const at::Tensor& x, const at::Tensor& cos,
                       const at::Tensor& sin, const ForwardOptions& options) const;

  ModelConfig config_;
  at::Device device_ = at::kCPU;
  at::ScalarType dtype_ = at::kFloat;
  std::shared_ptr<ShardedSafetensors> files_;  // keeps the maps alive
  std::shared_ptr<const CodedWeights> codes_;  // likewise
  at::Tensor embedding_, final_norm_;
  at::Tensor head_;  // undefined: tied to the embedding
  std::shared_ptr<const CodedMatrix> coded_head_;
  at::Tensor rope_cos_, rope_sin_;  // [positions, head_dim / 2]
  std::vector<Block> blocks_;
};

// Padded tokens of a pass: `on_cpu` there; on a device few large passes are faster than many small
// ones.
int64_t tokens_a_pass(const Transformer& net, int64_t on_cpu);

// RMSNorm(x) = x / sqrt(mean(x^2) + eps) * weight, computed in float32.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

}  // namespace accrete
