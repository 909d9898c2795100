#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "io/safetensors.h"
#include "io/strict_json.h"
#include "io/utf8.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& index, const std::string& what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}: {}", index.string(), what),
              "the model is incomplete or damaged; fetch it again");
}

// Only plain names: an index from elsewhere must not make us open files outside the folder.
bool is_shard_name(const std::string& name) {
  constexpr std::string_view kSuffix = ".safetensors";
  return name.size() > kSuffix.size() && name.ends_with(kSuffix) &&
         name.find('/') == std::string::npos && name.find('\\') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

using WeightMap = std::map<std::string, std::vector<std::string>>;  // shard: tensors

WeightMap read_index(const fs::path& path) {
  const nlohmann::json index = read_json_object(path);
  const auto found = index.find("weight_map");
  if (found == index.end() || !found->is_object() || found->empty())
    fail(path, "\"weight_map\" is missing or not an object with entries");
  WeightMap map;
  for (const auto& [tensor, shard] : found->items()) {
    if (!shard.is_string()) fail(path, accrete::format("tensor {}: no file name", shown(tensor)));
    const auto& name = shard.get_ref<const std::string&>();
    if (!is_shard_name(name))
      fail(path,
           accrete::format("tensor {}: {} is not the name of a .safetensors file in this folder",
                           shown(tensor), shown(name)));
    map[name].push_back(tensor);  // the keys of a JSON object come sorted
  }
  return map;
}

}  // namespace

ShardedSafetensors ShardedSafetensors::open(const fs::path& folder) {
  ShardedSafetensors model;
  const fs::path single = folder / "model.safetensors";
  const fs::path index = folder / "model.safetensors.index.json";
  std::error_code ignored;
  if (fs::exists(single, ignored)) {
    model.shards_.push_back(SafetensorsFile::open(single));
    model.files_.push_back(single);
    return model;
  }
  if (!fs::exists(index, ignored))
    throw Error(ErrorCode::kNotFound,
                accrete::format("{} has neither model.safetensors nor model.safetensors.index.json",
                                folder.string()),
                "name a Hugging Face model folder; weights in other formats (.bin, .pt) must be "
                "saved as safetensors first");
  for (const auto& [name, tensors] : read_index(index)) {
    const fs::path path = folder / name;
    if (!fs::exists(path, ignored))
      fail(index, accrete::format("it names the file {}, which is not there", shown(name)));
    SafetensorsFile shard = SafetensorsFile::open(path);
    for (const std::string& tensor : tensors)
      if (shard.find(tensor) == nullptr)
        fail(index, accrete::format("it puts tensor {} into {}, which does not hold it",
                                    shown(tensor), shown(name)));
    for (const TensorView& tensor : shard.tensors())
      if (!std::binary_search(tensors.begin(), tensors.end(), tensor.name))
        fail(index, accrete::format("{} holds tensor {}, which the index does not put there",
                                    shown(name), shown(tensor.name)));
    model.shards_.push_back(std::move(shard));
    model.files_.push_back(path);
  }
  return model;
}

const TensorView* ShardedSafetensors::find(std::string_view name) const {
  for (const SafetensorsFile& shard : shards_)
    if (const TensorView* tensor = shard.find(name)) return tensor;
  return nullptr;
}

std::vector<const TensorView*> ShardedSafetensors::tensors() const {
  std::vector<const TensorView*> all;
  for (const SafetensorsFile& shard : shards_)
    for (const TensorView& tensor : shard.tensors()) all.push_back(&tensor);
  std::sort(all.begin(), all.end(),
            [](const TensorView* a, const TensorView* b) { return a->name < b->name; });
  return all;
}

std::vector<fs::path> ShardedSafetensors::files() const {
  return files_;
}

}  // namespace accrete
