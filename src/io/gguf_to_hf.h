// What the files of the GGUF conversion share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/gguf.h"

namespace accrete {

// Roles of tokens, checked against the vocabulary's size. Throws kFormat.
struct SpecialIds {
  std::optional<int64_t> bos, eos, unknown, padding, end_of_turn;
};
SpecialIds special_ids(const GgufFile& file);

struct AddedToken {
  int64_t id = 0;
  std::string content;
  bool special = false;  // a control token: left out when tokens are turned into text
};
// Control and user-defined tokens, by id. Throws kFormat.
std::vector<AddedToken> added_tokens(const GgufFile& file);

// The sizes of a model of the Llama family, checked for sense (positive, dividing, bounded). Throws
// kFormat for missing or senseless keys, kUnsupported for what a Hugging Face Llama configuration
// cannot say.
struct LlamaSizes {
  std::string architecture;  // llama, qwen2 or qwen3
  int64_t blocks = 0, width = 0, ffn = 0, heads = 0, kv_heads = 0, head_dim = 0, context = 0;
  int64_t vocabulary = 0;  // rows of the embedding
  double norm_epsilon = 0, rope_theta = 0;
  double rope_factor = 1;    // of longer contexts, by one of two rules (model/config.h):
  bool rope_linear = false;  // for all frequencies, or else as Llama 3.1 does
  bool attention_bias = false, mlp_bias = false, tied = false;
};
LlamaSizes llama_sizes(const GgufFile& file);

// What Llama 3.1 to 3.3 stretch their positions by, but for the factor. A GGUF file has the
// divisors of the frequencies that follow from it, not the rule.
inline constexpr double kLlama3Low = 1, kLlama3High = 4, kLlama3Positions = 8192;

// A tensor of the model under both names. `heads` > 0: its rows are in GGUF's rotary order.
struct LlamaTensor {
  const GgufTensor* source = nullptr;
  std::string name;
  int64_t heads = 0;
};
// All tensors, in the order of the model. Throws kFormat (missing, of the wrong shape),
// kUnsupported (tensors that a Llama model does not have).
std::vector<LlamaTensor> llama_tensors(const GgufFile& file, const LlamaSizes& sizes);

// The rows of a matrix in another order: `row_of[i]` is the one that comes i-th.
std::vector<std::byte> reordered_rows(std::span<const std::byte> rows,
                                      const std::vector<int64_t>& row_of);

}  // namespace accrete
