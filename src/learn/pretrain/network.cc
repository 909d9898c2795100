#include "learn/pretrain/network.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/format.h"
#include "learn/pretrain/functions.h"
#include "learn/pretrain/row_ops.h"
#include "memory/learned_lookup.h"
#include "memory/random_tensors.h"
#include "memory/sparse_rows.h"

namespace accrete {
namespace {

constexpr double kQueryEps = 1e-5;
constexpr double kQueryMomentum = 0.01;  // the running statistics are those of some 100 passes
constexpr int64_t kHeadRows = 512;       // whose logits are there at a time
constexpr int64_t kHeadRowsCuda = 16384;

}  // namespace

struct TrainingNetwork::Read {
  Accesses accesses;
  at::Tensor value;  // what the tokens got
};

TrainingNetwork::TrainingNetwork(const PretrainConfig& config, int64_t vocabulary, const Rng& rng,
                                 at::Device device)
    : config_(config.model),
      options_(config.keys),
      device_(device),
      query_norm_(config.query_norm),
      bfloat16_(config.bfloat16),
      half_between_(bfloat16_ && device.is_cuda()) {
  const ModelConfig& c = config_;
  const int64_t d = c.width, D = c.head_dim, H = options_.heads, w = options_.query_width;
  const int64_t rows = (c.heads + 2 * c.kv_heads) * D;
  uint64_t count = 0;
  std::vector<Rng> streams;
  for (int64_t i = 0; i < 4 + 4 * c.blocks; ++i) streams.push_back(rng.split(count++));
  size_t stream = 0;
  // Inputs keep their size; what joins the residual is smaller the more blocks add to it.
  const auto matrix = [&](int64_t out, int64_t in, double scale = 1) {
    return random_normal({out, in}, scale / std::sqrt(static_cast<double>(in)), streams[stream++]);
  };
  const double residual = 1 / std::sqrt(2.0 * static_cast<double>(c.blocks));

  embedding_ = add(
      "embedding",
      random_normal({vocabulary, d}, 0.55 / std::sqrt(static_cast<double>(d)), streams[stream++]),
      false);
  for (int64_t b = 0; b < c.blocks; ++b) {
    const std::string p = accrete::format("block.{}.", b);
    Block block;
    block.attention_norm = add(p + "attention_norm", at::ones({d}), false);
    block.qkv = add(p + "qkv", matrix(rows, d), true);
    block.out = add(p + "out", matrix(d, c.heads * D, residual), true);
    block.ffn_norm = add(p + "ffn_norm", at::ones({d}), false);
    if (c.memory->block == b) {
      projection_ = add("memory.projection", matrix(H * w, d), true);
      keys_ = add("memory.keys",
                  random_uniform({H, 2, options_.half_keys, w / 2},
                                 std::sqrt(2.0 / static_cast<double>(w)), streams[stream++]),
                  false);
    } else {
      block.gate_up = add(p + "gate_up", matrix(2 * c.ffn_width, d), true);
      block.down = add(p + "down", matrix(d, c.ffn_width, residual), true);
    }
    blocks_.push_back(block);
  }
  final_norm_ = add("final_norm", at::ones({d}), false);
  values_ = random_normal({H * options_.half_keys * options_.half_keys, d},
                          1 / std::sqrt(static_cast<double>(d)), streams[stream++])
                .to(device);
  query_mean_ = at::zeros({H * w}, values_.options());
  query_variance_ = at::ones({H * w}, values_.options());
  half_.resize(parameters_.size());

  const auto exponent = at::arange(0, D, 2, at::kFloat) / static_cast<double>(D);
  const auto inverse = 1.0 / at::pow(at::Scalar(c.rope_theta), exponent);
  const auto angle = at::outer(at::arange(c.max_positions, at::kFloat), inverse.to(at::kFloat));
  cos_ = angle.cos().to(device);
  sin_ = angle.sin().to(device);
  begin_step();
}

size_t TrainingNetwork::add(std::string name, at::Tensor value, bool decays) {
  const bool addresses = name == "memory.projection" || name == "memory.keys";
  parameters_.push_back(
      {std::move(name), value.to(device_).set_requires_grad(true), decays, addresses});
  return parameters_.size() - 1;
}

void TrainingNetwork::begin_step() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor& gradient = parameters_[i].value.mutable_grad();
    if (gradient.defined())
      gradient.zero_();
    else
      gradient = at::zeros_like(parameters_[i].value);
    // Queries and keys decide which slots are read, and cost little: in float32.
    if (bfloat16_ && parameters_[i].value.dim() == 2 && i != projection_)
      half_[i] = parameters_[i].value.to(at::kBFloat16);
  }
}

