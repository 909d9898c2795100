#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "io/gguf_to_hf.h"
#include "io/utf8.h"

namespace accrete {
namespace {

[[noreturn]] void fail(const std::string& what) {
  throw Error(ErrorCode::kFormat, "GGUF model: " + what,
              "the file is damaged or made for another purpose");
}

[[noreturn]] void fail_unsupported(const std::string& what) {
  throw Error(ErrorCode::kUnsupported, "GGUF model: " + what,
              "use the model's Hugging Face folder instead");
}

// Positive, and small enough that products of two cannot overflow.
int64_t size_of(const GgufFile& file, const std::string& key) {
  const int64_t value = file.get_int(key);
  if (value <= 0 || value > std::numeric_limits<int32_t>::max())
    fail(accrete::format("{} is {}", key, value));
  return value;
}

int64_t size_of(const GgufFile& file, const std::string& key, int64_t fallback) {
  return file.metadata().contains(key) ? size_of(file, key) : fallback;
}

double positive(double value, const std::string& key) {
  if (!(value > 0) || value > std::numeric_limits<float>::max())
    fail(accrete::format("{} is {}", key, value));
  return value;
}

std::string join(const std::vector<int64_t>& shape) {
  std::string out;
  for (const int64_t n : shape) out += accrete::format("{}{}", out.empty() ? "" : " x ", n);
  return out;
}

const GgufTensor& require(const GgufFile& file, const std::string& name,
                          const std::vector<int64_t>& shape) {
  const GgufTensor* tensor = file.find(name);
  if (tensor == nullptr) fail(accrete::format("the tensor {} is missing", name));
  if (tensor->shape != shape)
    fail(accrete::format("the tensor {} is {}, expected is {}", name, join(tensor->shape),
                         join(shape)));
  return *tensor;
}

void refuse_variants(const GgufFile& file, const std::string& architecture) {
  if (architecture != "llama" && architecture != "qwen2" && architecture != "qwen3")
    fail_unsupported(accrete::format("the architecture is {}, none of llama, qwen2, qwen3",
                                     shown(architecture)));
  if (file.get_int(architecture + ".expert_count", 0) > 0) fail_unsupported("a mixture of experts");
}

// The factor behind the divisors of the frequencies, if the rule is that of Llama 3.1.
double llama3_factor(const GgufTensor& tensor, const LlamaSizes& s) {
  if (tensor.shape != std::vector<int64_t>{s.head_dim / 2})
    fail(accrete::format("the tensor {} is {}", tensor.name, join(tensor.shape)));
  std::vector<float> divisors(static_cast<size_t>(tensor.numel()));
  dequantize(tensor, divisors);
  const double factor = *std::max_element(divisors.begin(), divisors.end());
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double frequency =
        std::pow(s.rope_theta, -2 * static_cast<double>(i) / static_cast<double>(s.head_dim));
    const double turns = kLlama3Positions * frequency / (2 * std::numbers::pi);
    const double smooth = std::clamp((turns - kLlama3Low) / (kLlama3High - kLlama3Low), 0.0, 1.0);
    const double divisor = 1 / ((1 - smooth) / factor + smooth);
    if (!(std::abs(divisors[i] - divisor) < 1e-3 * divisor))
      fail_unsupported("it scales its rotary positions by another rule than Llama 3.1");
  }
  return factor;
}

void read_rope_scaling(const GgufFile& file, LlamaSizes& s) {
  const std::string key = s.architecture + ".rope.scaling.";
  const std::string scaling = file.get_string(key + "type", "none");
  if (scaling == "linear") {
    s.rope_linear = true;
    s.rope_factor = positive(file.get_float(key + "factor"), key + "factor");
  } else if (scaling != "none") {
    fail_unsupported(
        accrete::format("it scales its rotary positions by the rule {}", shown(scaling)));
  }
  if (const GgufTensor* divisors = file.find("rope_freqs.weight"); divisors != nullptr) {
    if (s.rope_linear) fail_unsupported("it scales its rotary positions twice");
    s.rope_factor = llama3_factor(*divisors, s);
  }
}

}  // namespace

