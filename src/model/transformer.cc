#include "model/transformer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/format.h"
#include "base/pages.h"
#include "model/coded_matrix.h"
#include "model/fused.h"

namespace accrete {
namespace {

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return at::kDouble;
    case DType::kF32:
      return at::kFloat;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    default:
      throw Error(ErrorCode::kUnsupported,
                  accrete::format("weights of type {} are not supported", dtype_name(dtype)),
                  "save the model as float32, float16 or bfloat16");
  }
}

// silu(gate) * up; gate is used up.
at::Tensor swiglu_of(const at::Tensor& gate, const at::Tensor& up) {
  return fused_applies(gate) && fused_applies(up) ? fused_swiglu(gate, up) : at::silu(gate) * up;
}

// A tensor over the map's bytes. Reading only: the map is private and read-only.
at::Tensor from_map(const TensorView& view) {
  return at::from_blob(const_cast<std::byte*>(view.bytes.data()), view.shape,
                       at::TensorOptions().dtype(scalar_type(view.dtype)));
}

struct Loader {
  const ShardedSafetensors& files;
  at::Device device;
  at::ScalarType dtype;
  std::string folder;

  at::Tensor get(const std::string& name, std::vector<int64_t> shape, bool required = true) const {
    const TensorView* view = files.find(name);
    if (view == nullptr) {
      if (!required) return {};
      throw Error(ErrorCode::kFormat,
                  accrete::format("{}: the tensor `{}` is missing", folder, name),
                  "is the model complete, and of the architecture its config.json names?");
    }
    if (view->shape != shape)
      throw Error(
          ErrorCode::kFormat,
          accrete::format("{}: `{}` has shape [{}], config.json asks for [{}]", folder, name,
                          accrete::joined(view->shape, ", "), accrete::joined(shape, ", ")));
    return from_map(*view).to(device, dtype);
  }
};

MemoryFfn load_memory_ffn(Loader loader, const NativeMemory& m, int64_t width) {
  loader.dtype = at::kFloat;  // what the lookup and the value read compute in
  const std::string p = accrete::format("model.layers.{}.memory.", m.block);
  MemoryFfn ffn;
  ffn.options.heads = m.heads;
  ffn.options.half_keys = m.half_keys;
  ffn.options.top_k = m.top_k;
  ffn.options.query_width = m.query_width;
  ffn.projection = loader.get(p + "projection", {width, m.heads * m.query_width});
  ffn.keys = loader.get(p + "keys", {m.heads, 2, m.half_keys, m.query_width / 2});
  ffn.bias = loader.get(p + "bias", {m.heads, 2, m.half_keys});
  const TensorView* table = loader.files.find(p + "values");
  // In bfloat16 it stays as the file has it.
  if (loader.device.is_cpu() && table != nullptr && table->dtype == DType::kBF16)
    loader.dtype = at::kBFloat16;
  ffn.values = loader.get(p + "values", {m.heads * m.half_keys * m.half_keys, width});
  // Of a large table a pass reads few rows. What the system reads ahead would drive out what is
  // read again.
  constexpr size_t kLarge = size_t{1} << 27;
  if (ffn.values.const_data_ptr() == table->bytes.data() && table->bytes.size() > kLarge)
    read_at_random(table->bytes);
  ffn.renew();
  return ffn;
}

// Rotates pairs (x_i, x_{i + D/2}): the "rotate half" layout of Hugging Face checkpoints.
// x is used up.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  if (fused_applies(x)) {
    fused_rotate(x, cos, sin);
    return x;
  }
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1);
}

}  // namespace

at::Tensor Linear::operator()(const at::Tensor& x) const {
  at::Tensor y;
  if (coded && coded->applies(x)) {
    y = coded->product(x);
    if (bias.defined()) y.add_(bias);
  } else {
    y = at::linear(x, weight, bias);
  }
  return a.defined() ? y + at::linear(at::linear(x, a), b) * scale : y;
}

KvCache KvCache::repeated(int64_t rows) const {
  KvCache copy;
  copy.length = length;
  for (size_t b = 0; b < k.size(); ++b) {
    copy.k.push_back(k[b].narrow(2, 0, length).expand({rows, -1, -1, -1}).contiguous());
    copy.v.push_back(v[b].narrow(2, 0, length).expand({rows, -1, -1, -1}).contiguous());
  }
  return copy;
}