at::Tensor TrainingNetwork::times(const at::Tensor& x, size_t i, bool half_out) const {
  return pretraining::multiply(x, weight(i), half_[i], half_out);
}

at::Tensor TrainingNetwork::attention(const Block& block, const at::Tensor& x,
                                      int64_t sequences) const {
  const ModelConfig& c = config_;
  const int64_t B = sequences, T = x.size(0) / B, D = c.head_dim, G = c.heads / c.kv_heads;
  const auto parts =
      pretraining::rotate_split(times(x, block.qkv, half_between_), cos_.narrow(0, 0, T),
                                sin_.narrow(0, 0, T), c.heads, c.kv_heads);
  const auto split = [&](at::Tensor y, int64_t heads) {
    if (bfloat16_) y = y.to(at::kBFloat16);        // where it is not
    y = y.view({B, T, heads, D}).transpose(1, 2);  // [B, heads, T, D]
    if (heads < c.heads) y = y.unsqueeze(2).expand({B, heads, G, T, D}).reshape({B, c.heads, T, D});
    return y;
  };
  auto y = at::scaled_dot_product_attention(split(parts.q, c.heads), split(parts.k, c.kv_heads),
                                            split(parts.v, c.kv_heads), std::nullopt, 0.0,
                                            /*is_causal=*/true);
  return times(y.transpose(1, 2).reshape({B * T, c.heads * D}), block.out);
}

at::Tensor TrainingNetwork::memory(const at::Tensor& x, Read* read) const {
  auto q = times(x, projection_);
  if (query_norm_) {
    auto mean = query_mean_, variance = query_variance_;  // changed in place while training
    q = at::batch_norm(q, {}, {}, mean, variance, /*training=*/read != nullptr, kQueryMomentum,
                       kQueryEps, /*cudnn_enabled=*/false);
  }
  const auto accesses = learned_lookup(q, weight(keys_), {}, options_.top_k);
  auto y = weighted_gather(values_, accesses.slots, accesses.weights);
  if (read != nullptr) {
    y.retain_grad();
    *read = {accesses, y};
  }
  return y;
}

at::Tensor TrainingNetwork::run(const at::Tensor& ids, Read* read) const {
  const int64_t B = ids.size(0);
  auto h = at::embedding(weight(embedding_), ids.reshape({-1}));
  for (size_t b = 0; b < blocks_.size(); ++b) {
    const Block& block = blocks_[b];
    const auto normed = [&](size_t by, bool half) {
      return pretraining::norm(h, weight(by), config_.norm_eps, half);
    };
    h = h + attention(block, normed(block.attention_norm, half_between_), B);
    if (static_cast<int64_t>(b) == config_.memory->block)
      h = h + memory(normed(block.ffn_norm, false), read);
    else
      h = h + times(pretraining::swiglu(
                        times(normed(block.ffn_norm, half_between_), block.gate_up, half_between_)),
                    block.down);
  }
  return pretraining::norm(h, weight(final_norm_), config_.norm_eps);
}

// The loss of hidden states [T, d], by pieces: all logits together would be the largest tensor by
// far. Adds to the embedding's gradient; `gradient` becomes that of the hidden states.
double TrainingNetwork::head(const at::Tensor& hidden, const at::Tensor& labels, double share,
                             at::Tensor& gradient) {
  const at::NoGradGuard no_grad;
  const int64_t T = hidden.size(0), piece = device_.is_cpu() ? kHeadRows : kHeadRowsCuda;
  const auto by = bfloat16_ ? half_[embedding_] : weight(embedding_).detach();
  const auto from = hidden.detach().to(by.scalar_type());
  gradient = at::empty_like(hidden);
  std::vector<at::Tensor> losses;
  auto& total = parameters_[embedding_].value.mutable_grad();
  for (int64_t first = 0; first < T; first += piece) {
    const int64_t n = std::min(piece, T - first);
    const auto rows = from.narrow(0, first, n);
    auto logits = at::mm(rows, by.t());
    if (device_.is_cpu()) logits = logits.to(at::kFloat);
    losses.push_back(pretraining::cross_entropy_rows(logits, labels.narrow(0, first, n),
                                                     static_cast<float>(share)));
    const auto g = logits.to(by.scalar_type());
    gradient.narrow(0, first, n).copy_(pretraining::product(g, by));
    total.add_(pretraining::product(g.t(), rows));
  }
  // On the CPU, so that the sum's order is one.
  const auto all = at::cat(losses).cpu();
  double sum = 0;
  for (int64_t t = 0; t < T; ++t) sum += static_cast<double>(all.const_data_ptr<float>()[t]);
  return sum;
}

