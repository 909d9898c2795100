#include "model/memory_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "io/safetensors.h"

namespace accrete {
namespace {

constexpr int kMemoryVersion = 1;  // of memory layers
constexpr int kNewestVersion = 2;  // of facts (fact_memory.h)

std::filesystem::path json_path(const std::filesystem::path& folder) {
  return folder / "accrete" / "memory.json";
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
                accrete::format("{}: `{}` has type {}, expected {}", path.string(), view.name,
                                dtype_name(view.dtype), dtype_name(dtype)));
  return at::from_blob(const_cast<std::byte*>(view.bytes.data()), view.shape, type).clone();
}

nlohmann::json gate_json(const Gate& gate) {
  nlohmann::json json = {{"radius", gate.radius}, {"softness", gate.softness}};
  if (gate.first_at.defined()) {
    const auto at = gate.first_at.contiguous();
    json["first_at"] = std::vector<float>(at.data_ptr<float>(), at.data_ptr<float>() + at.numel());
    json["first_radius"] = gate.first_radius;
  }
  return json;
}

}  // namespace

bool is_fitted(const nlohmann::json& info) {
  return info.value("kind", nlohmann::json()) == "fitted";
}

bool has_memory_files(const std::filesystem::path& folder) {
  return std::filesystem::exists(json_path(folder));
}

void save_memory(const std::filesystem::path& folder, const Memory& memory,
                 const AccessLog& background, const nlohmann::json& info) {
  const ProductKeyOptions& o = memory.keys.options();
  nlohmann::json json = info;
  json["version"] = kMemoryVersion;
  json["blocks"] = memory.blocks;
  json["kind"] = "learned";
  json["heads"] = o.heads;
  json["half_keys"] = o.half_keys;
  json["top_k"] = o.top_k;
  json["query_width"] = o.query_width;
  json["gate"] = gate_json(memory.gate);
  std::vector<Accesses> parts;
  for (const auto& part : background.parts()) parts.push_back(part.accesses);
  save_accesses(background_path(folder), concat(parts));
  write_file_atomically(json_path(folder), json.dump(2) + "\n");
}

nlohmann::json load_memory_info(const std::filesystem::path& folder) {
  const auto path = json_path(folder);
  auto json = nlohmann::json::parse(read_file(path), nullptr, false);
  if (!json.is_object() || !json.contains("version") || !json["version"].is_number_integer())
    throw Error(ErrorCode::kFormat, accrete::format("{} is damaged", path.string()),
                "run `accrete retrofit` again into a new folder");
  if (json["version"].get<int>() > kNewestVersion)
    throw Error(ErrorCode::kUnsupported,
                accrete::format("{} is of a newer version of accrete", path.string()),
                "update accrete");
  return json;
}

namespace {

// Those of the memory layer in the base.
ProductKeys load_learned_keys(const std::filesystem::path& folder, const ProductKeyOptions& options,
                              int64_t block, int64_t width) {
  const auto base = ShardedSafetensors::open(folder);
  const auto get = [&](const char* key) {
    const std::string name = accrete::format("model.layers.{}.memory.{}", block, key);
    const TensorView* view = base.find(name);
    if (view == nullptr)
      throw Error(ErrorCode::kFormat,
                  accrete::format("{}: the tensor `{}` is missing", folder.string(), name),
                  "was the model made by `accrete pretrain`?");
    return copy_of(*view, DType::kF32, at::kFloat, folder);
  };
  return ProductKeys::from_tensors(options, at::zeros({width}, at::kFloat), get("projection"),
                                   get("keys"), get("bias"));
}

}  // namespace

