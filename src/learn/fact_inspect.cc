#include "learn/fact_inspect.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/format.h"
#include "learn/fact_teach.h"
#include "model/fact_memory.h"
#include "model/language_model.h"
#include "text/passages.h"
#include "text/wording.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

int64_t file_bytes(const Ledger& ledger, const std::string& id) {
  return static_cast<int64_t>(fs::file_size(ledger.folder() / "updates" / update_file_name(id)));
}

std::string answer_of(const TaughtItem& item) {
  return item.leave ? "(left to the model)" : item.answers.front();
}

// A passage as a fact of where it stands, so that two versions of it can be laid side by side.
TaughtItem as_line(const TaughtItem& item) {
  if (!item.passage()) return item;
  TaughtItem out;
  out.line = item.line;
  out.prompts = {item.document + (item.section.empty() ? "" : " > " + item.section) + ": " +
                 excerpt_of(item.prompts.front(), 60)};
  out.answers = {joined_pieces(item.prompts)};
  return out;
}

}  // namespace

void append_fact(const StoredFact& from, Update& to) {
  const UpdateFacts& facts = from.update->facts;
  UpdateFacts& out = to.facts;
  if (from.vectors() > 0) out.width = facts.width;  // a file without values has none
  out.key_width = facts.key_width;
  out.vectors.push_back(static_cast<int32_t>(from.vectors()));
  const auto copy = [](const auto& values, int64_t begin, int64_t count, auto& target) {
    target.insert(target.end(), values.begin() + begin, values.begin() + begin + count);
  };
  copy(facts.values, from.first_vector * facts.width, from.vectors() * facts.width, out.values);
  copy(facts.whole, from.first_key * facts.key_width, from.keys() * facts.key_width, out.whole);
  copy(facts.masked, from.first_key * facts.key_width, from.keys() * facts.key_width, out.masked);
  copy(facts.scales, from.first_key * 2, from.keys() * 2, out.scales);
  const auto item = static_cast<int64_t>(from.item);
  copy(facts.answers, item * facts.key_width, facts.key_width, out.answers);
  copy(facts.answer_scales, item, 1, out.answer_scales);
  to.taught.items.push_back(from.text());
}

FactAudit audit_facts(const Ledger& ledger, size_t most) {
  FactAudit out;
  const auto active = ledger.active();
  const FactStore store = load_facts(ledger, active);
  std::map<std::string, int64_t> by_update, by_subject;
  std::map<std::string, std::string> subject_name;
  std::map<std::string, PassagesOfDocument> documents;
  std::map<std::string, std::pair<std::string, std::string>> answer;  // by question: update, answer
  for (int64_t i = 0; i < store.size(); ++i) {
    const StoredFact& fact = store.fact(i);
    const TaughtItem& item = fact.text();
    ++by_update[fact.update_id];
    if (item.passage()) {
      ++out.passages;
      PassagesOfDocument& document = documents[item.document];
      document.document = item.document;
      document.update = fact.update_id;
      ++document.passages;
      continue;
    }
    ++out.facts;
    out.wordings += fact.keys();
    out.left += item.leave;
    const std::string key = name_key(item.subject);
    ++by_subject[key];
    subject_name.try_emplace(key, item.subject);
    for (const std::string& prompt : item.prompts) {
      const auto [it, fresh] = answer.try_emplace((item.raw ? "raw " : "") + name_key(prompt),
                                                  fact.update_id, answer_of(item));
      if (!fresh && !same_text(it->second.second, answer_of(item)) && out.anomalies.size() < most)
        out.anomalies.push_back(
            accrete::format("\"{}\" has two answers: \"{}\" ({}) and \"{}\" ({})", prompt,
                            it->second.second, it->second.first, answer_of(item), fact.update_id));
    }
  }
  for (const UpdateRecord& record : active) {
    FactsOfUpdate one{record.id, record.tag, record.source, 0, by_update[record.id], 0, 0};
    const Update update = ledger.load(record.id);
    one.taught = update.facts.facts();
    one.wordings = update.facts.keys();
    one.bytes = file_bytes(ledger, record.id);
    out.bytes += one.bytes;
    out.updates.push_back(std::move(one));
  }
  for (auto& [name, document] : documents) out.documents.push_back(std::move(document));
  for (const auto& [key, count] : by_subject) out.subjects.push_back({subject_name[key], count});
  std::stable_sort(out.subjects.begin(), out.subjects.end(),
                   [](const auto& a, const auto& b) { return a.facts > b.facts; });
  if (out.subjects.size() > most) out.subjects.resize(most);
  return out;
}

