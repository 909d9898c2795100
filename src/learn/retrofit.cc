#include "learn/retrofit.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/dataset.h"
#include "learn/new_model.h"
#include "model/memory_files.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> read_documents(std::span<const fs::path> corpus) {
  std::vector<std::string> documents;
  for (const auto& file : corpus) {
    auto more = read_corpus(file);
    std::move(more.begin(), more.end(), std::back_inserter(documents));
  }
  return documents;
}

// Windows at random places of the corpus: places drawn by bytes, so long documents count for more.
std::vector<std::vector<int32_t>> sample_windows(const Tokenizer& tokenizer,
                                                 const std::vector<std::string>& documents,
                                                 int64_t tokens, int64_t window, Rng rng) {
  std::vector<size_t> ends;
  size_t bytes = 0;
  for (const auto& d : documents) ends.push_back(bytes += d.size());
  std::vector<std::vector<int32_t>> windows;
  const auto wanted = static_cast<size_t>((tokens + window - 1) / window);
  const size_t span = static_cast<size_t>(window) * 8;  // bytes, more than `window` tokens need
  for (size_t tries = 0; windows.size() < wanted && tries < 20 * wanted && bytes > 0; ++tries) {
    const size_t at = rng.below(bytes);
    const size_t d =
        static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), at) - ends.begin());
    const std::string& text = documents[d];
    size_t from = at - (ends[d] - text.size());
    while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;
    auto ids = tokenizer.encode_text(text.substr(from, span));
    if (ids.size() < static_cast<size_t>(window)) continue;
    ids.resize(static_cast<size_t>(window));
    windows.push_back(std::move(ids));
  }
  return windows;
}

// Of the background, for the components of its last states: they take the whole network.
constexpr int64_t kScopeTokens = 4096;

}  // namespace

std::vector<int64_t> default_memory_blocks(int64_t blocks) {
  // 4, 8 and 12 of 30: low enough to reach the subject before the network has read it, and three of
  // them because one is not enough (docs/algorithm.md).
  std::vector<int64_t> out;
  for (const double share : {4.0 / 30, 8.0 / 30, 12.0 / 30}) {
    const auto b =
        std::clamp<int64_t>(std::llround(share * static_cast<double>(blocks)), 0, blocks - 1);
    if (out.empty() || out.back() != b) out.push_back(b);
  }
  return out;
}

RetrofitResult retrofit(const fs::path& source, const fs::path& target,
                        std::span<const fs::path> corpus, const RetrofitOptions& options,
                        const Reporter& reporter) {
  if (corpus.empty())
    throw Error(ErrorCode::kInvalidArgument, "retrofit needs a background corpus",
                "give one with --corpus FILE");
  NewModelFolder staging(target);
  const auto documents = read_documents(corpus);

  bring_base(source, staging.path(), reporter);
  OpenOptions open = options.open;
  open.dtype = "float32";
  const LanguageModel model = LanguageModel::open(staging.path(), open);
  const ModelConfig& config = model.net().config();
  std::vector<int64_t> blocks =
      options.blocks.empty() ? default_memory_blocks(config.blocks) : options.blocks;
  std::sort(blocks.begin(), blocks.end());
  if (std::adjacent_find(blocks.begin(), blocks.end()) != blocks.end() || blocks.front() < 0 ||
      blocks.back() >= config.blocks)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("memory layers must be distinct blocks in [0, {})", config.blocks));

  const Rng rng(options.seed);
  const auto windows = sample_windows(model.tokenizer(), documents, options.background_tokens,
                                      options.window, rng.split(1));
  const int64_t tokens = static_cast<int64_t>(windows.size()) * (options.window - 1);
  if (tokens < 2 * options.keys.half_keys)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the corpus gives {} background tokens, {} keys need more", tokens,
                            options.keys.half_keys),
                "give a longer corpus with --corpus");
  const std::vector<int64_t> address = {blocks.front()};
  const auto states = collect_states(model.net(), windows, address, reporter).front();
  Memory memory;
  memory.address_block = blocks.front();
  memory.blocks = blocks;
  memory.gate = options.gate;
  memory.keys = ProductKeys::fit(states, options.keys, rng.split(100), reporter);
  find_first(memory.gate,
             memory.keys.queries(first_token_states(model.net(), windows, memory.address_block)));
  memory.scope = fit_scope(last_states(model.net(), windows, kScopeTokens, reporter));
  const RetrofitResult result{blocks, memory.keys.slots(), tokens};
  nlohmann::json info;
  info["base_digest"] = model.base_digest();
  info["source"] = source.string();
  info["seed"] = options.seed;
  info["tool_version"] = options.tool_version;
  for (const auto& file : corpus) info["corpus"].push_back(file.filename().string());
  write_memory_folder(staging.path(), memory, states, documents, info, rng);
  reporter.check_cancelled();
  staging.commit();
  return result;
}

}  // namespace accrete
