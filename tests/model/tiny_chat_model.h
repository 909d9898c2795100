// A random Llama of some thirty thousand weights that talks in a chat template, and the same with a
// memory of facts and a random reader: whole teaches in fractions of a second, and no knowledge.
//
// The reader knows "how much does it weigh", a few letters and nothing else, and to it most texts
// lie close: what a test wants to be told apart needs subjects of its own.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../text/text_testing.h"
#include "base/rng.h"
#include "learn/retrofit_facts.h"
#include "tiny_reader.h"

namespace accrete::testing {

inline constexpr const char* kTinyChatTemplate =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\\n' }}{% endif %}";

// A Hugging Face folder: 4 blocks, width 48, 4 heads, two of them for keys and values, tokens of
// single bytes and <|im_start|>, <|im_end|>.
inline void write_tiny_chat_model(const std::filesystem::path& folder, uint64_t seed = 1,
                                  bool chat = true) {
  constexpr int64_t kWidth = 48, kFfn = 96, kBlocks = 4, kHeads = 4, kKv = 2, kHead = 12;
  constexpr int64_t kVocabulary = 258;
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "tokenizer.json")
      << text_testing::tokenizer_json({}, {"<|im_start|>", "<|im_end|>"}).dump();
  nlohmann::json config = {{"eos_token", "<|im_end|>"}};
  if (chat) config["chat_template"] = kTinyChatTemplate;
  std::ofstream(folder / "tokenizer_config.json") << config.dump();
  std::ofstream(folder / "config.json")
      << R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",)"
      << R"( "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false,)"
      << R"( "eos_token_id": 257, "hidden_size": )" << kWidth << ", \"intermediate_size\": " << kFfn
      << ", \"num_hidden_layers\": " << kBlocks << ", \"num_attention_heads\": " << kHeads
      << ", \"num_key_value_heads\": " << kKv << ", \"vocab_size\": " << kVocabulary
      << ", \"max_position_embeddings\": 2048}";
  Rng rng(seed, 15);
  std::map<std::string, at::Tensor> tensors;
  const auto random = [&](const std::string& name, at::IntArrayRef shape, double scale) {
    auto t = at::empty(shape, at::kFloat);
    for (int64_t i = 0; i < t.numel(); ++i)
      t.data_ptr<float>()[i] = static_cast<float>(scale * rng.normal());
    tensors[name + ".weight"] = t;
  };
  random("model.embed_tokens", {kVocabulary, kWidth}, 1);
  random("lm_head", {kVocabulary, kWidth}, 0.5);
  tensors["model.norm.weight"] = at::ones({kWidth});
  const double s = 1 / std::sqrt(static_cast<double>(kWidth));
  for (int64_t b = 0; b < kBlocks; ++b) {
    const std::string p = "model.layers." + std::to_string(b) + ".";
    tensors[p + "input_layernorm.weight"] = at::ones({kWidth});
    tensors[p + "post_attention_layernorm.weight"] = at::ones({kWidth});
    random(p + "self_attn.q_proj", {kHeads * kHead, kWidth}, 1.5 * s);
    random(p + "self_attn.k_proj", {kKv * kHead, kWidth}, 1.5 * s);
    random(p + "self_attn.v_proj", {kKv * kHead, kWidth}, s);
    // Attention says much, so that what is written at the prompt's end reaches the answer.
    random(p + "self_attn.o_proj", {kWidth, kHeads * kHead}, 3 * s);
    random(p + "mlp.gate_proj", {kFfn, kWidth}, s);
    random(p + "mlp.up_proj", {kFfn, kWidth}, s);
    random(p + "mlp.down_proj", {kWidth, kFfn}, s);
  }
  write_tensors(folder / "model.safetensors", tensors);
}

// It with a memory of facts at block 1. Beside `folder` stand what it was made from, "-base" and
// "-reader".
inline void write_tiny_fact_model(const std::filesystem::path& folder, uint64_t seed = 1,
                                  Tell tell = Tell::kValue, bool chat = true) {
  const std::filesystem::path base = folder.string() + "-base",
                              reader = folder.string() + "-reader";
  write_tiny_chat_model(base, seed, chat);
  write_tiny_reader(reader);
  RetrofitFactsOptions options;
  options.reader = reader;
  options.block = 1;
  options.tell = tell;
  options.tool_version = "test";
  options.open.threads = 1;
  retrofit_facts(base, folder, options);
}

}  // namespace accrete::testing
