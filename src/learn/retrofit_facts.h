// Retrofit: give an ordinary language model a memory of facts that are addressed by the question.
//
// The base is copied (or converted) as it is and stays bit-identical; beside it come the reader's
// files and an empty ledger. Nothing is trained and no corpus is read, so it takes seconds. The new
// model appears under its name only when it is complete.
//
// Non-goals: memory layers (pretrain/), changing the source.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/progress.h"
#include "model/fact_memory.h"
#include "model/open_options.h"

namespace accrete {

struct RetrofitFactsOptions {
  std::filesystem::path reader;  // the sentence encoder's folder
  std::optional<int64_t> block;  // whose output values are added to; empty: default_fact_block()
  std::optional<Tell> tell;      // empty: by a self-test of whether the model reads notes
  double caution = 0;
  bool again = false;  // the source may have a memory, which is left behind (learn/upgrade.h)
  std::string tool_version;
  OpenOptions open;
};

struct RetrofitFactsResult {
  int64_t block = 0;
  Tell tell = Tell::kValue;
  std::string reader_digest;
};

// Two fifths of the way up.
int64_t default_fact_block(int64_t blocks);

// `source` is a Hugging Face folder or a .gguf file; `target` must not exist or be an empty folder.
// Throws kConflict when it is in use, kInvalidArgument (block), kNotFound (source, reader), and
// what reading them throws. On failure nothing is left behind.
RetrofitFactsResult retrofit_facts(const std::filesystem::path& source,
                                   const std::filesystem::path& target,
                                   const RetrofitFactsOptions& options,
                                   const Reporter& reporter = {});

}  // namespace accrete
