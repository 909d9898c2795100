#include "learn/compact.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "learn/earlier.h"
#include "learn/fact_inspect.h"
#include "ledger/combine.h"
#include "ledger/ledger.h"
#include "model/fact_memory.h"

namespace accrete {
namespace {

int64_t bytes_of_file(const Ledger& ledger, const std::string& id) {
  return static_cast<int64_t>(
      std::filesystem::file_size(ledger.folder() / "updates" / update_file_name(id)));
}

std::string digest_with(LanguageModel& model, const std::vector<const Update*>& updates) {
  model.use_overlay(model.make_overlay(updates));
  return model.state_digest();
}

}  // namespace

CompactResult compact(const std::filesystem::path& folder, const OpenOptions& open,
                      const std::string& tool_version, const Reporter& reporter) {
  if (has_fact_memory(folder))
    return compact_facts(folder, open_in_state(folder, open), tool_version, reporter);
  Ledger ledger = Ledger::open(folder, Ledger::Mode::kWrite);
  const auto earlier = load_earlier(ledger);
  OpenOptions bare = open;
  bare.with_updates = false;
  LanguageModel model = LanguageModel::open(folder, bare);

  CompactResult result;
  std::vector<const Update*> before;
  for (const EarlierUpdate& e : earlier) {
    before.push_back(&e.update);
    result.rows_before += rows_of(e.update);
    result.bytes_before += bytes_of_file(ledger, e.record.id);
  }
  struct Fold {
    Update update;
    UpdateRecord record;
  };
  std::vector<Fold> folds;
  std::vector<const Update*> after;
  for (const Reach reach : {Reach::kSubjects, Reach::kText, Reach::kEverywhere}) {
    std::vector<Update> group;
    nlohmann::json folded = nlohmann::json::array();
    Fold fold;
    for (const EarlierUpdate& e : earlier) {
      if (reach_of(e.update) != reach) continue;
      reporter.check_cancelled();
      group.push_back(e.update);
      // How many of the taught items are whose: `line` counts in the source of each.
      folded.push_back({{"id", e.record.id}, {"taught", e.update.taught.items.size()}});
      fold.record.items += e.record.items;
    }
    if (group.size() < 2) {
      for (const EarlierUpdate& e : earlier)
        if (reach_of(e.update) == reach) after.push_back(&e.update);
      continue;
    }
    for (const auto& f : folded) result.folded.push_back(f["id"]);
    fold.update = fold_updates(group);
    fold.record.source = accrete::format("fold of {} updates", group.size());
    fold.record.parent = earlier.back().record.id;
    fold.record.method = reach == Reach::kEverywhere ? "fold" : "fold+gate";
    fold.record.tool_version = tool_version;
    fold.record.measurements["folds"] = folded;
    fold.update.metadata["method"] = fold.record.method;
    fold.update.metadata["parent"] = fold.record.parent;
    fold.update.metadata["tool_version"] = tool_version;
    folds.push_back(std::move(fold));
  }
  if (folds.empty())
    throw Error(ErrorCode::kRefused, "there is nothing to fold",
                "it takes two active updates that speak at the same kind of place");
  for (const Fold& fold : folds) after.push_back(&fold.update);
  result.digest_before = digest_with(model, before);
  result.digest_after = digest_with(model, after);
  if (result.digest_before != result.digest_after)
    throw Error(ErrorCode::kInternal, "folding would change the state; nothing was committed",
                "please report this");
  for (const Fold& fold : folds)
    result.updates.push_back(ledger.commit(fold.update, fold.record).id);
  for (const auto& record : ledger.active()) {
    result.rows_after += record.rows;
    result.bytes_after += bytes_of_file(ledger, record.id);
  }
  return result;
}

}  // namespace accrete
