// The state of a workspace, and what changes it.
#include "workspace/workspace.h"

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "base/sha256.h"
#include "learn/compact.h"
#include "learn/document_questions.h"
#include "learn/fact_inspect.h"
#include "learn/fact_merge.h"
#include "learn/fact_teach.h"
#include "learn/teach.h"
#include "ledger/overlay_folder.h"
#include "model/fact_memory.h"
#include "model/memory_files.h"
#include "workspace/impl.h"

namespace accrete {
namespace {

TeachOptions inner_options(const api::TeachOptions& given) {
  TeachOptions inner;
  inner.ranking = parse_ranking(given.ranking);
  inner.slots = given.slots;
  inner.raw = given.raw;
  inner.seed = given.seed;
  inner.max_seconds = given.max_seconds;
  if (given.steps > 0) inner.values.steps = inner.facts.steps = given.steps;
  if (given.rate > 0) inner.values.rate = inner.facts.rate = given.rate;
  inner.deposit.lambda = inner.rows.lambda = given.lambda;
  inner.neighbours = given.neighbours;
  inner.gated = given.gated;
  inner.text_share = given.text_share;
  inner.stepwise = given.stepwise;
  inner.tool_version = api::version();
  return inner;
}

api::Forecast plain(const ProbeForecast& f) {
  return {f.examples, f.touched, f.tried,       f.now,         f.predicted,
          f.low,      f.high,    f.first_order, f.second_order};
}

std::vector<api::Conflict> plain(const std::vector<Conflict>& all) {
  std::vector<api::Conflict> out;
  for (const Conflict& c : all)
    out.push_back({c.question, c.answer, c.line, c.update, c.update_line, c.update_answer,
                   c.update_source, c.taken});
  return out;
}

std::vector<api::Overlap> plain(const std::vector<Overlap>& all) {
  std::vector<api::Overlap> out;
  for (const Overlap& o : all)
    out.push_back({o.update, o.tag, o.source, o.shared, o.share, o.cosine});
  return out;
}

api::Documents plain(const DocumentCounts& d) {
  return {d.taught, d.replaced, d.unchanged, d.passages};
}

api::TeachReport plain(const TeachResult& r) {
  api::TeachReport out;
  out.update = r.update;
  out.items = r.items;
  out.learned = {r.learned_before, r.learned_after};
  if (r.asked_before && r.asked_after) out.asked = {*r.asked_before, *r.asked_after};
  for (const auto& [name, k] : r.kept) out.kept[name] = {k.before, k.after, k.kept, k.floor};
  out.conflicts = plain(r.conflicts);
  out.companions = r.companions;
  for (const auto& [name, f] : r.forecast) out.forecast[name] = plain(f);
  out.overlaps = plain(r.overlaps);
  out.change = r.change;
  out.dropped = r.dropped_lines;
  out.remarks = r.remarks;
  out.subjects = r.subjects;
  out.left = r.left;
  out.documents = plain(r.documents);
  out.check_share = r.check_share;
  out.rows = r.rows;
  out.parameters = r.parameters;
  out.teach_tokens = r.teach_tokens;
  out.seconds = r.seconds;
  out.measuring_seconds = r.measuring_seconds;
  out.peak_bytes = r.peak_bytes;
  return out;
}

// As a line of a teach set: so that what is refused in a file is refused here, in the same words.
std::string to_line(const api::Item& item, size_t number) {
  nlohmann::ordered_json line = nlohmann::ordered_json::object();
  if (!item.prompts.empty()) line["prompts"] = item.prompts;
  if (!item.answers.empty()) line["answers"] = item.answers;
  if (!item.subject.empty()) line["subject"] = item.subject;
  if (!item.asked.empty()) line["asked"] = item.asked;
  if (item.verbatim) line["verbatim"] = true;
  if (item.leave) line["leave"] = true;
  if (!item.corrects.empty()) line["corrects"] = item.corrects;
  for (const api::Message& m : item.messages)
    line["messages"].push_back({{"role", m.role}, {"content", m.content}});
  if (!item.text.empty()) line["text"] = item.text;
  if (!item.title.empty()) line["title"] = item.title;
  if (!item.url.empty()) line["url"] = item.url;
  const int kinds = (!item.prompts.empty() || !item.answers.empty() || !item.asked.empty()) +
                    !item.messages.empty() + !item.text.empty();
  if (kinds > 1)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("item {} is of more than one kind", number),
                "make one item each of a fact, a conversation, a text");
  try {
    return line.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorCode::kInvalidArgument, accrete::format("item {} is not UTF-8", number));
  }
}

}  // namespace

