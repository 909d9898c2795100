#include "model/export.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "io/hf_folder.h"
#include "io/safetensors.h"
#include "io/staged_folder.h"
#include "io/strict_json.h"
#include "model/export_facts.h"
#include "model/fact_memory.h"
#include "model/language_model.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

// The classes of the modeling files are named by this.
std::string family_of(const std::string& model_type) {
  static const std::map<std::string, std::string> kKnown = {
      {"llama", "Llama"}, {"mistral", "Mistral"}, {"qwen2", "Qwen2"}, {"qwen3", "Qwen3"}};
  const auto it = kKnown.find(model_type);
  if (it == kKnown.end())
    throw Error(
        ErrorCode::kUnsupported,
        accrete::format("updates of a model of type \"{}\" cannot be exported yet", model_type),
        "undo the updates to export the base alone");
  return it->second;
}

// Opening checks the model; it is not run, so in the type of its file nothing is converted.
LanguageModel open_model(const fs::path& folder) {
  OpenOptions options;
  options.with_updates = false;
  if (fs::is_directory(folder) && fs::exists(folder / "config.json")) {
    const auto files = ShardedSafetensors::open(folder);
    const TensorView* embedding = files.find("model.embed_tokens.weight");
    if (embedding != nullptr && embedding->dtype == DType::kBF16) options.dtype = "bfloat16";
    if (embedding != nullptr && embedding->dtype == DType::kF16) options.dtype = "float16";
  }
  return LanguageModel::open(folder, options);
}

void write_json(const fs::path& path, const nlohmann::json& json) {
  write_file_atomically(path, json.dump(2) + "\n");
}

// Makes config.json name the classes `<classes>Config` and `<classes>ForCausalLM` of `module`, and
// say `memory` under `key`, which is also what the model type begins with.
void name_classes(const LanguageModel& model, const fs::path& folder, const std::string& key,
                  const std::string& module, const std::string& classes, nlohmann::json memory) {
  auto config = read_json_object(folder / "config.json");
  config["model_type"] = key + "_" + model.net().config().model_type;
  config["architectures"] = {classes + "ForCausalLM"};
  config["auto_map"] = {{"AutoConfig", module + "." + classes + "Config"},
                        {"AutoModelForCausalLM", module + "." + classes + "ForCausalLM"}};
  config[key] = std::move(memory);
  write_json(folder / "config.json", config);
}

void add_facts(const LanguageModel& model, const std::string& family,
               const std::vector<std::string>& updates, const fs::path& folder) {
  name_classes(model, folder, "accrete_facts", kFactsModule, "AccreteFacts" + family,
               write_exported_facts(model, updates, folder));
}

}  // namespace

ExportResult export_model(const fs::path& source, const fs::path& to, const Reporter& reporter) {
  LanguageModel model = open_model(source);
  if (model.net().config().memory)
    throw Error(
        ErrorCode::kUnsupported,
        accrete::format("{} cannot be exported: block {} has a memory in place of its FFN, "
                        "which transformers knows no class for",
                        source.string(), model.net().config().memory->block),
        "copy the folder instead: accrete opens it everywhere; updates are shared as files");
  ExportResult result;
  if (model.has_facts()) {
    const auto ledger = Ledger::open(source, Ledger::Mode::kRead);
    const auto active = ledger.active();
    for (const auto& record : active) result.updates.push_back(record.id);
    model.use_facts(model.facts().with(load_facts(ledger, active)));
  }
  const bool with_facts =
      model.has_facts() &&
      model.facts().store().size() > static_cast<int64_t>(model.facts().store().passages().size());
  const std::string family = with_facts ? family_of(model.net().config().model_type) : "";

  StagedFolder folder(to);
  copy_hf_folder(source, folder.path(), reporter, CopyWeights::kCopy);
  if (with_facts) add_facts(model, family, result.updates, folder.path());
  for (const auto& entry : fs::directory_iterator(folder.path()))
    result.files.push_back(entry.path().filename().string());
  std::sort(result.files.begin(), result.files.end());
  reporter.check_cancelled();
  folder.commit();
  return result;
}

}  // namespace accrete
