#include "model/memory_files.h"

#include "base/error.h"
#include "base/file.h"
#include "io/safetensors.h"

namespace accrete {
namespace {

constexpr int kVersion = 1;

std::filesystem::path json_path(const std::filesystem::path& folder) {
  return folder / "accrete" / "memory.json";
}
std::filesystem::path tensors_path(const std::filesystem::path& folder) {
  return folder / "accrete" / "memory.safetensors";
}
std::filesystem::path background_path(const std::filesystem::path& folder) {
  return folder / "accrete" / "background.safetensors";
}

DType file_type(at::ScalarType type) {
  switch (type) {
    case at::kInt:
      return DType::kI32;
    case at::kHalf:
      return DType::kF16;
    default:
      return DType::kF32;
  }
}

// Keeps tensors alive while their views are written.
class TensorWriter {
 public:
  void add(std::string name, const at::Tensor& tensor) {
    held_.push_back(tensor.to(at::kCPU).contiguous());
    const at::Tensor& t = held_.back();
    views_.push_back({std::move(name),
                      file_type(t.scalar_type()),
                      t.sizes().vec(),
                      {static_cast<const std::byte*>(t.data_ptr()), t.nbytes()}});
  }
  void write(const std::filesystem::path& path, const Metadata& metadata) const {
    write_safetensors(path, views_, metadata);
  }

 private:
  std::vector<at::Tensor> held_;
  std::vector<TensorView> views_;
};

at::Tensor copy_of(const TensorView& view, DType dtype, at::ScalarType type,
                   const std::filesystem::path& path) {
  if (view.dtype != dtype)
    throw Error(ErrorCode::kFormat,
                fmt::format("{}: `{}` has type {}, expected {}", path.string(), view.name,
                            dtype_name(view.dtype), dtype_name(dtype)));
  return at::from_blob(const_cast<std::byte*>(view.bytes.data()), view.shape, type).clone();
}

}  // namespace

bool has_memory_files(const std::filesystem::path& folder) {
  return std::filesystem::exists(json_path(folder));
}

void save_memory(const std::filesystem::path& folder, const MemoryLayers& layers,
                 const AccessLogs& background, const nlohmann::json& info) {
  nlohmann::json json = info;
  json["version"] = kVersion;
  json["layers"] = nlohmann::json::array();
  TensorWriter keys, log;
  for (const auto& [block, layer] : layers) {
    const ProductKeyOptions& o = layer.keys.options();
    json["layers"].push_back(
        {{"block", block},
         {"kind", layer.keys.kind() == ProductKeys::Kind::kFitted ? "fitted" : "learned"},
         {"heads", o.heads},
         {"half_keys", o.half_keys},
         {"top_k", o.top_k},
         {"query_width", o.query_width},
         {"whitening", o.whitening},
         {"temperature", o.temperature}});
    for (const auto& [name, tensor] : layer.keys.tensors())
      keys.add(fmt::format("{}.{}", block, name), tensor);
    if (const auto it = background.find(block); it != background.end()) {
      std::vector<Accesses> parts;
      for (const auto& part : it->second.parts()) parts.push_back(part.accesses);
      const Accesses all = concat(parts);
      log.add(fmt::format("{}.slots", block), all.slots);
      log.add(fmt::format("{}.weights", block), all.weights.to(at::kHalf));
    }
  }
  keys.write(tensors_path(folder), {});
  log.write(background_path(folder), {});
  write_file_atomically(json_path(folder), json.dump(2) + "\n");
}

nlohmann::json load_memory_info(const std::filesystem::path& folder) {
  const auto path = json_path(folder);
  auto json = nlohmann::json::parse(read_file(path), nullptr, false);
  if (!json.is_object() || !json.contains("layers") || !json["layers"].is_array() ||
      !json.contains("version") || !json["version"].is_number_integer())
    throw Error(ErrorCode::kFormat, fmt::format("{} is damaged", path.string()),
                "run `accrete retrofit` again into a new folder");
  if (json["version"].get<int>() > kVersion)
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{} is of a newer version of accrete", path.string()),
                "update accrete");
  return json;
}

