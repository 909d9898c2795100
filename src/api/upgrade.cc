#include "api/upgrade.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/safetensors.h"
#include "learn/new_model.h"
#include "measure/fact_probe.h"
#include "measure/probe.h"
#include "model/memory_files.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

// What an update of an earlier accrete was taught; of its other tensors nothing is read.
std::vector<TaughtItem> lessons_of(const fs::path& file, const std::string& id) {
  const MappedFile mapped(file);
  if (!sha256_hex(mapped.bytes()).starts_with(id))
    throw Error(ErrorCode::kFormat,
                accrete::format("{}: its content is not that of update {}", file.string(), id),
                "get the file again");
  std::vector<TensorView> tensors;
  Metadata metadata;
  parse_safetensors(mapped.bytes(), file.string(), tensors, metadata);
  for (const TensorView& t : tensors)
    if (t.name == "taught.items")
      return taught_items_from_text({reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size()},
                                    file.string());
  return {};
}

Item item_of(const TaughtItem& taught) {
  Item item;
  item.prompts = taught.prompts;
  item.answers = taught.answers;
  item.subject = taught.subject;
  item.line = taught.line;
  return item;
}

void teach_again(const UpdateRecord& record, const fs::path& file, const fs::path& target,
                 const OpenOptions& open, const TeachOptions& how, const Reporter& reporter,
                 UpgradeResult& result) {
  UpgradedUpdate upgraded{record.id, "", record.source, 0};
  const auto leave = [&](int64_t line, std::string what, std::string why) {
    result.left.push_back({record.id, record.source, line, std::move(what), std::move(why)});
  };
  // A fold can hold lessons of both kinds.
  Dataset sets[2];
  for (const TaughtItem& taught : lessons_of(file, record.id)) {
    if (!taught.prompts.empty())
      sets[taught.raw ? 1 : 0].items.push_back(item_of(taught));
    else if (!taught.excerpt.empty())
      leave(taught.line, taught.excerpt, "only the beginning of a text or conversation is kept");
  }
  for (const bool raw : {false, true}) {
    Dataset& set = sets[raw ? 1 : 0];
    if (set.items.empty()) continue;
    set.path = record.source;
    set.digest = record.source_digest;
    TeachOptions options = how;
    options.raw = raw;
    try {
      const TeachResult taught = teach(target, set, open, options, reporter);
      upgraded.id = taught.update;
      upgraded.facts += static_cast<int64_t>(set.items.size() - taught.dropped_lines.size());
      for (const int64_t line : taught.dropped_lines)
        leave(line, "a fact", "a probe's floor would have broken");
    } catch (const Error& e) {
      if (e.code() != ErrorCode::kRefused && e.code() != ErrorCode::kInvalidArgument &&
          e.code() != ErrorCode::kConflict)
        throw;
      leave(0, accrete::format("{} facts", set.items.size()), e.what());
    }
  }
  result.updates.push_back(std::move(upgraded));
}

// Probes are measured on the new model before anything is taught, as they were on the old one.
void bring_probes(const Ledger& from, const fs::path& target, const OpenOptions& open,
                  const Reporter& reporter, UpgradeResult& result) {
  auto probes = load_probes(from);
  if (probes.empty()) return;
  Ledger ledger = Ledger::open(target, Ledger::Mode::kWrite);
  const LanguageModel model = LanguageModel::open(target, open);
  for (Probe& probe : probes) {
    if (!probe.is_text())
      probe.record.details["base_answers"] = base_answers(model, probe, reporter);
    probe.record.base = probe_score(model, probe, reporter);
    probe.record.details["state"] = state_key(ledger.active());
    const std::string name = probe.record.name;
    ledger.add_probe(probe.record, from.probe_items(name));
    result.probes.push_back(name);
  }
}

}  // namespace

bool has_fitted_memory(const fs::path& folder) {
  return has_memory_files(folder) && is_fitted(load_memory_info(folder));
}

UpgradeResult upgrade(const fs::path& source, const fs::path& target,
                      const RetrofitFactsOptions& options, const TeachOptions& how,
                      const Reporter& reporter) {
  if (!fs::is_directory(source))
    throw Error(ErrorCode::kNotFound,
                accrete::format("there is no model folder {}", source.string()));
  if (!has_fitted_memory(source))
    throw Error(
        ErrorCode::kInvalidArgument,
        accrete::format(
            "{} has no memory that an earlier accrete fitted to it: there is nothing to upgrade",
            source.string()),
        "use it as it is");
  const Ledger ledger = Ledger::open(source, Ledger::Mode::kRead);
  NewModelFolder staging(target);
  UpgradeResult result;
  RetrofitFactsOptions again = options;
  again.again = true;
  result.model = retrofit_facts(source, staging.path(), again, reporter);
  bring_probes(ledger, staging.path(), options.open, reporter, result);
  for (const UpdateRecord& record : ledger.active())
    teach_again(record, ledger.folder() / "updates" / update_file_name(record.id), staging.path(),
                options.open, how, reporter, result);
  reporter.check_cancelled();
  staging.commit();
  return result;
}

}  // namespace accrete
