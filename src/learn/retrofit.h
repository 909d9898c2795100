// Retrofit: give an ordinary model memory layers, without training it.
//
// Keys are fitted to the model's hidden states on a background corpus, values are implicit zeros
// (so the output is bit-identical until something is taught), and the background's access log is
// stored beside them (design §3). The new model appears under its name only when it is complete.
//
// Non-goals: pretrained (native) memory layers (learn/pretrain); changing the source.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "memory/product_keys.h"
#include "model/language_model.h"

namespace accrete {

struct RetrofitOptions {
  std::vector<int64_t> blocks;  // empty: default_memory_blocks()
  ProductKeyOptions keys;
  Gate gate;
  int64_t background_tokens = 60000;
  int64_t window = 128;  // tokens of a background sample
  uint64_t seed = 0;
  std::string tool_version;
  OpenOptions open;  // device, threads; always computes in float32
};

struct RetrofitResult {
  std::vector<int64_t> blocks;
  int64_t slots = 0;  // over all layers
  int64_t background_tokens = 0;
};

// The blocks that carry memory when none are named.
std::vector<int64_t> default_memory_blocks(int64_t blocks);

// `source` is a Hugging Face folder or a .gguf file; `target` must not exist or be an empty folder.
// Throws kConflict when it is in use, kInvalidArgument (blocks, too little text), and what reading
// the source throws. On failure nothing is left behind.
RetrofitResult retrofit(const std::filesystem::path& source, const std::filesystem::path& target,
                        std::span<const std::filesystem::path> corpus,
                        const RetrofitOptions& options, const Reporter& reporter = {});

}  // namespace accrete
