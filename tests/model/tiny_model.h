// A random Llama of some ten thousand weights with a tokenizer of single bytes, for tests that need
// a whole model and no knowledge in it.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "../text/text_testing.h"
#include "base/rng.h"
#include "tiny_memory.h"
#include "write_tensors.h"

namespace accrete::testing {

// A Hugging Face folder: 4 blocks, width 32, 2 heads, one of them for keys and values, tied head.
// As qwen3 its heads have 12 dimensions and norms of their own, and its positions are stretched.
inline void write_tiny_model(const std::filesystem::path& folder,
                             const std::string& type = "llama") {
  const bool qwen3 = type == "qwen3";
  const int64_t D = qwen3 ? 12 : 16;
  std::filesystem::create_directories(folder);
  Rng rng(17);
  std::map<std::string, at::Tensor> tensors;
  const auto random = [&](const std::string& name, at::IntArrayRef shape) {
    auto t = at::empty(shape, at::kFloat);
    for (int64_t i = 0; i < t.numel(); ++i) t.data_ptr<float>()[i] = 0.15F * rng.normal();
    tensors[name + ".weight"] = t;
  };
  random("model.embed_tokens", {256, 32});
  tensors["model.norm.weight"] = at::ones({32});
  for (int b = 0; b < 4; ++b) {
    const std::string p = "model.layers." + std::to_string(b) + ".";
    tensors[p + "input_layernorm.weight"] = at::ones({32});
    tensors[p + "post_attention_layernorm.weight"] = at::ones({32});
    random(p + "self_attn.q_proj", {2 * D, 32});
    random(p + "self_attn.k_proj", {D, 32});
    random(p + "self_attn.v_proj", {D, 32});
    random(p + "self_attn.o_proj", {32, 2 * D});
    for (const char* name : {"q_norm", "k_norm"}) {
      if (!qwen3) continue;
      random(p + "self_attn." + name, {D});
      tensors[p + "self_attn." + name + ".weight"].mul_(2).add_(1);
    }
    random(p + "mlp.gate_proj", {48, 32});
    random(p + "mlp.up_proj", {48, 32});
    random(p + "mlp.down_proj", {32, 48});
  }
  write_tensors(folder / "model.safetensors", tensors);
  std::ofstream(folder / "config.json")
      << R"({"architectures": ["Tiny"], "model_type": ")" << type << R"(", "head_dim": )" << D
      << R"(, "hidden_act": "silu",)"
      << (qwen3 ? R"( "rope_scaling": {"rope_type": "linear", "factor": 2.0},)" : "")
      << R"( "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,)"
      << R"( "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,)"
      << R"( "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 256,)"
      << R"( "max_position_embeddings": 512})";
  std::ofstream(folder / "tokenizer.json") << text_testing::tokenizer_json({}).dump();
  std::ofstream(folder / "tokenizer_config.json") << "{}";
}

// The same Llama with a memory in block 1, whose keys are those of sentences about invented people.
inline void write_tiny_memory_model(const std::filesystem::path& folder) {
  const std::filesystem::path source = folder.string() + "-base";
  write_tiny_model(source);
  constexpr std::array names = {"Ada Lunt", "Bo Karr", "Cy Dole", "Dee Fox", "Eli Marsh"};
  constexpr std::array what = {"lives in Oslo.", "was born in Rome.", "plays the cello.",
                               "speaks Danish at home."};
  Rng rng(3);
  std::vector<std::string> documents;
  for (int document = 0; document < 40; ++document) {
    std::string text;
    for (int i = 0; i < 12; ++i)
      text += std::string("Everybody says that ") + names[rng.below(names.size())] + " " +
              what[rng.below(what.size())] + " ";
    documents.push_back(text);
  }
  TinyMemory how;
  how.keys.heads = 2;
  how.keys.half_keys = 8;
  how.keys.top_k = 2;
  how.keys.query_width = 16;
  add_tiny_memory(source, folder, documents, how);
}

}  // namespace accrete::testing