Memory load_memory(const std::filesystem::path& folder, const ModelConfig& config) {
  const auto json = load_memory_info(folder);
  const auto damaged = [&folder](const std::string& what) {
    return Error(ErrorCode::kFormat, accrete::format("{}: {}", json_path(folder).string(), what),
                 "run `accrete retrofit` again into a new folder");
  };
  if (is_fitted(json))
    throw Error(
        ErrorCode::kUnsupported,
        accrete::format(
            "{} was made by an earlier accrete: its memory layers were fitted to the model, which "
            "this version does not read",
            folder.string()),
        accrete::format(
            "run `accrete upgrade {} NEW`: it makes a new model of the base and teaches "
            "what the ledger has again",
            folder.string()));
  Memory memory;
  ProductKeyOptions o;
  std::string kind;
  try {
    memory.blocks = json.at("blocks").get<std::vector<int64_t>>();
    kind = json.at("kind").get<std::string>();
    o.heads = json.at("heads").get<int64_t>();
    o.half_keys = json.at("half_keys").get<int64_t>();
    o.top_k = json.at("top_k").get<int64_t>();
    o.query_width = json.at("query_width").get<int64_t>();
    memory.gate.radius = json.at("gate").at("radius").get<double>();
    memory.gate.softness = json.at("gate").at("softness").get<double>();
    if (json.at("gate").contains("first_at")) {
      memory.gate.first_at =
          at::tensor(json.at("gate").at("first_at").get<std::vector<float>>(), at::kFloat);
      memory.gate.first_radius = json.at("gate").at("first_radius").get<double>();
    }
  } catch (const nlohmann::json::exception& e) {
    throw damaged(e.what());
  }
  if (memory.blocks.empty() || memory.blocks.front() < 0 || memory.blocks.back() >= config.blocks ||
      std::adjacent_find(memory.blocks.begin(), memory.blocks.end(), std::greater_equal<>()) !=
          memory.blocks.end())
    throw damaged(accrete::format("its blocks are not possible in a model of {}", config.blocks));
  if (kind != "learned") throw damaged("there are no keys of kind " + kind);
  if (!(memory.gate.radius > 0) || !(memory.gate.softness > 0))
    throw damaged("the gate's radius and softness must be positive");
  if (memory.gate.first_at.defined() &&
      (memory.gate.first_at.size(0) != o.query_width || !(memory.gate.first_radius > 0)))
    throw damaged("the gate's first_at must have the width of a query, first_radius be positive");
  memory.address_block = memory.blocks.front();
  if (!config.memory || memory.blocks != std::vector<int64_t>{config.memory->block})
    throw damaged("learned keys belong to the block whose FFN is a memory, and to no other");
  memory.keys = load_learned_keys(folder, o, memory.address_block, config.width);
  if (memory.keys.width() != config.width)
    throw damaged(
        accrete::format("the keys have width {}, the model {}", memory.keys.width(), config.width));
  return memory;
}

void save_accesses(const std::filesystem::path& file, const Accesses& accesses) {
  TensorWriter writer;
  writer.add("slots", accesses.slots);
  writer.add("weights", accesses.weights.to(at::kHalf));
  writer.write(file, {});
}

Accesses load_accesses(const std::filesystem::path& path, const ProductKeys& keys) {
  const auto file = SafetensorsFile::open(path);
  Accesses a;
  a.slots = copy_of(file.at("slots"), DType::kI32, at::kInt, path);
  a.weights = copy_of(file.at("weights"), DType::kF16, at::kHalf, path).to(at::kFloat);
  if (a.slots.dim() != 2 || a.slots.size(1) != keys.accesses_per_token() ||
      a.weights.sizes() != a.slots.sizes() || !a.weights.isfinite().all().item<bool>() ||
      (a.slots.numel() > 0 &&
       (a.slots.max().item<int>() >= keys.slots() || a.slots.min().item<int>() < -1)))
    throw Error(ErrorCode::kFormat,
                accrete::format("{} does not fit the model's keys", path.string()),
                "it belongs to another model, or is damaged");
  return a;
}

AccessLog load_background(const std::filesystem::path& folder, const ProductKeys& keys) {
  AccessLog log;
  log.append(load_accesses(background_path(folder), keys), 1.0, /*background=*/true);
  return log;
}

}  // namespace accrete