Dataset dataset_of(const std::vector<api::Item>& items) {
  if (items.empty()) throw Error(ErrorCode::kInvalidArgument, "there is nothing to teach");
  Dataset data;
  data.path = "memory";
  std::string text;
  for (size_t i = 0; i < items.size(); ++i) {
    const std::string line = to_line(items[i], i + 1);
    data.items.push_back(parse_item(line, "memory", static_cast<int64_t>(i) + 1));
    text += line + "\n";
  }
  data.digest = sha256_hex(text);
  return data;
}

Workspace::Impl::Impl(std::filesystem::path path, const api::OpenOptions& given)
    : folder(std::move(path)), place(folder), history(folder) {
  options.device = given.device;
  options.dtype = given.dtype;
  options.threads = given.threads;
}

Workspace::Impl::Impl(std::shared_ptr<Impl> beneath, const std::string& name)
    : folder(beneath->folder),
      overlay(name),
      place(find_overlay(folder, name)),
      shared(std::move(beneath)),
      options(shared->options),
      history(folder, name) {}

Workspace::State Workspace::Impl::current() const {
  const std::lock_guard lock(guard_);
  return current_;
}

void Workspace::Impl::publish(State state) {
  const std::lock_guard lock(guard_);
  current_ = std::move(state);
}

void Workspace::Impl::follow(const State& begun, State made) {
  {
    const std::lock_guard lock(opening_);
    if (made && (!begun || begun == current())) {
      publish(std::move(made));
      return;
    }
  }
  refresh();
}

Workspace::State Workspace::Impl::now() {
  if (State state = current()) return state;
  require_text();
  const State under = shared ? shared->now() : nullptr;
  const std::lock_guard lock(opening_);
  if (State state = current()) return state;
  State state = bare_;
  if (shared) {
    const Ledger ledger = Ledger::open(place, Ledger::Mode::kRead);
    state = std::make_shared<const LanguageModel>(under->overlaid(ledger, ledger.active()));
  } else if (!state) {
    state = std::make_shared<const LanguageModel>(LanguageModel::open(folder, options));
  } else if (state->has_facts() || state->has_memory()) {
    const Ledger ledger = Ledger::open(folder, Ledger::Mode::kRead);
    state = std::make_shared<const LanguageModel>(state->in_state(ledger, ledger.active()));
  }
  publish(state);
  return state;
}

bool Workspace::Impl::refresh() {
  if (shared) return refresh_overlay();
  const std::lock_guard lock(opening_);
  const State state = current();
  if (!state || (!state->has_facts() && !state->has_memory())) return false;
  const Ledger ledger = Ledger::open(folder, Ledger::Mode::kRead);
  const auto active = ledger.active();
  if (state->state() == state_key(active)) return false;
  publish(std::make_shared<const LanguageModel>(state->in_state(ledger, active)));
  return true;
}

bool Workspace::Impl::refresh_overlay() {
  shared->refresh();
  if (!current()) return false;
  const State under = shared->now();
  const std::lock_guard lock(opening_);
  (void)find_overlay(folder, overlay);  // it may have been erased
  const Ledger ledger = Ledger::open(place, Ledger::Mode::kRead);
  const auto made = std::make_shared<const LanguageModel>(under->overlaid(ledger, ledger.active()));
  const State known = current();
  const bool changed = made->state() != known->state();
  // Of two shared stores that say the same one is enough.
  if (changed || made->facts().shared() != known->facts().shared()) publish(made);
  return changed;
}

Workspace::State Workspace::Impl::any() {
  if (shared) return now();
  if (State state = current()) return state;
  require_text();
  const std::lock_guard lock(opening_);
  if (State state = current()) return state;
  if (!bare_) {
    OpenOptions bare = options;
    bare.with_updates = false;
    bare_ = std::make_shared<const LanguageModel>(LanguageModel::open(folder, bare));
  }
  return bare_;
}