MemoryLayers load_memory(const std::filesystem::path& folder, const ModelConfig& config) {
  const auto json = load_memory_info(folder);
  const auto path = tensors_path(folder);
  const auto file = SafetensorsFile::open(path);
  MemoryLayers layers;
  for (const auto& entry : json["layers"]) {
    int64_t block = 0;
    ProductKeyOptions o;
    std::string kind;
    try {
      block = entry.at("block").get<int64_t>();
      kind = entry.at("kind").get<std::string>();
      o.heads = entry.at("heads").get<int64_t>();
      o.half_keys = entry.at("half_keys").get<int64_t>();
      o.top_k = entry.at("top_k").get<int64_t>();
      o.query_width = entry.at("query_width").get<int64_t>();
      o.whitening = entry.at("whitening").get<double>();
      o.temperature = entry.at("temperature").get<double>();
    } catch (const nlohmann::json::exception& e) {
      throw Error(ErrorCode::kFormat,
                  fmt::format("{}: a layer is damaged: {}", json_path(folder).string(), e.what()));
    }
    if (block < 0 || block >= config.blocks || layers.contains(block) ||
        (kind != "fitted" && kind != "learned"))
      throw Error(ErrorCode::kFormat,
                  fmt::format("{}: layer {} is not possible in a model of {} blocks",
                              json_path(folder).string(), block, config.blocks));
    const auto get = [&](const char* name) {
      return copy_of(file.at(fmt::format("{}.{}", block, name)), DType::kF32, at::kFloat, path);
    };
    auto keys = ProductKeys::from_tensors(
        kind == "fitted" ? ProductKeys::Kind::kFitted : ProductKeys::Kind::kLearned, o, get("mean"),
        get("projection"), get("keys"), get("bias"));
    if (keys.width() != config.width)
      throw Error(ErrorCode::kFormat,
                  fmt::format("{}: layer {} has width {}, the model {}", path.string(), block,
                              keys.width(), config.width));
    layers.emplace(block, MemoryLayer{std::move(keys), {}});
  }
  return layers;
}

namespace {

// One layer's accesses, checked against its keys.
Accesses read_accesses(const SafetensorsFile& file, const std::filesystem::path& path,
                       int64_t block, const MemoryLayer& layer) {
  Accesses a;
  a.slots = copy_of(file.at(fmt::format("{}.slots", block)), DType::kI32, at::kInt, path);
  a.weights = copy_of(file.at(fmt::format("{}.weights", block)), DType::kF16, at::kHalf, path)
                  .to(at::kFloat);
  const int64_t K = layer.keys.accesses_per_token();
  if (a.slots.dim() != 2 || a.slots.size(1) != K || a.weights.sizes() != a.slots.sizes() ||
      (a.slots.numel() > 0 &&
       (a.slots.max().item<int>() >= layer.keys.slots() || a.slots.min().item<int>() < -1)))
    throw Error(ErrorCode::kFormat,
                fmt::format("{}: the log of layer {} does not fit its keys", path.string(), block));
  return a;
}

}  // namespace

void save_update_log(const std::filesystem::path& file,
                     const std::map<int64_t, Accesses>& accesses) {
  TensorWriter writer;
  for (const auto& [block, a] : accesses) {
    writer.add(fmt::format("{}.slots", block), a.slots);
    writer.add(fmt::format("{}.weights", block), a.weights.to(at::kHalf));
  }
  writer.write(file, {});
}

void append_update_log(const std::filesystem::path& file, const MemoryLayers& layers, double weight,
                       AccessLogs& logs) {
  const auto tensors = SafetensorsFile::open(file);
  for (const auto& [block, layer] : layers)
    if (tensors.find(fmt::format("{}.slots", block)) != nullptr)
      logs[block].append(read_accesses(tensors, file, block, layer), weight, false);
}

AccessLogs load_background(const std::filesystem::path& folder, const MemoryLayers& layers) {
  const auto path = background_path(folder);
  const auto file = SafetensorsFile::open(path);
  AccessLogs logs;
  for (const auto& [block, layer] : layers)
    logs[block].append(read_accesses(file, path, block, layer), 1.0, /*background=*/true);
  return logs;
}

}  // namespace accrete
