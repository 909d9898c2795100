// What retrofit and pretraining share: a model folder in the making; and what `accrete/` of a
// native model holds before anything was taught.
//
// Non-goals: the base's files.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/rng.h"
#include "model/language_model.h"

namespace accrete {

// A folder beside `target` that becomes it when everything is there; removed if it never is.
class NewModelFolder {
 public:
  // Throws kConflict when `target` has content, kIo.
  explicit NewModelFolder(const std::filesystem::path& target);
  ~NewModelFolder();
  NewModelFolder(const NewModelFolder&) = delete;
  NewModelFolder& operator=(const NewModelFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // Throws kIo.
  void commit();

 private:
  std::filesystem::path target_, path_;
};

// Brings the base of a model in the making: `source`, a Hugging Face folder or a .gguf file, is
// copied or converted to `folder`. Throws kNotFound, kInvalidArgument (it has a memory, which
// `again` says to leave behind), and what reading it throws.
void bring_base(const std::filesystem::path& source, const std::filesystem::path& folder,
                const Reporter& reporter, bool again = false);

// FFN inputs of the given blocks for windows of tokens: per block [tokens, d] float32, the first
// token of every window (whose state is an outlier) left out.
std::vector<at::Tensor> collect_states(const Transformer& net,
                                       const std::vector<std::vector<int32_t>>& windows,
                                       std::span<const int64_t> blocks, const Reporter& reporter);

// FFN inputs of block `block` for the first tokens of windows alone: [distinct tokens, d] float32.
at::Tensor first_token_states(const Transformer& net,
                              const std::vector<std::vector<int32_t>>& windows, int64_t block);

// Writes `accrete/`: the memory, the access log of a background whose states at the address block
// are `states` [tokens, d], names out of `documents`, and an empty ledger. `info` goes into
// memory.json, with the number of tokens.
void write_memory_folder(const std::filesystem::path& folder, const Memory& memory,
                         const at::Tensor& states, std::span<const std::string> documents,
                         nlohmann::json info, const Rng& rng);

}  // namespace accrete