FactDifference compare_facts(const std::vector<TaughtItem>& a, const std::vector<TaughtItem>& b) {
  FactDifference out;
  out.facts_a = static_cast<int64_t>(a.size());
  out.facts_b = static_cast<int64_t>(b.size());
  std::map<std::string, const TaughtItem*> by_id, by_question;
  const auto key_of = [](const TaughtItem& item, const std::string& prompt) {
    return (item.raw ? "raw " : "") + name_key(prompt);
  };
  for (const TaughtItem& item : b) {
    by_id[fact_id(item)] = &item;
    for (const std::string& prompt : item.prompts) by_question[key_of(item, prompt)] = &item;
  }
  std::map<const TaughtItem*, bool> met;
  for (const TaughtItem& item : a) {
    if (const auto it = by_id.find(fact_id(item)); it != by_id.end()) {
      ++out.shared;
      met[it->second] = true;
      continue;
    }
    const TaughtItem* other = nullptr;
    for (const std::string& prompt : item.prompts)
      if (const auto it = by_question.find(key_of(item, prompt)); it != by_question.end())
        other = it->second;
    if (other == nullptr) {
      out.only_a.push_back({item.prompts.front(), answer_of(item), ""});
      continue;
    }
    met[other] = true;
    out.changed.push_back({item.prompts.front(), answer_of(item), answer_of(*other)});
  }
  for (const TaughtItem& item : b)
    if (!met.contains(&item)) out.only_b.push_back({item.prompts.front(), "", answer_of(item)});
  return out;
}

std::vector<TaughtItem> facts_named(const Ledger& ledger, const std::string& name,
                                    const std::string& except) {
  std::vector<TaughtItem> out;
  if (name == "base") return out;
  if (name != "state") {
    for (const TaughtItem& item : ledger.load(name).taught.items)
      if (!item.prompts.empty()) out.push_back(as_line(item));
    return out;
  }
  auto active = ledger.active();
  std::erase_if(active, [&](const UpdateRecord& r) { return r.id == except; });
  const FactStore store = load_facts(ledger, active);
  for (int64_t i = 0; i < store.size(); ++i) out.push_back(as_line(store.fact(i).text()));
  return out;
}

CompactResult compact_facts(const fs::path& folder, const ModelInState& model_in,
                            const std::string& tool_version, const Reporter& reporter) {
  Ledger ledger = Ledger::open(folder, Ledger::Mode::kWrite);
  const auto active = ledger.active();
  if (active.size() < 2)
    throw Error(ErrorCode::kRefused, "there is nothing to fold", "it takes two active updates");
  LanguageModel model = model_in(ledger, active);
  CompactResult result;
  result.digest_before = model.state_digest();
  Update fold;
  const FactStore& store = model.facts().store();
  if (store.empty())
    throw Error(ErrorCode::kRefused, "there is nothing to fold: all that was taught was forgotten",
                "`accrete undo` takes the updates back");
  for (int64_t i = 0; i < store.size(); ++i) append_fact(store.fact(i), fold);
  // What the facts replaced is in no update of the fold.
  for (TaughtItem& item : fold.taught.items) item.replaces.clear();
  UpdateRecord record;
  record.items = store.size();
  record.source = accrete::format("fold of {} updates", active.size());
  record.parent = active.back().id;
  record.method = "fold+questions";
  record.tool_version = tool_version;
  nlohmann::json folded = nlohmann::json::array();
  for (const UpdateRecord& r : active) {
    reporter.check_cancelled();
    folded.push_back({{"id", r.id}, {"taught", r.items}});
    result.folded.push_back(r.id);
    result.rows_before += r.rows;
    result.bytes_before += file_bytes(ledger, r.id);
  }
  record.measurements["folds"] = folded;
  fold.metadata = fact_metadata(model, record);
  model.use_facts(model.facts().with(FactStore()).plus("fold", fold));
  result.digest_after = model.state_digest();
  if (result.digest_before != result.digest_after)
    throw Error(ErrorCode::kInternal, "folding would change the state; nothing was committed",
                "please report this");
  result.updates.push_back(ledger.commit(fold, record).id);
  for (const auto& r : ledger.active()) {
    result.rows_after += r.rows;
    result.bytes_after += file_bytes(ledger, r.id);
  }
  return result;
}

UpdateRecord origin_of(const Ledger& ledger, const StoredFact& fact) {
  UpdateRecord record = ledger.find(fact.update_id);
  for (bool deeper = true; deeper;) {
    deeper = false;
    for (const std::string& id : folds_of(record)) {
      std::optional<Update> update;
      try {
        update = ledger.load(id);
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kFormat) throw;
        continue;  // erased: the fold is all that is left of it
      }
      const auto& items = update->taught.items;
      if (std::none_of(items.begin(), items.end(),
                       [&](const TaughtItem& item) { return fact_id(item) == fact.id; }))
        continue;
      record = ledger.find(id);  // the last that taught it
      deeper = true;
    }
  }
  return record;
}

}  // namespace accrete
