#include "model/export_facts.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "ledger/facts.h"
#include "memory/acceptance.h"
#include "model/chat_tokens.h"
#include "model/fact_memory.h"
#include "model/reader_config.h"
#include "text/contrast.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFactsModeling =
#include "modeling_accrete_facts.inc"
    ;
constexpr const char* kTensors = "accrete_facts.safetensors";
constexpr const char* kTexts = "accrete_facts.json";
constexpr const char* kReader = "reader";
constexpr int kFactsVersion = 1;

// Files are synced here: StagedFolder does so for the files of its own folder only.
std::vector<std::string> copy_reader(const fs::path& from, const fs::path& to) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(from))
    if (entry.is_regular_file())
      names.push_back(entry.path().lexically_relative(from).generic_string());
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    fs::create_directories((to / name).parent_path());
    const MappedFile file(from / name);
    AtomicFile copy(to / name);
    copy.write(file.bytes());
    copy.commit();
  }
  return names;
}

template <typename T>
void append_part(std::vector<T>& to, const std::vector<T>& from, int64_t first, int64_t count) {
  to.insert(to.end(), from.begin() + first, from.begin() + first + count);
}

// All facts of a store as if one update had taught them.
UpdateFacts joined(const FactStore& store) {
  UpdateFacts out;
  out.key_width = store.key_width();
  for (int64_t i = 0; i < store.size(); ++i) {
    const StoredFact& fact = store.fact(i);
    if (fact.text().passage()) continue;
    const UpdateFacts& from = fact.update->facts;
    const auto item = static_cast<int64_t>(fact.item);
    const int64_t w = out.key_width, d = from.width;
    if (d > 0) out.width = d;
    append_part(out.vectors, from.vectors, item, 1);
    append_part(out.values, from.values, fact.first_vector * d, fact.vectors() * d);
    append_part(out.whole, from.whole, fact.first_key * w, fact.keys() * w);
    append_part(out.masked, from.masked, fact.first_key * w, fact.keys() * w);
    append_part(out.scales, from.scales, fact.first_key * 2, fact.keys() * 2);
    append_part(out.answers, from.answers, item * w, w);
    append_part(out.answer_scales, from.answer_scales, item, 1);
  }
  return out;
}

nlohmann::json texts(const FactStore& store) {
  nlohmann::json out = nlohmann::json::array();
  for (int64_t i = 0; i < store.size(); ++i) {
    const StoredFact& fact = store.fact(i);
    const TaughtItem& item = fact.text();
    if (item.passage()) continue;
    out.push_back({{"id", fact.id},
                   {"update", fact.update_id},
                   {"line", item.line},
                   {"wordings", item.prompts},
                   {"answers", item.answers},
                   {"subject", item.subject},
                   {"raw", item.raw},
                   {"verbatim", item.verbatim},
                   {"leave", item.leave}});
  }
  return out;
}

nlohmann::json acceptance(const AcceptanceRule& rule) {
  nlohmann::json out;
  for (const AcceptanceTerm& term : acceptance_terms()) out[term.name] = rule.*(term.value);
  return out;
}

}  // namespace

nlohmann::json write_exported_facts(const LanguageModel& model,
                                    const std::vector<std::string>& updates,
                                    const fs::path& folder) {
  const FactMemory& memory = model.facts();
  const FactStore& store = memory.store();
  const FactMemoryInfo& info = memory.info();
  const Reader& reader = memory.reader();  // checks that it is the one of the keys
  const fs::path from = model.folder() / "accrete" / "reader";
  const auto files = copy_reader(from, folder / kReader);

  const UpdateFacts facts = joined(store);
  std::vector<TensorView> views;
  append_tensors(facts, views);
  write_safetensors(folder / kTensors, views, {{"format", "pt"}});

  const bool first = ReaderConfig::from_folder(from).pool_first;
  const nlohmann::json json = {{"version", kFactsVersion},
                               {"block", info.sites.block},
                               {"at_end", info.sites.at_end},
                               {"every", info.sites.every},
                               {"tell", tell_name(info.tell)},
                               {"caution", info.caution},
                               {"stop_ids", model.stop_ids()},
                               {"end_of_chat", end_token(model, /*chat=*/true)},
                               {"end_of_text", end_token(model, /*chat=*/false)},
                               {"reader",
                                {{"files", files},
                                 {"max_tokens", reader.max_tokens()},
                                 {"pooling", first ? "first" : "mean"}}},
                               {"acceptance", acceptance(reader.acceptance())},
                               {"contrasts", contrast_table()},
                               {"facts", texts(store)}};
  write_file_atomically(folder / kTexts, json.dump(1) + "\n");
  write_file_atomically(folder / (std::string(kFactsModule) + ".py"), kFactsModeling);
  return {{"version", kFactsVersion},
          {"updates", updates},
          {"facts", store.size() - static_cast<int64_t>(store.passages().size())}};
}

}  // namespace accrete
