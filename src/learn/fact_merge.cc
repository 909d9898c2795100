#include "learn/fact_merge.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "base/sha256.h"
#include "learn/fact_inspect.h"
#include "learn/fact_keys.h"
#include "learn/fact_teach.h"
#include "learn/fact_watch.h"
#include "ledger/merge_file.h"
#include "ledger/overlay_folder.h"
#include "model/fact_memory.h"
#include "text/wording.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kMostBytes = std::uintmax_t{1} << 30;  // of one file
constexpr int64_t kMostFacts = 1'000'000;

// One file, read and checked.
struct Incoming {
  std::string file, id;
  FactStore store;
};

std::string said_by(const TaughtItem& item) {
  if (item.passage()) return "version " + item.document_digest.substr(0, 12);
  return item.leave ? "(left to the model)" : item.answers.front();
}

// What can have one answer alone: the questions of a fact, word for word; a document's name.
std::vector<std::string> asked_by(const TaughtItem& item) {
  if (item.passage()) return {"document " + item.document};
  std::vector<std::string> out;
  for (const std::string& prompt : item.prompts)
    out.push_back((item.raw ? "raw " : "chat ") + name_key(plain_question(prompt)));
  return out;
}

bool agree(const TaughtItem& a, const TaughtItem& b) {
  if (a.passage() || b.passage()) return a.document_digest == b.document_digest;
  return a.leave == b.leave && (a.leave || same_text(a.answers.front(), b.answers.front()));
}

std::string question_in(const TaughtItem& item, const std::string& asked) {
  if (item.passage()) return item.document;
  const auto all = asked_by(item);
  const auto at = std::find(all.begin(), all.end(), asked) - all.begin();
  return item.prompts[static_cast<size_t>(at)];
}

const MadeForHints kFactHints = {
    "an earlier accrete made it: compact or export it with this one first",
    "values and keys fit the model alone that they were made for: teach the questions and answers "
    "themselves"};

Incoming read_incoming(const fs::path& file, const LanguageModel& model,
                       const FactModelRecord& ours) {
  std::error_code ignored;
  const auto bytes = fs::file_size(file, ignored);
  if (!ignored && bytes > kMostBytes)
    throw Error(ErrorCode::kInvalidArgument, accrete::format("{} is too large", file.string()),
                "merge takes files of at most 1 GB");
  Update update = read_update(file);
  if (update.facts.empty() || !update.layers.empty())
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} holds no facts that can be taken over", file.string()),
                "give a file of `accrete overlay export`, or an update of a model with a memory of "
                "facts");
  require_made_for(file, update.metadata, "base_digest", ours.base_digest, "base", kFactHints);
  require_made_for(file, update.metadata, "reader_digest", ours.reader_digest, "reader",
                   kFactHints);
  require_made_for(file, update.metadata, "block", std::to_string(ours.block), "block", kFactHints);
  if (update.facts.facts() > kMostFacts)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} holds {} facts, at most {} are taken", file.string(),
                                update.facts.facts(), kMostFacts),
                "split it");
  const FactStore& store = model.facts().store();
  const bool width =
      update.facts.values.empty() || update.facts.width == model.net().config().width;
  if (!width || (!store.empty() && update.facts.key_width != store.key_width()) ||
      update.facts.key_width != model.facts().reader().width())
    throw Error(ErrorCode::kConflict,
                accrete::format("{} has values or keys of another width", file.string()),
                "it was made for another model");
  Incoming out;
  out.file = file.filename().string();
  out.id = update_id_of(file);
  const FactStore::Named named{out.id, std::make_shared<const Update>(std::move(update))};
  out.store = FactStore::of({&named, 1});
  return out;
}

