// The shape of a decoder-only transformer of the Llama family, read from a config.json.
//
// Covers model types `llama`, `mistral`, `qwen2` and `qwen3` (none with a sliding window): pre-norm
// RMSNorm blocks, rotary positions, grouped-query attention, SwiGLU, tied or untied head, optional
// biases, optional norms of queries and keys. And `accrete_native`, what `accrete pretrain` makes:
// a Llama of which one block has a memory layer in place of its FFN.
//
// Non-goals: weights (transformer.h), other families.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace accrete {

// The memory layer in place of one block's FFN (memory_ffn.h).
struct NativeMemory {
  int64_t block = 0;
  int64_t heads = 0;
  int64_t half_keys = 0;  // n; there are heads * n^2 slots
  int64_t top_k = 0;
  int64_t query_width = 0;
};

// Rotary positions stretched to contexts longer than those first trained on. Linear: all
// frequencies are divided by `factor`. Otherwise as Llama 3.1: those with wavelengths above
// `original_positions / low` are, those below `original_positions / high` are not, those between in
// part.
struct RopeScaling {
  bool linear = false;
  double factor = 1;
  double low = 1, high = 4;
  double original_positions = 8192;

  // What a frequency (radians a position) becomes.
  double operator()(double frequency) const;
};

struct ModelConfig {
  std::string model_type;
  int64_t vocab_size = 0;
  int64_t width = 0;      // hidden_size, d
  int64_t ffn_width = 0;  // intermediate_size
  int64_t blocks = 0;     // num_hidden_layers
  int64_t heads = 0;      // query heads
  int64_t kv_heads = 0;   // key/value heads; divides heads
  int64_t head_dim = 0;
  int64_t max_positions = 0;
  double norm_eps = 1e-5;
  double rope_theta = 10000.0;
  std::optional<RopeScaling> rope_scaling;
  bool tied_head = false;
  bool head_norms = false;  // RMSNorm of each head's query and key, before the rotation (qwen3)
  std::vector<int64_t> eos_ids;  // any of them ends a text
  std::optional<NativeMemory> memory;

  // Throws kFormat (a missing or impossible value, by key) and kUnsupported (another architecture,
  // activation, rope scaling, sliding window), naming `source`.
  static ModelConfig from_json(const nlohmann::json& json, const std::string& source);
  // `folder`/config.json, and eos ids of generation_config.json.
  static ModelConfig from_folder(const std::filesystem::path& folder);
};

}  // namespace accrete