KvCache KvCache::first(int64_t n) const {
  KvCache copy;
  copy.length = n;
  for (size_t b = 0; b < k.size(); ++b) {
    copy.k.push_back(k[b].narrow(2, 0, n).clone());
    copy.v.push_back(v[b].narrow(2, 0, n).clone());
  }
  return copy;
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  if (fused_applies(x) && fused_applies(weight)) return fused_rms_norm(x, weight, eps);
  if (x.scalar_type() == at::kFloat)
    return x * at::rsqrt(x.square().mean({-1}, /*keepdim=*/true) + eps) * weight;
  const auto f = x.to(at::kFloat);
  return (f * at::rsqrt(f.square().mean({-1}, true) + eps)).to(x.scalar_type()) * weight;
}

Transformer Transformer::load(const std::filesystem::path& folder, at::Device device,
                              at::ScalarType dtype) {
  Transformer m;
  m.config_ = ModelConfig::from_folder(folder);
  m.device_ = device;
  m.dtype_ = dtype;
  m.files_ = std::make_shared<ShardedSafetensors>(ShardedSafetensors::open(folder));
  const ModelConfig& c = m.config_;
  const Loader loader{*m.files_, device, dtype, folder.string()};
  m.codes_ = std::make_shared<const CodedWeights>(CodedWeights::open(folder));
  const bool few_bits = device.is_cpu() && dtype == at::kFloat;
  const auto coded = [&](const std::string& name) {
    return few_bits ? m.codes_->find(name, *m.files_->find(name)) : nullptr;
  };
  const int64_t q_width = c.heads * c.head_dim;
  const int64_t kv_width = c.kv_heads * c.head_dim;

  m.embedding_ = loader.get("model.embed_tokens.weight", {c.vocab_size, c.width});
  m.final_norm_ = loader.get("model.norm.weight", {c.width});
  if (!c.tied_head) m.head_ = loader.get("lm_head.weight", {c.vocab_size, c.width});
  m.coded_head_ = coded(c.tied_head ? "model.embed_tokens.weight" : "lm_head.weight");
  for (int64_t i = 0; i < c.blocks; ++i) {
    const std::string p = accrete::format("model.layers.{}.", i);
    Block b;
    b.attention_norm = loader.get(p + "input_layernorm.weight", {c.width});
    b.ffn_norm = loader.get(p + "post_attention_layernorm.weight", {c.width});
    const auto linear = [&](const std::string& module, int64_t out, int64_t in) {
      Linear l;
      l.weight = loader.get(p + module + ".weight", {out, in});
      l.bias = loader.get(p + module + ".bias", {out}, false);
      l.coded = coded(p + module + ".weight");
      return l;
    };
    b.q = linear("self_attn.q_proj", q_width, c.width);
    b.k = linear("self_attn.k_proj", kv_width, c.width);
    b.v = linear("self_attn.v_proj", kv_width, c.width);
    b.o = linear("self_attn.o_proj", c.width, q_width);
    if (c.head_norms) {
      b.q_norm = loader.get(p + "self_attn.q_norm.weight", {c.head_dim});
      b.k_norm = loader.get(p + "self_attn.k_norm.weight", {c.head_dim});
    }
    if (c.memory && c.memory->block == i) {
      b.memory = load_memory_ffn(loader, *c.memory, c.width);
    } else {
      b.gate = linear("mlp.gate_proj", c.ffn_width, c.width);
      b.up = linear("mlp.up_proj", c.ffn_width, c.width);
      b.down = linear("mlp.down_proj", c.width, c.ffn_width);
    }
    m.blocks_.push_back(std::move(b));
  }

  // As transformers computes them: float32 frequencies, angles and functions of them.
  const auto exponent = at::arange(0, c.head_dim, 2, at::kFloat) / static_cast<double>(c.head_dim);
  auto inverse = 1.0 / at::pow(at::Scalar(c.rope_theta), exponent);
  if (c.rope_scaling)
    for (int64_t i = 0; i < inverse.size(0); ++i) {
      float& frequency = inverse.mutable_data_ptr<float>()[i];
      frequency = static_cast<float>((*c.rope_scaling)(frequency));
    }
  const auto angle = at::outer(at::arange(c.max_positions, at::kFloat), inverse.to(at::kFloat));
  m.rope_cos_ = angle.cos().to(device, dtype);
  m.rope_sin_ = angle.sin().to(device, dtype);
  return m;
}