LlamaSizes llama_sizes(const GgufFile& file) {
  LlamaSizes s;
  s.architecture = file.get_string("general.architecture");
  refuse_variants(file, s.architecture);
  const auto key = [&s](const char* name) { return s.architecture + "." + name; };
  s.blocks = size_of(file, key("block_count"));
  s.width = size_of(file, key("embedding_length"));
  s.ffn = size_of(file, key("feed_forward_length"));
  s.heads = size_of(file, key("attention.head_count"));
  s.kv_heads = size_of(file, key("attention.head_count_kv"), s.heads);
  s.context = size_of(file, key("context_length"));
  const int64_t usual = size_of(file, key("rope.dimension_count"), s.width / s.heads);
  s.head_dim = size_of(file, key("attention.key_length"), usual);
  if (size_of(file, key("rope.dimension_count"), s.head_dim) != s.head_dim)
    fail_unsupported("it rotates only a part of each head");
  if (size_of(file, key("attention.value_length"), s.head_dim) != s.head_dim)
    fail_unsupported("keys and values differ in size");
  if (s.head_dim % 2 != 0)
    fail(accrete::format("heads have {} dimensions, an odd number", s.head_dim));
  if (s.heads % s.kv_heads != 0)
    fail(accrete::format("{} heads cannot share {} key heads", s.heads, s.kv_heads));
  s.norm_epsilon = positive(file.get_float(key("attention.layer_norm_rms_epsilon")),
                            key("attention.layer_norm_rms_epsilon"));
  s.rope_theta = positive(file.get_float(key("rope.freq_base"), 10000.0), key("rope.freq_base"));
  read_rope_scaling(file, s);

  const GgufTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2)
    fail("the matrix token_embd.weight is missing");
  s.vocabulary = embedding->shape[0];
  const auto tokens = static_cast<int64_t>(file.get_strings("tokenizer.ggml.tokens").size());
  if (s.vocabulary > std::numeric_limits<int32_t>::max() || tokens > s.vocabulary)
    fail(accrete::format("{} tokens, but the embedding has {} rows", tokens, s.vocabulary));
  if (size_of(file, key("vocab_size"), s.vocabulary) != s.vocabulary)
    fail(accrete::format("{} is not {}, the rows of the embedding", key("vocab_size"),
                         s.vocabulary));
  s.tied = file.find("output.weight") == nullptr;
  s.attention_bias = file.find("blk.0.attn_q.bias") != nullptr;
  s.mlp_bias = file.find("blk.0.ffn_up.bias") != nullptr;
  return s;
}

std::vector<LlamaTensor> llama_tensors(const GgufFile& file, const LlamaSizes& s) {
  constexpr size_t kLeastPerBlock = 9;
  if (static_cast<size_t>(s.blocks) > file.tensors().size() / kLeastPerBlock)
    fail(accrete::format("{} blocks, but only {} tensors", s.blocks, file.tensors().size()));

  std::vector<LlamaTensor> out;
  std::set<std::string> used;
  const auto add = [&](const std::string& from, const std::string& to, std::vector<int64_t> shape,
                       int64_t heads = 0) {
    out.push_back({&require(file, from, shape), to, heads});
    used.insert(from);
  };
  const int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  add("token_embd.weight", "model.embed_tokens.weight", {s.vocabulary, s.width});
  // Other families' rows are in Hugging Face's order, and the last product of attention has no
  // bias.
  const bool llama = s.architecture == "llama";
  for (int64_t i = 0; i < s.blocks; ++i) {
    const std::string from = accrete::format("blk.{}.", i),
                      to = accrete::format("model.layers.{}.", i);
    const auto linear = [&](const char* ours, const char* theirs, int64_t rows, int64_t columns,
                            bool bias, int64_t heads = 0) {
      add(from + ours + ".weight", to + theirs + ".weight", {rows, columns}, heads);
      if (bias) add(from + ours + ".bias", to + theirs + ".bias", {rows}, heads);
    };
    add(from + "attn_norm.weight", to + "input_layernorm.weight", {s.width});
    linear("attn_q", "self_attn.q_proj", q, s.width, s.attention_bias, llama ? s.heads : 0);
    linear("attn_k", "self_attn.k_proj", kv, s.width, s.attention_bias, llama ? s.kv_heads : 0);
    linear("attn_v", "self_attn.v_proj", kv, s.width, s.attention_bias);
    linear("attn_output", "self_attn.o_proj", s.width, q, llama && s.attention_bias);
    if (s.architecture == "qwen3") {
      add(from + "attn_q_norm.weight", to + "self_attn.q_norm.weight", {s.head_dim});
      add(from + "attn_k_norm.weight", to + "self_attn.k_norm.weight", {s.head_dim});
    }
    add(from + "ffn_norm.weight", to + "post_attention_layernorm.weight", {s.width});
    linear("ffn_gate", "mlp.gate_proj", s.ffn, s.width, s.mlp_bias);
    linear("ffn_up", "mlp.up_proj", s.ffn, s.width, s.mlp_bias);
    linear("ffn_down", "mlp.down_proj", s.width, s.ffn, s.mlp_bias);
  }
  add("output_norm.weight", "model.norm.weight", {s.width});
  if (!s.tied) add("output.weight", "lm_head.weight", {s.vocabulary, s.width});
  used.insert("rope_freqs.weight");  // read with the sizes
  for (const GgufTensor& tensor : file.tensors())
    if (!used.contains(tensor.name))
      fail_unsupported(
          accrete::format("the tensor {} has no place in a Llama model of this "
                          "configuration",
                          shown(tensor.name)));
  return out;
}

}  // namespace accrete