Workspace::State Workspace::Impl::at(const Ledger& ledger,
                                     const std::vector<UpdateRecord>& active) {
  require_text();
  if (shared) shared->refresh();  // as its ledger is now too
  const State under = shared ? shared->now() : nullptr;
  const std::lock_guard lock(opening_);
  State known = current();
  if (shared) {
    auto made = std::make_shared<const LanguageModel>(under->overlaid(ledger, active));
    if (!known) publish(made);
    return made;
  }
  if (!known) known = bare_;
  if (known && known->state() == state_key(active)) return known;
  if (known) return std::make_shared<const LanguageModel>(known->in_state(ledger, active));
  known =
      std::make_shared<const LanguageModel>(LanguageModel::open(folder, options, ledger, active));
  publish(known);
  return known;
}

Workspace::Workspace(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Workspace::Workspace(Workspace&&) noexcept = default;
Workspace& Workspace::operator=(Workspace&&) noexcept = default;
Workspace::~Workspace() = default;

Workspace Workspace::open(std::filesystem::path folder, const api::OpenOptions& options) {
  auto impl = std::make_shared<Impl>(std::move(folder), options);
  if (options.overlay.empty()) return Workspace(std::move(impl));
  return Workspace(std::make_shared<Impl>(std::move(impl), options.overlay));
}

Workspace Workspace::overlay(const std::string& name) const {
  if (impl_->shared)
    throw Error(ErrorCode::kUnsupported, "an overlay has no overlays",
                "open it from the workspace of the model");
  return Workspace(std::make_shared<Impl>(impl_, name));
}

const std::filesystem::path& Workspace::folder() const {
  return impl_->folder;
}
const History& Workspace::history() const {
  return impl_->history;
}
Workspace::State Workspace::now() const {
  return impl_->now();
}
bool Workspace::refresh() {
  return impl_->refresh();
}

api::TeachReport Workspace::teach(const Dataset& data, const api::TeachOptions& options,
                                  const Reporter& reporter) {
  impl_->require_text();
  const TeachOptions inner = inner_options(options);
  const bool facts = has_fact_memory(impl_->folder);
  const State begun = impl_->current();
  const TeachResult result =
      facts ? teach_facts(impl_->place, data, impl_->in_state(), inner, reporter)
            : accrete::teach(impl_->folder, data, impl_->options, inner, reporter);
  impl_->follow(begun, result.after);
  return plain(result);
}

api::PlanReport Workspace::plan(const Dataset& data, const api::TeachOptions& options,
                                const Reporter& reporter) const {
  impl_->require_text();
  const TeachOptions inner = inner_options(options);
  const bool facts = has_fact_memory(impl_->folder);
  const PlanResult r = facts ? plan_facts(impl_->place, data, impl_->in_state(), inner, reporter)
                             : accrete::plan(impl_->folder, data, impl_->options, inner, reporter);
  api::PlanReport out;
  out.items = r.items;
  for (const auto& [name, f] : r.forecast)
    out.probes[name] = {plain(f), r.floors.at(name), r.holds.at(name)};
  out.rows = r.rows;
  out.parameters = r.parameters;
  out.overlaps = plain(r.overlaps);
  out.conflicts = plain(r.conflicts);
  out.companions = r.companions;
  out.remarks = r.remarks;
  out.subjects = r.subjects;
  out.documents = plain(r.documents);
  out.seconds = r.seconds;
  return out;
}

api::MadeReport Workspace::make_questions(const Dataset& data, const std::filesystem::path& file,
                                          const Reporter& reporter) const {
  const MadeQuestions made = accrete::make_questions(*now(), data, file, reporter);
  return {made.passages, made.before, made.asked, made.kept};
}

api::ForgetReport Workspace::forget(const std::string& source) {
  if (!has_fact_memory(impl_->folder))
    throw Error(ErrorCode::kUnsupported, "this model has no memory of documents",
                "`accrete retrofit` makes models that have one");
  const State begun = impl_->current();
  ForgetResult r =
      forget_documents(impl_->place, source, impl_->in_state(), std::string(api::version()));
  impl_->follow(begun, std::move(r.after));
  return {r.update, r.documents, r.passages};
}

api::MergeReport Workspace::merge(std::span<const std::filesystem::path> files,
                                  const api::MergeOptions& options, const Reporter& reporter) {
  if (takes_vectors()) return impl_->merge_vectors(files, options, reporter);
  const OnClash on_clash = parse_on_clash(options.on_conflict);
  (void)read_fact_model(impl_->folder);  // throws where there is no memory of facts
  const State begun = impl_->current();
  MergeResult r = merge_facts(impl_->place, files, impl_->in_state(), on_clash,
                              std::string(api::version()), reporter);
  if (!r.update.empty()) impl_->follow(begun, std::move(r.after));
  api::MergeReport out = {r.update, r.files, r.facts, r.taken, r.there, r.kept, r.replaced, {}};
  for (const FactClash& c : r.clashes)
    out.clashes.push_back({c.question, c.answer, c.file, c.own_answer, c.update});
  return out;
}

api::FactsFile Workspace::facts_file(const std::filesystem::path& file) const {
  (void)read_fact_model(impl_->folder);
  const State state = impl_->now();
  const Update update = facts_in_one(*state, std::string(api::version()));
  api::FactsFile out;
  out.file = file.string();
  out.facts = update.facts.facts();
  StagedUpdate staged(file.has_parent_path() ? file.parent_path() : ".", update);
  out.id = staged.id();
  staged.publish_as(file);
  out.bytes = static_cast<int64_t>(std::filesystem::file_size(file));
  return out;
}

api::ActiveReport Workspace::undo(int64_t n) {
  auto report = impl_->history.undo(n);
  impl_->refresh();
  return report;
}

api::ActiveReport Workspace::redo(int64_t n) {
  auto report = impl_->history.redo(n);
  impl_->refresh();
  return report;
}

api::ActiveReport Workspace::revert(const std::string& id, bool again) {
  auto report = impl_->history.revert(id, again);
  impl_->refresh();
  return report;
}

api::CompactReport Workspace::compact(const Reporter& reporter, bool erase) {
  impl_->require_text();
  const std::string version(api::version());
  CompactResult r;
  try {
    r = has_fact_memory(impl_->folder)
            ? compact_facts(impl_->place, impl_->in_state(), version, reporter)
            : accrete::compact(impl_->folder, impl_->options, version, reporter);
  } catch (const Error& error) {
    if (!erase || error.code() != ErrorCode::kRefused) throw;
    // Updates that together say nothing any more are taken back.
    const State state = impl_->now();
    if (state->has_facts() && state->facts().store().empty()) {
      Ledger ledger = Ledger::open(impl_->place, Ledger::Mode::kWrite);
      for (const UpdateRecord& record : ledger.active()) ledger.set_active(record.id, false);
    }
  }
  impl_->refresh();
  api::CompactReport out = {r.updates,
                            r.folded,
                            r.digest_before,
                            r.digest_after,
                            r.rows_before,
                            r.rows_after,
                            r.bytes_before,
                            r.bytes_after,
                            {},
                            0};
  if (!erase) return out;
  for (const auto& [id, bytes] :
       Ledger::open(impl_->place, Ledger::Mode::kWrite).erase_inactive()) {
    out.erased.push_back(id);
    out.erased_bytes += bytes;
  }
  if (out.updates.empty() && out.erased.empty())
    throw Error(ErrorCode::kRefused, "there is nothing to fold and nothing to erase",
                "every update is active, and there is at most one of a kind");
  return out;
}

api::Info Workspace::info() const {
  if (takes_vectors()) return impl_->vectors()->info();
  const State state = impl_->now();
  api::Info info;
  info.state = state->state();
  info.chat = state->chat().has_value();
  if (!state->has_facts() && !state->has_memory()) return info;
  info.base = load_memory_info(impl_->folder).value("base_digest", "");
  info.kind = state->has_facts() ? "questions" : "rows";
  for (const api::UpdateInfo& update : impl_->history.log()) info.updates += update.active;
  if (!state->has_facts()) return info;
  const FactMemory& facts = state->facts();
  info.reader = facts.info().reader_digest;
  info.tell = tell_name(facts.info().tell);
  info.block = facts.info().sites.block;
  info.caution = facts.info().caution;
  info.facts = facts.store().size();
  std::set<std::string> documents;
  for (int64_t i = 0; i < facts.store().size(); ++i) {
    const StoredFact& fact = facts.store().fact(i);
    if (fact.text().passage())
      documents.insert(fact.text().document);
    else
      info.wordings += fact.keys();
  }
  info.overlay = impl_->overlay;
  if (facts.shared() != nullptr) info.shared_facts = facts.shared()->size();
  info.passages = static_cast<int64_t>(facts.store().passages().size());
  info.facts -= info.passages;
  info.documents = static_cast<int64_t>(documents.size());
  return info;
}

}  // namespace accrete
