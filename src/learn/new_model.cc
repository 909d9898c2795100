#include "learn/new_model.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "io/hf_folder.h"
#include "learn/subjects.h"
#include "ledger/ledger.h"
#include "model/memory_files.h"

namespace accrete {

namespace fs = std::filesystem;

NewModelFolder::NewModelFolder(const fs::path& target)
    : target_(target), path_(target.string() + ".partial") {
  if (fs::exists(target_) && !(fs::is_directory(target_) && fs::is_empty(target_)))
    throw Error(ErrorCode::kConflict, accrete::format("{} exists already", target_.string()),
                "name a new folder, or remove this one first");
  std::error_code ec;
  fs::remove_all(path_, ec);
  if (target_.has_parent_path()) fs::create_directories(target_.parent_path(), ec);
  if (!target_.has_parent_path() || fs::is_directory(target_.parent_path())) return;
  throw Error(ErrorCode::kIo, accrete::format("cannot create {}", target_.parent_path().string()),
              "check the path and its permissions");
}

NewModelFolder::~NewModelFolder() {
  std::error_code ec;
  if (!path_.empty()) fs::remove_all(path_, ec);
}

void NewModelFolder::commit() {
  std::error_code ec;
  fs::remove(target_, ec);  // an empty folder
  fs::rename(path_, target_, ec);
  if (ec)
    throw Error(ErrorCode::kIo,
                accrete::format("cannot name the model {}: {}", target_.string(), ec.message()));
  path_.clear();
}

void bring_base(const fs::path& source, const fs::path& folder, const Reporter& reporter,
                bool again) {
  if (source.extension() == ".gguf") {
    convert_gguf_to_hf(source, folder, reporter);
    return;
  }
  if (!fs::is_directory(source))
    throw Error(ErrorCode::kNotFound, accrete::format("there is no model {}", source.string()),
                "name a Hugging Face folder or a .gguf file");
  if (!again && has_memory_files(source))
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} has a memory already", source.string()),
                "teach it, or retrofit the model it was made from");
  copy_hf_folder(source, folder, reporter);
}

std::vector<at::Tensor> collect_states(const Transformer& net,
                                       const std::vector<std::vector<int32_t>>& windows,
                                       std::span<const int64_t> blocks, const Reporter& reporter) {
  const c10::InferenceMode inference;
  const int64_t T = static_cast<int64_t>(windows.front().size());
  const int64_t N = static_cast<int64_t>(windows.size());
  const int64_t d = net.config().width;
  std::vector<at::Tensor> states;
  for (size_t i = 0; i < blocks.size(); ++i) states.push_back(at::empty({N, T - 1, d}, at::kFloat));
  int64_t done = 0;
  const FfnSide capture = [&](int64_t block, const at::Tensor& x) -> at::Tensor {
    for (size_t i = 0; i < blocks.size(); ++i)
      if (blocks[i] == block) states[i].narrow(0, done, x.size(0)).copy_(x.narrow(1, 1, T - 1));
    return {};
  };
  ForwardOptions forward;
  forward.side = &capture;
  const int64_t top = *std::max_element(blocks.begin(), blocks.end()) + 1;
  constexpr int64_t kRows = 16;
  while (done < N) {
    reporter.check_cancelled();
    const int64_t n = std::min(kRows, N - done);
    auto ids = at::empty({n, T}, at::kLong);
    for (int64_t i = 0; i < n; ++i)
      std::copy(windows[static_cast<size_t>(done + i)].begin(),
                windows[static_cast<size_t>(done + i)].end(), ids.data_ptr<int64_t>() + i * T);
    net.run(net.embed(ids.to(net.device())), 0, top, forward);
    done += n;
    reporter.report("read background", done * T, N * T);
  }
  for (auto& s : states) s = s.view({-1, d});
  return states;
}

at::Tensor first_token_states(const Transformer& net,
                              const std::vector<std::vector<int32_t>>& windows, int64_t block) {
  const c10::InferenceMode inference;
  std::set<int64_t> tokens;
  for (const auto& window : windows) tokens.insert(window.front());
  const std::vector<int64_t> ids(tokens.begin(), tokens.end());
  at::Tensor states;
  const FfnSide capture = [&](int64_t at, const at::Tensor& x) -> at::Tensor {
    if (at == block) states = x.reshape({x.size(0), -1}).to(at::kCPU, at::kFloat).clone();
    return {};
  };
  ForwardOptions forward;
  forward.side = &capture;
  const auto column = at::tensor(ids, at::kLong).unsqueeze(1).to(net.device());
  net.run(net.embed(column), 0, block + 1, forward);
  return states;
}

void write_memory_folder(const fs::path& folder, const Memory& memory, const at::Tensor& states,
                         std::span<const std::string> documents, nlohmann::json info,
                         const Rng& rng) {
  AccessLog log;
  log.append(memory.keys.lookup(states), 1.0, true);
  info["background_tokens"] = states.size(0);
  Ledger::create(folder);
  save_memory(folder, memory, log, info);
  std::string names;
  for (const auto& name : find_names(documents, 2000, rng.split(2))) names += name + "\n";
  write_file_atomically(folder / "accrete" / "names.txt", names);
}

}  // namespace accrete
