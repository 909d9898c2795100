#include "learn/pretrain/checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <charconv>
#include <cstring>

#include "base/error.h"
#include "base/format.h"
#include "io/safetensors.h"

namespace accrete {
namespace {

constexpr const char* kFormat = "accrete-checkpoint/2";

using Named = std::vector<std::pair<std::string, at::Tensor>>;

// All that is saved, in a fixed order.
Named tensors_of(const TrainingNetwork& network, const DenseAdamW& dense, const RowAdam& rows) {
  Named out;
  const auto& parameters = network.parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    out.emplace_back(parameters[i].name, parameters[i].value.detach());
    out.emplace_back(parameters[i].name + ".first", dense.first()[i]);
    out.emplace_back(parameters[i].name + ".second", dense.second()[i]);
  }
  out.emplace_back("memory.query_mean", network.query_mean());
  out.emplace_back("memory.query_variance", network.query_variance());
  out.emplace_back("memory.values", network.values());
  out.emplace_back("memory.values.first", rows.first());
  out.emplace_back("memory.values.second", rows.second());
  out.emplace_back("memory.values.steps", rows.steps());
  return out;
}

DType checkpoint_type(const at::Tensor& t) {
  return t.scalar_type() == at::kInt ? DType::kI32 : DType::kF32;
}

template <typename T>
T value_of(const Metadata& metadata, const std::string& key, const std::filesystem::path& file) {
  T value{};
  const auto it = metadata.find(key);
  if (it != metadata.end()) {
    const char* end = it->second.data() + it->second.size();
    const auto [at, error] = std::from_chars(it->second.data(), end, value);
    if (error == std::errc() && at == end) return value;
  }
  throw Error(ErrorCode::kFormat, accrete::format("{}: no number under `{}`", file.string(), key),
              "remove the run's folder to begin again");
}

void require_same(const Metadata& metadata, const std::string& key, const std::string& expected,
                  const std::filesystem::path& file, const std::string& what,
                  const std::string& hint) {
  const auto it = metadata.find(key);
  if (it == metadata.end() || it->second != expected)
    throw Error(ErrorCode::kConflict, accrete::format("{} was made {}", file.string(), what), hint);
}

}  // namespace

void save_checkpoint(const std::filesystem::path& file, const TrainingNetwork& network,
                     const DenseAdamW& dense, const RowAdam& rows, const RunState& state) {
  std::vector<TensorView> views;
  Named tensors = tensors_of(network, dense, rows);
  for (auto& [name, t] : tensors) {
    t = t.cpu();
    views.push_back({name,
                     checkpoint_type(t),
                     t.sizes().vec(),
                     {static_cast<const std::byte*>(t.const_data_ptr()), t.nbytes()}});
  }
  write_safetensors(file, views,
                    {{"format", kFormat},
                     {"step", std::to_string(state.step)},
                     {"seconds", accrete::format("{}", state.seconds)},
                     {"log_bytes", std::to_string(state.log_bytes)},
                     {"event_bytes", std::to_string(state.event_bytes)},
                     {"config_digest", state.config_digest},
                     {"text_digest", state.text_digest},
                     {"device", network.device().str()},
                     {"threads", std::to_string(state.threads)}});
}

void load_checkpoint(const std::filesystem::path& file, TrainingNetwork& network, DenseAdamW& dense,
                     RowAdam& rows, RunState& state) {
  const auto saved = SafetensorsFile::open(file);
  const Metadata& m = saved.metadata();
  require_same(m, "format", kFormat, file, "by another version",
               "remove the run's folder to begin again");
  require_same(m, "config_digest", state.config_digest, file, "with another config",
               "resume with the config it was begun with, or begin again in another folder");
  require_same(m, "text_digest", state.text_digest, file, "with other corpora or another tokenizer",
               "resume with the files it was begun with, or begin again in another folder");
  require_same(m, "threads", std::to_string(state.threads), file,
               accrete::format("with {} threads, not {}",
                               m.contains("threads") ? m.at("threads") : "?", state.threads),
               "give the same --threads: sums round otherwise with another number");
  require_same(m, "device", network.device().str(), file, "on another device",
               "give the --device it was begun with");
  const at::NoGradGuard no_grad;
  for (auto& [name, t] : tensors_of(network, dense, rows)) {
    const TensorView& view = saved.at(name);
    if (view.dtype != checkpoint_type(t) || view.shape != t.sizes().vec())
      throw Error(ErrorCode::kFormat, accrete::format("{}: `{}` does not fit", file.string(), name),
                  "remove the run's folder to begin again");
    auto read = at::empty(t.sizes(), at::TensorOptions().dtype(t.scalar_type()));
    std::memcpy(read.mutable_data_ptr(), view.bytes.data(), view.bytes.size());
    t.copy_(read);
  }
  state.step = value_of<int64_t>(m, "step", file);
  state.seconds = value_of<double>(m, "seconds", file);
  state.log_bytes = value_of<int64_t>(m, "log_bytes", file);
  state.event_bytes = value_of<int64_t>(m, "event_bytes", file);
  dense.set_steps(state.step);
}

}  // namespace accrete
