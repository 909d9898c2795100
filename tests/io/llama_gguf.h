// A tiny Llama model as a GGUF file, for tests that change one thing about it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io_testing.h"

namespace accrete::testing {

// Metadata and tensors in maps, so that a test can replace or remove any of them.
struct LlamaGguf {
  static constexpr int kWidth = 8, kHeads = 2, kKvHeads = 1, kHeadDim = 4, kFfn = 6,
                       kVocabulary = 6;

  using Add = std::function<void(GgufBuilder&, const std::string&)>;
  struct Floats {
    std::vector<uint64_t> dimensions;  // the file's order
    std::vector<float> values;
  };

  std::map<std::string, Add> pairs;
  std::map<std::string, Floats> tensors;

  LlamaGguf() {
    text("general.architecture", "llama");
    number("llama.block_count", 1);
    number("llama.context_length", 64);
    number("llama.embedding_length", kWidth);
    number("llama.feed_forward_length", kFfn);
    number("llama.attention.head_count", kHeads);
    number("llama.attention.head_count_kv", kKvHeads);
    number("llama.rope.dimension_count", kHeadDim);
    real("llama.rope.freq_base", 50000);
    real("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    text("tokenizer.ggml.model", "gpt2");
    text("tokenizer.ggml.pre", "smollm");
    tokens({"<|end|>", "a", "b", "ab", "<user>", "c"}, {3, 1, 1, 1, 4, 1});
    texts("tokenizer.ggml.merges", {"a b"});
    number("tokenizer.ggml.bos_token_id", 0);
    number("tokenizer.ggml.eos_token_id", 0);
    tensor("token_embd.weight", {kWidth, kVocabulary});
    tensor("output_norm.weight", {kWidth});
    tensor("blk.0.attn_norm.weight", {kWidth});
    tensor("blk.0.attn_q.weight", {kWidth, kHeads * kHeadDim});
    tensor("blk.0.attn_k.weight", {kWidth, kKvHeads * kHeadDim});
    tensor("blk.0.attn_v.weight", {kWidth, kKvHeads * kHeadDim});
    tensor("blk.0.attn_output.weight", {kHeads * kHeadDim, kWidth});
    tensor("blk.0.ffn_norm.weight", {kWidth});
    tensor("blk.0.ffn_gate.weight", {kWidth, kFfn});
    tensor("blk.0.ffn_up.weight", {kWidth, kFfn});
    tensor("blk.0.ffn_down.weight", {kFfn, kWidth});
  }

  void text(const std::string& key, const std::string& value) {
    pairs[key] = [=](GgufBuilder& b, const std::string& k) { b.string(k, value); };
  }
  void texts(const std::string& key, const std::vector<std::string>& values) {
    pairs[key] = [=](GgufBuilder& b, const std::string& k) { b.strings(k, values); };
  }
  void number(const std::string& key, uint32_t value) {
    pairs[key] = [=](GgufBuilder& b, const std::string& k) { b.u32(k, value); };
  }
  void real(const std::string& key, float value) {
    pairs[key] = [=](GgufBuilder& b, const std::string& k) { b.f32(k, value); };
  }
  void boolean(const std::string& key, bool value) {
    pairs[key] = [=](GgufBuilder& b, const std::string& k) { b.boolean(k, value); };
  }
  void tokens(const std::vector<std::string>& names, const std::vector<int32_t>& types) {
    texts("tokenizer.ggml.tokens", names);
    pairs["tokenizer.ggml.token_type"] = [=](GgufBuilder& b, const std::string& k) {
      b.numbers(k, 5, types);
    };
  }
  // Every value of the model is another number, so that none can be confused.
  void tensor(const std::string& name, const std::vector<uint64_t>& dimensions) {
    size_t count = 1;
    for (const uint64_t n : dimensions) count *= n;
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(++counter_) / 8;
    tensors[name] = {dimensions, values};
  }

  std::string build() const {
    GgufBuilder builder;
    for (const auto& [key, add] : pairs) add(builder, key);
    for (const auto& [name, floats] : tensors)
      builder.floats(name, floats.dimensions, floats.values);
    return builder.build();
  }

 private:
  int counter_ = 0;
};

}  // namespace accrete::testing
