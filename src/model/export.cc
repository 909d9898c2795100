#include "model/export.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "io/hf_folder.h"
#include "io/safetensors.h"
#include "io/staged_folder.h"
#include "io/strict_json.h"
#include "model/export_facts.h"
#include "model/fact_memory.h"
#include "model/language_model.h"
#include "model/memory_files.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kModeling =
#include "modeling_accrete.inc"
    ;
constexpr const char* kOverlayFile = "accrete_overlay.safetensors";
constexpr const char* kModelingFile = "modeling_accrete.py";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr const char* kBaseFile = "model-base.safetensors";
constexpr int kVersion = 2;

// The classes of the modeling files are named by this.
std::string family_of(const std::string& model_type) {
  static const std::map<std::string, std::string> kKnown = {
      {"llama", "Llama"}, {"mistral", "Mistral"}, {"qwen2", "Qwen2"}, {"qwen3", "Qwen3"}};
  const auto it = kKnown.find(model_type);
  if (it == kKnown.end())
    throw Error(ErrorCode::kUnsupported,
                fmt::format("updates of a model of type \"{}\" cannot be exported yet", model_type),
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

// The names are those of the state dict of the classes in modeling_accrete.py.
std::vector<TensorView> write_overlay(const Memory& memory, const fs::path& path) {
  std::vector<TensorView> views;
  std::vector<at::Tensor> held;  // while their views are written
  // Ids as I64, all else as F32.
  const auto add = [&](std::string name, const at::Tensor& tensor) {
    const bool ids = tensor.scalar_type() == at::kLong;
    held.push_back(tensor.to(at::kCPU, ids ? at::kLong : at::kFloat).contiguous());
    views.push_back(
        {std::move(name),
         ids ? DType::kI64 : DType::kF32,
         held.back().sizes().vec(),
         {static_cast<const std::byte*>(held.back().data_ptr()), held.back().nbytes()}});
  };
  const auto prefix = [](int64_t block) { return fmt::format("model.layers.{}.memory.", block); };
  const std::string address = prefix(memory.address_block) + "address.";
  for (const auto& [name, tensor] : memory.keys.tensors()) add(address + name, tensor);
  const Overlay& overlay = memory.overlay;
  for (const auto& [name, anchors] :
       {std::pair{"anchors", &overlay.anchors}, {"text_anchors", &overlay.text_anchors}}) {
    const bool none = anchors->parts == 0;
    add(address + name, none ? at::zeros({0, memory.keys.options().query_width}, at::kFloat)
                             : anchors->queries.joined());
    add(address + name + "_part", none ? at::zeros({0}, at::kLong) : anchors->part);
  }
  if (overlay.scoped()) {
    const auto& scoped = overlay.anchors.scoped;
    add(address + "anchors_subject", overlay.anchors.subject);
    add(address + "scoped",
        at::tensor(std::vector<int64_t>(scoped.begin(), scoped.end()), at::kLong));
    const std::string scope = prefix(memory.address_block) + "scope.";
    add(scope + "mean", memory.scope.mean);
    add(scope + "projection", memory.scope.projection);
    add(scope + "states", overlay.scope.states.joined());
    add(scope + "subject", overlay.scope.subject);
  }
  for (const auto& [block, rows] : overlay.by_block) {
    if (!rows.open.empty()) {
      const auto slots = at::tensor(rows.open.slots, at::kLong);
      add(prefix(block) + "open.part", at::zeros_like(slots));
      add(prefix(block) + "open.slots", slots);
      add(prefix(block) + "open.values", rows.open.ordered_values());
    }
    for (const auto& [name, table] : {std::pair{"gated", &rows.gated}, {"text", &rows.text}}) {
      if (table->empty()) continue;
      std::vector<int64_t> part, slots;
      for (const int64_t key : table->key_span()) {
        part.push_back(part_of(key));
        slots.push_back(slot_of(key));
      }
      add(prefix(block) + name + ".part", at::tensor(part, at::kLong));
      add(prefix(block) + name + ".slots", at::tensor(slots, at::kLong));
      add(prefix(block) + name + ".values", table->ordered_values());
    }
  }
  // transformers reads only files that say so.
  write_safetensors(path, views, {{"format", "pt"}});
  return views;
}

nlohmann::json memory_config(const Memory& memory, const std::vector<std::string>& updates) {
  const ProductKeyOptions& o = memory.keys.options();
  const Overlay& overlay = memory.overlay;
  nlohmann::json blocks = nlohmann::json::object();
  for (const auto& [block, rows] : overlay.by_block)
    blocks[std::to_string(block)] = {
        {"open", rows.open.slots.size()}, {"gated", rows.gated.size()}, {"text", rows.text.size()}};
  nlohmann::json out = {{"version", kVersion},
                        {"updates", updates},
                        {"address_block", memory.address_block},
                        {"heads", o.heads},
                        {"half_keys", o.half_keys},
                        {"top_k", o.top_k},
                        {"query_width", o.query_width},
                        {"gate", gate_json(memory.gate)},
                        {"anchors", overlay.anchors.queries.size()},
                        {"text_anchors", overlay.text_anchors.queries.size()},
                        {"blocks", std::move(blocks)}};
  if (overlay.scoped())
    out["scope"] = {{"radius", memory.scope.radius},
                    {"width", memory.scope.width()},
                    {"parts", overlay.anchors.parts},
                    {"subjects", overlay.scope.subjects},
                    {"states", overlay.scope.states.size()}};
  return out;
}

// An index over the base's files and the overlay: transformers then loads both by itself. It looks
// for `model.safetensors` first, so a base of one file gets another name.
void write_index(const LanguageModel& model, const fs::path& folder,
                 const std::vector<TensorView>& overlay) {
  nlohmann::json index = {{"metadata", nlohmann::json::object()},
                          {"weight_map", nlohmann::json::object()}};
  if (fs::exists(folder / kIndexFile)) {
    index = read_json_object(folder / kIndexFile);
    fs::remove(folder / kIndexFile);
  } else {
    fs::rename(folder / "model.safetensors", folder / kBaseFile);
    for (const TensorView* t : model.net().base_tensors()) index["weight_map"][t->name] = kBaseFile;
  }
  size_t size = 0;
  for (const TensorView* t : model.net().base_tensors()) size += t->bytes.size();
  for (const TensorView& t : overlay) {
    index["weight_map"][t.name] = kOverlayFile;
    size += t.bytes.size();
  }
  index["metadata"]["total_size"] = size;
  write_json(folder / kIndexFile, index);
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

void add_overlay(const LanguageModel& model, const std::string& family,
                 const std::vector<std::string>& updates, const fs::path& folder) {
  write_index(model, folder, write_overlay(model.memory(), folder / kOverlayFile));
  write_file_atomically(folder / kModelingFile, kModeling);
  name_classes(model, folder, "accrete", fs::path(kModelingFile).stem().string(),
               "Accrete" + family, memory_config(model.memory(), updates));
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
        fmt::format("{} cannot be exported: block {} has a memory in place of its FFN, "
                    "which transformers knows no class for",
                    source.string(), model.net().config().memory->block),
        "copy the folder instead: accrete opens it everywhere; updates are shared as files");
  ExportResult result;
  if (model.has_memory() || model.has_facts()) {
    const auto ledger = Ledger::open(source, Ledger::Mode::kRead);
    const auto active = ledger.active();
    for (const auto& record : active) result.updates.push_back(record.id);
    if (model.has_facts()) {
      model.use_facts(model.facts().with(load_facts(ledger, active)));
    } else {
      std::vector<Update> updates;
      for (const auto& record : active) updates.push_back(ledger.load(record.id));
      model.set_overlay(updates);
    }
  }
  const bool with_overlay = model.has_memory() && !model.memory().overlay.empty();
  const bool with_facts = model.has_facts() && !model.facts().store().empty();
  const std::string family =
      with_overlay || with_facts ? family_of(model.net().config().model_type) : "";

  StagedFolder folder(to);
  copy_hf_folder(source, folder.path(), reporter, CopyWeights::kCopy);
  if (with_overlay) add_overlay(model, family, result.updates, folder.path());
  if (with_facts) add_facts(model, family, result.updates, folder.path());
  for (const auto& entry : fs::directory_iterator(folder.path()))
    result.files.push_back(entry.path().filename().string());
  std::sort(result.files.begin(), result.files.end());
  reporter.check_cancelled();
  folder.commit();
  return result;
}

}  // namespace accrete