// The facts of all files by their id, each once. Where two files hold one with other values, those
// of the smaller hash are taken: not those of the first file.
std::map<std::string, const StoredFact*> united(const std::vector<Incoming>& files) {
  std::map<std::string, const StoredFact*> out;
  std::map<std::string, std::string> hash;
  const auto hash_of = [](const StoredFact& fact) {
    Update one;
    append_fact(fact, one);
    return Sha256()
        .update(std::as_bytes(std::span(one.facts.values)))
        .update(std::as_bytes(std::span(one.facts.whole)))
        .hex();
  };
  for (const Incoming& file : files)
    for (int64_t i = 0; i < file.store.size(); ++i) {
      const StoredFact& fact = file.store.fact(i);
      const auto [at, fresh] = out.try_emplace(fact.id, &fact);
      if (fresh) continue;
      auto& known = hash[fact.id];
      if (known.empty()) known = hash_of(*at->second);
      if (std::string own = hash_of(fact); own < known) {
        known = std::move(own);
        at->second = &fact;
      }
    }
  // What another of them corrects is gone, unless each says so of the other.
  std::set<std::string> gone;
  for (const auto& [id, fact] : out)
    for (const std::string& old : fact->text().replaces) {
      const auto at = out.find(old);
      if (at == out.end()) continue;
      const auto& back = at->second->text().replaces;
      if (std::find(back.begin(), back.end(), id) == back.end()) gone.insert(old);
    }
  for (const std::string& id : gone) out.erase(id);
  return out;
}

std::string shown_clash(const FactClash& c) {
  return accrete::format("{}: {} ({}) against {} ({})", quoted(c.question), quoted(c.answer),
                         c.file, quoted(c.own_answer), c.update);
}

[[noreturn]] void throw_clashes(const std::vector<FactClash>& clashes, const char* where,
                                std::string hint) {
  constexpr size_t kMost = 10;
  std::string list;
  for (size_t i = 0; i < std::min(kMost, clashes.size()); ++i)
    list += "; " + shown_clash(clashes[i]);
  if (clashes.size() > kMost) list += accrete::format("; and {} more", clashes.size() - kMost);
  throw Error(
      ErrorCode::kConflict,
      accrete::format("{} answered in two ways {}; nothing was changed{}",
                      clashes.size() == 1 ? std::string("one question is")
                                          : accrete::format("{} questions are", clashes.size()),
                      where, list),
      std::move(hint));
}

// Throws kConflict when two of the facts clash.
void require_one_answer(const std::map<std::string, const StoredFact*>& facts,
                        const std::map<std::string, std::string>& file_of) {
  std::map<std::string, const StoredFact*> by_question;
  std::vector<FactClash> clashes;
  for (const auto& [id, fact] : facts)
    for (const std::string& asked : asked_by(fact->text())) {
      const auto [at, fresh] = by_question.try_emplace(asked, fact);
      const TaughtItem &a = at->second->text(), &b = fact->text();
      if (fresh || agree(a, b)) continue;
      clashes.push_back({question_in(b, asked), said_by(b), file_of.at(fact->update_id), said_by(a),
                         file_of.at(at->second->update_id)});
      break;
    }
  if (!clashes.empty())
    throw_clashes(clashes, "by these files",
                  "merge them one after the other, the later with --on-conflict ours or theirs");
}

// What merging makes of the files' facts.
struct Merged {
  Update update;
  MergeResult result;
};

Merged merge_into(const std::map<std::string, const StoredFact*>& facts,
                  const std::map<std::string, std::string>& file_of, const FactStore& ours,
                  OnClash on_clash) {
  std::map<std::string, std::set<int64_t>> by_question;
  for (int64_t i = 0; i < ours.size(); ++i)
    for (const std::string& asked : asked_by(ours.fact(i).text())) by_question[asked].insert(i);
  Merged out;
  MergeResult& r = out.result;
  r.facts = static_cast<int64_t>(facts.size());
  std::set<std::string> replaced, documents;
  for (const auto& [id, fact] : facts) {
    if (ours.find(id) >= 0) {
      ++r.there;
      continue;
    }
    const TaughtItem& item = fact->text();
    std::set<std::string> stands_for;
    for (const std::string& asked : asked_by(item)) {
      const auto at = by_question.find(asked);
      if (at == by_question.end()) continue;
      for (const int64_t i : at->second) {
        const StoredFact& own = ours.fact(i);
        if (agree(own.text(), item) || !stands_for.insert(own.id).second) continue;
        if (item.passage() && !documents.insert(item.document).second) continue;
        r.clashes.push_back({question_in(item, asked), said_by(item), file_of.at(fact->update_id),
                             said_by(own.text()), own.update_id});
      }
    }
    if (!stands_for.empty() && on_clash == OnClash::kOurs) {
      ++r.kept;
      continue;
    }
    ++r.taken;
    append_fact(*fact, out.update);
    auto& replaces = out.update.taught.items.back().replaces;
    replaces.assign(stands_for.begin(), stands_for.end());
    replaced.insert(stands_for.begin(), stands_for.end());
  }
  if (on_clash == OnClash::kTheirs) r.replaced = static_cast<int64_t>(replaced.size());
  return out;
}

}  // namespace

