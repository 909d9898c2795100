#include "io/hf_folder.h"

#include <algorithm>
#include <array>
#include <system_error>

#include "base/error.h"
#include "base/format.h"
#include "io/staged_folder.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 12> kNames = {
    "config.json",     "generation_config.json",  "tokenizer.json",     "tokenizer_config.json",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json",  "vocab.json",
    "merges.txt",      "chat_template.jinja",     "chat_template.json", "README.md"};
// Terms that must travel with the weights.
constexpr std::array<std::string_view, 4> kTerms = {"LICENSE", "LICENCE", "NOTICE", "USE_POLICY"};

bool belongs(const std::string& name) {
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end() ||
         std::any_of(kTerms.begin(), kTerms.end(),
                     [&](std::string_view term) { return name.starts_with(term); });
}

[[noreturn]] void fail(const fs::path& path, const std::error_code& error) {
  throw Error(ErrorCode::kIo, accrete::format("cannot copy {}: {}", path.string(), error.message()),
              "check the permissions and the space left");
}

// In the hub's cache the files of a model are symbolic links: what they point to is meant.
void copy_content(const fs::path& from, const fs::path& to, bool may_link) {
  std::error_code error;
  const fs::path real = fs::canonical(from, error);
  if (error) fail(from, error);
  if (may_link) {
    fs::create_hard_link(real, to, error);
    if (!error) return;
    error.clear();  // another file system, or one without links
  }
  if (!fs::copy_file(real, to, error)) fail(from, error);
}

std::vector<fs::path> small_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code broken_link;
    if (fs::is_regular_file(it->path(), broken_link) && belongs(it->path().filename().string()))
      files.push_back(it->path());
  }
  if (error) fail(folder, error);
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

void copy_hf_folder(const fs::path& from, const fs::path& to, const Reporter& reporter,
                    CopyWeights how) {
  std::error_code ignored;
  if (!fs::is_regular_file(from / "config.json", ignored))
    throw Error(ErrorCode::kNotFound,
                accrete::format("{} is not a Hugging Face model folder: it has no config.json",
                                from.string()),
                "name the folder that holds config.json and the weights");
  // Opening checks every shard, so that a torn model is not multiplied.
  std::vector<fs::path> weights = ShardedSafetensors::open(from).files();
  std::vector<fs::path> files = small_files(from);
  const fs::path index = from / "model.safetensors.index.json";
  if (weights.front().filename() != "model.safetensors") files.push_back(index);

  StagedFolder folder(to);
  const auto total = static_cast<int64_t>(files.size() + weights.size());
  int64_t done = 0;
  const auto copy = [&](const fs::path& file, bool may_link) {
    reporter.check_cancelled();
    reporter.report("copy", done++, total, file.filename().string());
    copy_content(file, folder.path() / file.filename(), may_link);
  };
  for (const fs::path& file : files) copy(file, false);
  for (const fs::path& file : weights) copy(file, how == CopyWeights::kLink);
  reporter.check_cancelled();
  folder.commit();
  reporter.report("copy", total, total);
}

}  // namespace accrete