at::Tensor Transformer::embed(const at::Tensor& ids) const {
  return at::embedding(embedding_, ids);
}

at::Tensor Transformer::attention(const Block& block, size_t index, const at::Tensor& x,
                                  const at::Tensor& cos, const at::Tensor& sin,
                                  const ForwardOptions& options) const {
  const int64_t B = x.size(0), T = x.size(1), D = config_.head_dim;
  const int64_t H = config_.heads, KV = config_.kv_heads, G = H / KV;
  const auto split = [&](const at::Tensor& y, int64_t heads, const at::Tensor& norm = {}) {
    auto each = y.view({B, T, heads, D});
    if (norm.defined()) each = rms_norm(each, norm, config_.norm_eps);
    return each.transpose(1, 2);  // [B, heads, T, D]
  };
  auto q = rotate(split(block.q(x), H, block.q_norm), cos, sin);
  auto k = rotate(split(block.k(x), KV, block.k_norm), cos, sin);
  auto v = split(block.v(x), KV);

  int64_t past = 0;
  if (options.cache != nullptr) {
    KvCache& cache = *options.cache;
    past = cache.length;
    const int64_t need = past + T;
    if (cache.k.size() <= index) {
      cache.k.resize(config_.blocks);
      cache.v.resize(config_.blocks);
    }
    auto grow = [&](at::Tensor& store) {
      if (store.defined() && store.size(2) >= need) return;
      auto bigger = at::empty({B, KV, need + std::max<int64_t>(64, need / 2), D}, k.options());
      if (past > 0) bigger.narrow(2, 0, past).copy_(store.narrow(2, 0, past));
      store = bigger;
    };
    grow(cache.k[index]);
    grow(cache.v[index]);
    cache.k[index].narrow(2, past, T).copy_(k);
    cache.v[index].narrow(2, past, T).copy_(v);
    k = cache.k[index].narrow(2, 0, need);
    v = cache.v[index].narrow(2, 0, need);
  }

  const int64_t S = past + T;
  at::Tensor y;
  if (T == 1 && fused_applies(q) && fused_applies(k)) {
    y = fused_decode_attention(q, k, v, options.key_mask);
  } else if (T == 1) {
    // One new position: a key/value head serves its query heads as rows, without copies of k and v.
    std::optional<at::Tensor> mask;
    if (options.key_mask.defined())
      mask = options.key_mask.view({B, 1, 1, S}).expand({B, KV, G, S});
    y = at::scaled_dot_product_attention(q.reshape({B, KV, G, D}), k, v, mask);
    y = y.reshape({B, T, H * D});
  } else {
    if (G > 1) {
      k = k.unsqueeze(2).expand({B, KV, G, S, D}).reshape({B, H, S, D});
      v = v.unsqueeze(2).expand({B, KV, G, S, D}).reshape({B, H, S, D});
    }
    if (past == 0 && !options.key_mask.defined()) {
      y = at::scaled_dot_product_attention(q, k, v, std::nullopt, 0.0, /*is_causal=*/true);
    } else {
      auto mask =
          at::ones({T, S}, at::TensorOptions().dtype(at::kBool).device(x.device())).tril(past);
      mask = mask.view({1, 1, T, S});
      if (options.key_mask.defined()) {
        mask = mask.logical_and(options.key_mask.view({B, 1, 1, S}));
        // A padded query attends to itself, so that its softmax is defined.
        mask = mask.logical_or(at::eye(S, mask.options()).narrow(0, past, T).view({1, 1, T, S}));
      }
      y = at::scaled_dot_product_attention(q, k, v, mask.expand({B, H, T, S}));
    }
    y = y.transpose(1, 2).reshape({B, T, H * D});
  }
  return block.o(y);
}

at::Tensor Transformer::ffn(const Block& block, const at::Tensor& x) const {
  return block.memory ? (*block.memory)(x) : block.down(swiglu_of(block.gate(x), block.up(x)));
}

