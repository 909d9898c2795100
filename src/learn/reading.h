// What the tokens of prompts read: accesses and queries at the address block, without the network
// above it.
//
// Prompts that begin alike are computed once up to where they part (model/prompt_tree.h).
//
// Non-goals: losses and gradients (suffix_task.h, language_task.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/progress.h"
#include "memory/accesses.h"
#include "model/language_model.h"

namespace accrete {

// A prompt and from which token on it is wanted what is read.
struct ReadRequest {
  std::vector<int32_t> tokens;
  int64_t from = 0;
};

struct Reads {
  std::vector<int64_t> begin = {0};  // [n + 1]: request r has rows begin[r] to begin[r + 1]
  Accesses accesses;
  at::Tensor queries;  // [rows, query_width]; undefined when not wanted
};

// Every request needs at least one token. Of many tokens the products are taken in bfloat16 where
// that is faster. Reports progress as `stage`. Throws kInterrupted.
Reads read_prompts(const LanguageModel& model, std::span<const ReadRequest> requests,
                   bool with_queries, const Reporter& reporter, std::string_view stage);

}  // namespace accrete
