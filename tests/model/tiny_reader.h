// A random BERT of some twenty thousand weights with a vocabulary of a few words, for tests that
// need a reader and no knowledge in it.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "../text/wordpiece_testing.h"
#include "base/rng.h"
#include "write_tensors.h"

namespace accrete::testing {

using nlohmann::json;

inline constexpr int64_t kReaderWidth = 36, kReaderHeads = 3, kReaderBlocks = 2, kReaderFfn = 50;
inline constexpr int64_t kReaderPositions = 24;

inline json tiny_reader_config() {
  return {{"architectures", {"BertModel"}},
          {"model_type", "bert"},
          {"hidden_act", "gelu"},
          {"hidden_size", kReaderWidth},
          {"intermediate_size", kReaderFfn},
          {"layer_norm_eps", 1e-12},
          {"max_position_embeddings", kReaderPositions},
          {"num_attention_heads", kReaderHeads},
          {"num_hidden_layers", kReaderBlocks},
          {"type_vocab_size", 2},
          {"vocab_size", text_testing::wordpiece_json()["model"]["vocab"].size()}};
}

inline Tensors tiny_reader_tensors() {
  Rng rng(23);
  Tensors tensors;
  const auto random = [&](const std::string& name, at::IntArrayRef shape, float mean = 0) {
    auto t = at::empty(shape, at::kFloat);
    for (int64_t i = 0; i < t.numel(); ++i) t.data_ptr<float>()[i] = mean + 0.2F * rng.normal();
    tensors[name] = t;
  };
  const auto norm = [&](const std::string& name) {
    random(name + ".weight", {kReaderWidth}, 1);
    random(name + ".bias", {kReaderWidth});
  };
  const auto dense = [&](const std::string& name, int64_t out, int64_t in) {
    random(name + ".weight", {out, in});
    random(name + ".bias", {out});
  };
  random("embeddings.word_embeddings.weight",
         {tiny_reader_config()["vocab_size"].get<int64_t>(), kReaderWidth});
  random("embeddings.position_embeddings.weight", {kReaderPositions, kReaderWidth});
  random("embeddings.token_type_embeddings.weight", {2, kReaderWidth});
  norm("embeddings.LayerNorm");
  for (int64_t i = 0; i < kReaderBlocks; ++i) {
    const std::string p = "encoder.layer." + std::to_string(i) + ".";
    for (const char* part : {"query", "key", "value"})
      dense(p + "attention.self." + part, kReaderWidth, kReaderWidth);
    dense(p + "attention.output.dense", kReaderWidth, kReaderWidth);
    norm(p + "attention.output.LayerNorm");
    dense(p + "intermediate.dense", kReaderFfn, kReaderWidth);
    dense(p + "output.dense", kReaderWidth, kReaderFfn);
    norm(p + "output.LayerNorm");
  }
  return tensors;
}

// A folder that Reader::open reads: 2 blocks, width 36, 3 heads, 24 positions, mean pooling.
inline void write_tiny_reader(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  write_tensors(folder / "model.safetensors", tiny_reader_tensors());
  std::ofstream(folder / "config.json") << tiny_reader_config().dump();
  std::ofstream(folder / "tokenizer.json") << text_testing::wordpiece_json().dump();
}

}  // namespace accrete::testing
