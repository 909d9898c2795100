// The forward pass on a small public model, stories260K: 200 greedy tokens give the text that its
// own implementation (llama2.c) writes.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "../base/testing.h"
#include "base/file.h"
#include "model/transformer.h"
#include "write_tensors.h"

namespace accrete {
namespace {

const std::filesystem::path kFolder =
    std::filesystem::path(ACCRETE_TEST_DATA) / "models" / "stories260K";

// Reads llama2.c's formats: little-endian int32 and float32, one after the other.
class Reader {
 public:
  explicit Reader(const std::string& name) : bytes_(read_file(kFolder / name)) {}
  int32_t integer() { return next<int32_t>(); }
  float real() { return next<float>(); }
  std::string text(size_t n) {
    at_ += n;
    return bytes_.substr(at_ - n, n);
  }
  at::Tensor tensor(at::IntArrayRef shape) {
    auto out = at::empty(shape, at::kFloat);
    std::memcpy(out.data_ptr(), bytes_.data() + at_, out.nbytes());
    at_ += out.nbytes();
    return out;
  }

 private:
  template <typename T>
  T next() {
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  std::string bytes_;
  size_t at_ = 0;
};

// llama2.c rotates neighbouring pairs of a head's elements, Hugging Face its halves.
at::Tensor halves(const at::Tensor& w, int64_t heads) {
  return w.view({heads, w.size(0) / heads / 2, 2, w.size(1)})
      .transpose(1, 2)
      .reshape(w.sizes())
      .contiguous();
}

void convert(const std::filesystem::path& folder) {
  Reader in("stories260K.bin");
  const int64_t d = in.integer(), ffn = in.integer(), blocks = in.integer(), heads = in.integer(),
                kv = in.integer(), vocabulary = in.integer(), positions = in.integer();
  const int64_t kv_width = d / heads * kv;
  std::map<std::string, at::Tensor> tensors;
  const auto each = [&](const std::string& name, at::IntArrayRef shape, int64_t rotated = 0) {
    for (int64_t b = 0; b < blocks; ++b) {
      const auto w = in.tensor(shape);
      tensors["model.layers." + std::to_string(b) + "." + name + ".weight"] =
          rotated > 0 ? halves(w, rotated) : w;
    }
  };
  tensors["model.embed_tokens.weight"] = in.tensor({vocabulary, d});
  each("input_layernorm", {d});
  each("self_attn.q_proj", {d, d}, heads);
  each("self_attn.k_proj", {kv_width, d}, kv);
  each("self_attn.v_proj", {kv_width, d});
  each("self_attn.o_proj", {d, d});
  each("post_attention_layernorm", {d});
  each("mlp.gate_proj", {ffn, d});
  each("mlp.down_proj", {d, ffn});
  each("mlp.up_proj", {ffn, d});
  tensors["model.norm.weight"] = in.tensor({d});

  testing::write_tensors(folder / "model.safetensors", tensors);
  std::ofstream(folder / "config.json")
      << R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5,)"
      << R"( "rope_theta": 10000.0, "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2)"
      << ", \"hidden_size\": " << d << ", \"intermediate_size\": " << ffn
      << ", \"num_hidden_layers\": " << blocks << ", \"num_attention_heads\": " << heads
      << ", \"num_key_value_heads\": " << kv << ", \"vocab_size\": " << vocabulary
      << ", \"max_position_embeddings\": " << positions << "}";
}

std::vector<std::string> vocabulary() {
  Reader in("tok512.bin");
  in.integer();  // the longest token
  std::vector<std::string> tokens;
  for (int i = 0; i < 512; ++i) {
    in.real();  // score
    const int32_t length = in.integer();
    std::string piece = in.text(static_cast<size_t>(length));
    if (piece.size() == 6 && piece.starts_with("<0x"))
      piece = static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16));
    tokens.push_back(piece);
  }
  return tokens;
}

TEST(Stories260K, WritesTheTextOfItsOwnImplementation) {
  const testing::TemporaryFolder folder;
  convert(folder.path());
  const Transformer net = Transformer::load(folder.path(), at::kCPU, at::kFloat);
  const auto tokens = vocabulary();
  const c10::InferenceMode inference;
  KvCache cache;
  ForwardOptions options;
  options.cache = &cache;
  std::string text;
  int64_t token = 1;  // beginning of text
  std::vector<int64_t> all = {token};
  at::Tensor last;
  // llama2.c counts the first token as a step.
  for (int step = 0; step < 200; ++step) {
    last = net.forward(at::full({1, 1}, token, at::kLong), options)[0][0];
    token = last.argmax().item<int64_t>();
    if (token == 1) break;
    const std::string& piece = tokens.at(static_cast<size_t>(token));
    // The space that a sentence piece begins with is not written at the beginning.
    text += all.size() == 1 && piece.starts_with(' ') ? piece.substr(1) : piece;
    all.push_back(token);
  }
  const std::string expected = read_file(kFolder / "expected_greedy_200.txt");
  ASSERT_GT(expected.size(), 400U);
  EXPECT_EQ(text.substr(0, expected.size()), expected);

  // Without the cache, all positions at once: the same logits.
  all.pop_back();
  const auto whole = net.forward(at::tensor(all, at::kLong).unsqueeze(0))[0];
  EXPECT_LT((whole[whole.size(0) - 1] - last).abs().max().item<float>(), 1e-4);
}

}  // namespace
}  // namespace accrete