double TrainingNetwork::pass(const at::Tensor& ids, const at::Tensor& labels, double share,
                             Reads& reads) {
  const at::AutoGradMode grad_mode(true);
  Read read;
  const auto h = run(ids.to(device_), &read);
  at::Tensor gradient;
  const double loss = head(h, labels.reshape({-1}).to(device_).contiguous(), share, gradient);
  torch::autograd::backward({h}, {gradient});
  reads.slots.push_back(read.accesses.slots);
  reads.weights.push_back(read.accesses.weights.detach());
  reads.gradients.push_back(read.value.grad());
  return loss;
}

at::Tensor TrainingNetwork::hidden(const at::Tensor& ids) const {
  const at::NoGradGuard no_grad;
  return run(ids.to(device_), nullptr);
}

at::Tensor TrainingNetwork::logits(const at::Tensor& hidden) const {
  const at::NoGradGuard no_grad;
  return at::mm(hidden.reshape({-1, hidden.size(-1)}), weight(embedding_).t());
}

std::vector<std::pair<std::string, at::Tensor>> TrainingNetwork::model_tensors() const {
  const at::NoGradGuard no_grad;
  const ModelConfig& c = config_;
  const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  std::vector<std::pair<std::string, at::Tensor>> out;
  const auto put = [&](const std::string& name, const at::Tensor& t) {
    out.emplace_back(name, t.detach().cpu().contiguous());
  };
  put("model.embed_tokens.weight", weight(embedding_));
  for (size_t b = 0; b < blocks_.size(); ++b) {
    const Block& block = blocks_[b];
    const std::string p = accrete::format("model.layers.{}.", b);
    put(p + "input_layernorm.weight", weight(block.attention_norm));
    put(p + "self_attn.q_proj.weight", weight(block.qkv).narrow(0, 0, q));
    put(p + "self_attn.k_proj.weight", weight(block.qkv).narrow(0, q, kv));
    put(p + "self_attn.v_proj.weight", weight(block.qkv).narrow(0, q + kv, kv));
    put(p + "self_attn.o_proj.weight", weight(block.out));
    put(p + "post_attention_layernorm.weight", weight(block.ffn_norm));
    if (c.memory->block != static_cast<int64_t>(b)) {
      put(p + "mlp.gate_proj.weight", weight(block.gate_up).narrow(0, 0, c.ffn_width));
      put(p + "mlp.up_proj.weight", weight(block.gate_up).narrow(0, c.ffn_width, c.ffn_width));
      put(p + "mlp.down_proj.weight", weight(block.down));
      continue;
    }
    // (P x - m) / s scored against a key is P x / s against it, less m / s against it.
    const int64_t H = options_.heads, half = options_.query_width / 2;
    auto projection = weight(projection_),
         bias = at::zeros({H, 2, options_.half_keys}, values_.options());
    if (query_norm_) {
      const auto inverse = at::rsqrt(query_variance_ + kQueryEps);
      projection = projection * inverse.unsqueeze(1);
      const auto offset = (query_mean_ * inverse).view({H, 2, half, 1});
      bias = at::matmul(weight(keys_), offset).squeeze(-1).neg();
    }
    put(p + "memory.projection", projection.t());
    put(p + "memory.keys", weight(keys_));
    put(p + "memory.bias", bias);
    put(p + "memory.values", values_);
  }
  put("model.norm.weight", weight(final_norm_));
  return out;
}

}  // namespace accrete