OnClash parse_on_clash(const std::string& name) {
  if (name == "refuse") return OnClash::kRefuse;
  if (name == "ours") return OnClash::kOurs;
  if (name == "theirs") return OnClash::kTheirs;
  throw Error(ErrorCode::kInvalidArgument,
              accrete::format("\"{}\" is nothing to do on a conflict", name),
              "use refuse, ours or theirs");
}

MergeResult merge_facts(const fs::path& folder, std::span<const fs::path> files,
                        const ModelInState& model_in, OnClash on_clash,
                        const std::string& tool_version, const Reporter& reporter) {
  if (files.empty())
    throw Error(ErrorCode::kInvalidArgument, "there is nothing to merge", "give a file of facts");
  Ledger ledger = Ledger::open(folder, Ledger::Mode::kWrite);
  const Snapshot snapshot = ledger.snapshot();
  const LanguageModel model = model_in(ledger, snapshot.active);
  const FactModelRecord ours = read_fact_model(model.folder());
  // By the id of their bytes: the order in which they were named does not matter.
  std::map<std::string, std::string> file_of;
  std::vector<Incoming> incoming;
  for (const fs::path& file : files) {
    reporter.check_cancelled();
    Incoming one = read_incoming(file, model, ours);
    if (file_of.try_emplace(one.id, one.file).second) incoming.push_back(std::move(one));
  }
  std::sort(incoming.begin(), incoming.end(),
            [](const Incoming& a, const Incoming& b) { return a.id < b.id; });
  const auto facts = united(incoming);
  require_one_answer(facts, file_of);
  auto [update, result] = merge_into(facts, file_of, model.facts().store(), on_clash);
  result.files = static_cast<int64_t>(incoming.size());
  if (!result.clashes.empty() && on_clash == OnClash::kRefuse)
    throw_clashes(result.clashes, "here and in these files",
                  "--on-conflict ours keeps what is here, theirs takes what is in the files");
  if (update.facts.empty()) return result;

  LanguageModel trial = model;
  trial.use_facts(model.facts().plus("", update));
  auto probes = watch_fact_probes(model, probes_for(model, ledger, snapshot), reporter);
  ask_probes(trial, probes, reporter);
  require_floors(probes);

  UpdateRecord record;
  record.items = result.taken;
  record.source = incoming.size() == 1 ? incoming.front().file
                                       : accrete::format("merge of {} files", incoming.size());
  record.parent = snapshot.active.empty() ? "" : snapshot.active.back().id;
  record.method = "merge";
  record.tool_version = tool_version;
  record.measurements["merged"] = nlohmann::json::array();
  std::string ids;
  for (const Incoming& one : incoming) {
    record.measurements["merged"].push_back(
        {{"id", one.id}, {"file", one.file}, {"facts", one.store.size()}});
    ids += (ids.empty() ? "" : " ") + one.id;
  }
  for (const WatchedFactProbe& watched : probes)
    record.measurements["kept"][watched.probe.record.name] = {{"before", watched.before.score},
                                                              {"after", watched.after.score},
                                                              {"probe", watched.digest}};
  update.metadata = fact_metadata(model, record);
  update.metadata["merged"] = ids;
  const UpdateRecord committed = ledger.commit(update, record);
  result.update = committed.id;
  auto active = snapshot.active;
  active.push_back(committed);
  auto after = std::make_shared<LanguageModel>(model);
  after->use_facts(model.facts().plus(committed.id, std::move(update)));
  after->name_state(model.state_of(active));
  result.after = std::move(after);
  reporter.report("done", 1, 1);
  return result;
}

Update facts_in_one(const LanguageModel& model, const std::string& tool_version) {
  const FactStore& store = model.facts().store();
  if (store.empty())
    throw Error(ErrorCode::kRefused, "there is nothing to export: nothing was taught",
                "`accrete log` says what was");
  Update out;
  for (int64_t i = 0; i < store.size(); ++i) append_fact(store.fact(i), out);
  for (TaughtItem& item : out.taught.items) item.replaces.clear();
  UpdateRecord record;
  record.method = "export";
  record.tool_version = tool_version;
  out.metadata = fact_metadata(model, record);
  return out;
}

}  // namespace accrete