at::Tensor Transformer::run(at::Tensor h, int64_t from, int64_t to,
                            const ForwardOptions& options) const {
  const int64_t B = h.size(0), T = h.size(1);
  const int64_t past = options.cache != nullptr ? options.cache->length : 0;
  if (past + T > config_.max_positions)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} tokens do not fit: the model has {} positions", past + T,
                                config_.max_positions),
                "shorten the text");
  at::Tensor cos, sin;
  if (options.positions.defined()) {
    const auto flat = options.positions.reshape({-1});
    cos = rope_cos_.index_select(0, flat).view({B, 1, T, -1});
    sin = rope_sin_.index_select(0, flat).view({B, 1, T, -1});
  } else {
    cos = rope_cos_.narrow(0, past, T);
    sin = rope_sin_.narrow(0, past, T);
  }
  for (int64_t i = from; i < to; ++i) {
    const Block& b = blocks_[static_cast<size_t>(i)];
    h = h + attention(b, static_cast<size_t>(i), rms_norm(h, b.attention_norm, config_.norm_eps),
                      cos, sin, options);
    const auto x = rms_norm(h, b.ffn_norm, config_.norm_eps);
    auto y = ffn(b, x);
    if (options.side != nullptr)
      if (const auto memory = (*options.side)(i, x); memory.defined()) y = y + memory;
    h = h + y;
  }
  if (options.cache != nullptr && to == config_.blocks) options.cache->length += T;
  return h;
}

at::Tensor Transformer::logits(const at::Tensor& h) const {
  const auto normed = rms_norm(h, final_norm_, config_.norm_eps);
  if (coded_head_ && coded_head_->applies(normed)) return coded_head_->product(normed);
  return at::linear(normed, head());
}

at::Tensor Transformer::forward(const at::Tensor& ids, const ForwardOptions& options) const {
  return logits(run(embed(ids), 0, config_.blocks, options));
}

void Transformer::each_weight(
    const std::function<void(const std::string& name, at::Tensor& weight)>& f) {
  const auto old_head = head();
  f("model.embed_tokens.weight", embedding_);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const std::string p = accrete::format("model.layers.{}.", i);
    f(p + "input_layernorm.weight", blocks_[i].attention_norm);
    f(p + "post_attention_layernorm.weight", blocks_[i].ffn_norm);
    if (blocks_[i].q_norm.defined()) {
      f(p + "self_attn.q_norm.weight", blocks_[i].q_norm);
      f(p + "self_attn.k_norm.weight", blocks_[i].k_norm);
    }
    if (auto& memory = blocks_[i].memory) {
      f(p + "memory.projection", memory->projection);
      f(p + "memory.keys", memory->keys);
      f(p + "memory.bias", memory->bias);
      f(p + "memory.values", memory->values);
      memory->renew();
    }
  }
  each_linear([&](const std::string& name, Linear& linear) {
    const auto old = linear.weight;
    f(name + ".weight", linear.weight);
    if (!linear.weight.is_same(old)) linear.coded.reset();
    if (linear.bias.defined()) f(name + ".bias", linear.bias);
  });
  f("model.norm.weight", final_norm_);
  if (head_.defined()) f("lm_head.weight", head_);
  if (!head().is_same(old_head)) coded_head_.reset();
}

void Transformer::each_linear(
    const std::function<void(const std::string& name, Linear& linear)>& f) {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const std::string p = accrete::format("model.layers.{}.", i);
    Block& b = blocks_[i];
    f(p + "self_attn.q_proj", b.q);
    f(p + "self_attn.k_proj", b.k);
    f(p + "self_attn.v_proj", b.v);
    f(p + "self_attn.o_proj", b.o);
    if (b.memory) continue;
    f(p + "mlp.gate_proj", b.gate);
    f(p + "mlp.up_proj", b.up);
    f(p + "mlp.down_proj", b.down);
  }
}

int64_t tokens_a_pass(const Transformer& net, int64_t on_cpu) {
  constexpr int64_t kOnDevice = 8192;
  return net.device().is_cpu() ? on_cpu : std::max(on_cpu, kOnDevice);
}

std::vector<const TensorView*> Transformer::base_tensors() const {
  return files_->tensors();
}

}  // namespace accrete
