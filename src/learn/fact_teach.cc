#include "learn/fact_teach.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "learn/documents.h"
#include "learn/fact_corrections.h"
#include "learn/fact_keys.h"
#include "learn/fact_watch.h"
#include "learn/teach_clock.h"
#include "model/fact_memory.h"
#include "model/weight_pages.h"
#include "text/wording.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

struct FactSession {
  Ledger ledger;
  Snapshot snapshot;                  // active updates and probes of one moment
  std::vector<UpdateRecord> beneath;  // of an overlay: the model's own
  LanguageModel model;
  FactLessons lessons;
  DocumentLessons documents;
  std::vector<WatchedFactProbe> probes;
  std::vector<Conflict> conflicts;

  FactSession(const fs::path& folder, const Dataset& data, const ModelInState& model_in, bool raw,
              Ledger::Mode mode, const Reporter& reporter)
      : ledger(Ledger::open(folder, mode)),
        snapshot(ledger.snapshot()),
        model(model_in(ledger, snapshot.active)),
        lessons(make_fact_lessons(model, data, raw)),
        documents(make_document_lessons(data, model.facts().store())) {
    if (!documents.empty() && !model.uses_chat(false))
      throw Error(ErrorCode::kUnsupported,
                  accrete::format("{}: documents are told in a chat, and this model has no chat "
                                  "template",
                                  data.path.string()),
                  "teach questions with their answers, with --raw");
    lessons.remarks.insert(lessons.remarks.end(), documents.remarks.begin(),
                           documents.remarks.end());
    if (model.facts().shared() != nullptr)
      beneath = Ledger::open(model.folder(), Ledger::Mode::kRead).updates();
    probes = watch_fact_probes(model, probes_for(model, ledger, snapshot), reporter);
    conflicts =
        find_corrections(model, lessons, [this](const std::string& id) { return source_of(id); });
  }

  bool nothing_new() const { return lessons.facts.empty() && documents.passages.empty(); }
  DocumentCounts document_counts() const {
    return {documents.documents, documents.replaced, documents.unchanged,
            static_cast<int64_t>(documents.passages.size())};
  }

  std::string source_of(const std::string& id) const {
    for (const auto* records : {&snapshot.active, &beneath})
      for (const UpdateRecord& r : *records)
        if (r.id == id) return r.source;
    return {};
  }
};

std::vector<TaughtItem> items_of(std::span<const FactLesson> lessons) {
  std::vector<TaughtItem> out;
  for (const FactLesson& lesson : lessons) out.push_back(lesson.item);
  return out;
}

// Questions of probes that the new facts would answer wrongly, as facts that leave them to the
// model. Not those that are taught word for word: there the floor decides.
std::vector<TaughtItem> leave_probes(const LanguageModel& trial,
                                     std::span<const FactLesson> lessons,
                                     std::vector<WatchedFactProbe>& probes) {
  std::set<std::string> taught;
  for (const FactLesson& lesson : lessons)
    for (const std::string& prompt : lesson.item.prompts)
      taught.insert(name_key(question_of(request_of(lesson.item, prompt)).text));
  std::vector<TaughtItem> out;
  for (const WatchedFactProbe& watched : probes)
    for (size_t i = 0; i < watched.after.chosen.size(); ++i) {
      if (watched.after.chosen[i] < 0 || watched.after.id[i] == watched.before.id[i] ||
          watched.after.exact[i] >= watched.before.exact[i])
        continue;
      const Item& item = watched.probe.data.items[i];
      AskRequest request;
      if (item.kind == Item::Kind::kMessages)
        request.messages.assign(item.messages.begin(), item.messages.end() - 1);
      else
        request = single_question(trial, probe_question(item), watched.probe.raw);
      const Question question = question_of(request);
      if (!taught.insert(name_key(question.text)).second) continue;
      TaughtItem left;
      left.prompts = {question.text};
      left.raw = question.raw;
      left.leave = true;
      left.subject = trial.facts().fact(watched.after.chosen[i]).text().subject;
      // A question whose subject was named before it stands for itself.
      if (find_name(question.text, left.subject).empty()) left.subject.clear();
      out.push_back(std::move(left));
    }
  return out;
}

LanguageModel with_update(const LanguageModel& model, Update update) {
  LanguageModel trial = model;
  trial.use_facts(model.facts().plus("", std::move(update)));
  return trial;
}

std::map<std::string, ProbeForecast> forecasts(const std::vector<WatchedFactProbe>& probes) {
  std::map<std::string, ProbeForecast> out;
  for (const WatchedFactProbe& watched : probes) {
    ProbeForecast f;
    f.probe = watched.probe.record.name;
    f.examples = static_cast<int64_t>(watched.probe.data.items.size());
    for (size_t i = 0; i < watched.after.chosen.size(); ++i)
      f.touched += watched.after.id[i] != watched.before.id[i];
    f.tried = f.touched;
    f.now = watched.before.score;
    f.predicted = f.low = f.high = f.first_order = f.second_order =
        watched.after.score - watched.before.score;
    out[f.probe] = f;
  }
  return out;
}

// The wordings that lessons teach (or only ask), and whose they are; none of what is left to the
// model.
struct AskedWordings {
  std::vector<AskRequest> requests;
  std::vector<const FactLesson*> of;

  AskedWordings(std::span<const FactLesson> lessons, bool asked) {
    for (const FactLesson& lesson : lessons) {
      if (lesson.item.leave) continue;
      const auto& wordings = asked ? lesson.asked : lesson.item.prompts;
      for (size_t i = 0; i < wordings.size(); ++i) {
        requests.push_back(asked ? request_of(lesson.item, wordings[i]) : lesson.request(i));
        of.push_back(&lesson);
      }
    }
  }
};

// The share of wordings that are answered with what their lesson says. `exact` has an entry for
// each wording of a lesson with a value: whether a value (`by_value`) or the base model says the
// answer exactly. Where no fact is chosen the base model answers. `missed` (may be null): the
// wordings that another fact or none answers.
double answered_share(const LanguageModel& model, const AskedWordings& wordings,
                      const std::vector<uint8_t>& exact, bool by_value,
                      std::vector<std::pair<size_t, Choice>>* missed = nullptr) {
  if (wordings.requests.empty()) return 0;
  const auto choices = choose_facts(model, wordings.requests);
  size_t at = 0;
  double right = 0;
  for (size_t i = 0; i < choices.size(); ++i) {
    const TaughtItem& item = wordings.of[i]->item;
    const bool said = item.verbatim ? by_value : exact[at++] != 0;
    const bool own =
        choices[i].fact >= 0 &&
        same_text(model.facts().fact(choices[i].fact).text().answers.front(), item.answers.front());
    right += choices[i].fact < 0 ? !by_value && said : own && (said || !by_value);
    if (missed != nullptr && !own) missed->emplace_back(i, choices[i]);
  }
  return right / static_cast<double>(choices.size());
}

// Names the wordings that were taught and do not ask for their fact.
void remark_on_missed(const LanguageModel& model, const AskedWordings& taught,
                      const std::vector<std::pair<size_t, Choice>>& missed,
                      std::vector<std::string>& remarks) {
  for (const auto& [i, choice] : missed) {
    if (remarks.size() >= kMostRemarks) return;
    const std::string wording = quoted(question_of(taught.requests[i]).text);
    const auto line = taught.of[i]->item.line;
    if (choice.left)
      remarks.push_back(accrete::format("line {}: {} is left to the model and not answered by this",
                                        line, wording));
    else if (choice.fact >= 0)
      remarks.push_back(
          accrete::format("line {}: {} is answered by another fact ({})", line, wording,
                          quoted(model.facts().fact(choice.fact).text().prompts.front())));
    else
      remarks.push_back(accrete::format(
          "line {}: {} is not taken for what it teaches, and stays with the model", line, wording));
  }
}

// Appends facts without values.
void append_left(const Reader& reader, std::vector<TaughtItem> left, Update& update) {
  if (left.empty()) return;
  append_keys(reader, left, update.facts);
  for (TaughtItem& item : left) {
    update.facts.vectors.push_back(0);
    update.taught.items.push_back(std::move(item));
  }
}

}  // namespace

FactProposal propose_facts(const LanguageModel& model, std::span<const FactLesson> lessons,
                           const FactValueOptions& options, const Reporter& reporter) {
  const FactMemoryInfo& info = model.facts().info();
  FactProposal out;
  reporter.report("read questions", 0, 1);
  out.update.taught.items = items_of(lessons);
  append_keys(model.facts().reader(), out.update.taught.items, out.update.facts);
  reporter.report("read questions", 1, 1);

  const auto F = static_cast<int64_t>(lessons.size());
  const int64_t d = out.update.facts.width = model.net().config().width;
  // What a note alone tells has nothing to learn, and is only asked.
  std::vector<FactExample> examples, noted;
  struct Fresh {  // a wording in a fresh conversation
    bool noted;
    size_t example;
  };
  std::vector<Fresh> fresh;
  auto forms = form_examples(model, lessons, info.tell, reporter);
  auto form = forms.begin();
  for (size_t i = 0; i < lessons.size(); ++i) {
    const bool alone = by_note_alone(info.tell, lessons[i].item);
    auto& to = alone ? noted : examples;
    const size_t first = to.size(), n = lessons[i].item.prompts.size();
    for (FactExample& e : fact_examples(model, lessons[i], static_cast<int64_t>(i), info.tell))
      if (!alone || to.size() < first + n) to.push_back(std::move(e));
    for (size_t k = 0; k < n && first + k < to.size(); ++k) fresh.push_back({alone, first + k});
    for (; form != forms.end() && form->fact == static_cast<int64_t>(i); ++form)
      examples.push_back(std::move(*form));
  }
  const FactValues values =
      solve_fact_values(model.net(), examples, F, info.sites, options, reporter);
  const auto said_so = said_exactly(model.net(), noted, info.sites,
                                    no_values(noted, F, info.sites, d), options, reporter);
  for (int64_t f = 0; f < F; ++f)
    out.update.facts.vectors.push_back(static_cast<int32_t>(
        values.first[static_cast<size_t>(f) + 1] - values.first[static_cast<size_t>(f)]));
  out.update.facts.values = values.vectors;
  for (const auto& [by_note, i] : fresh) {
    out.exact.push_back(by_note ? said_so[i] : values.exact[i]);
    out.before.push_back(by_note ? 0 : values.before[i]);
  }
  out.steps = values.steps;
  out.tokens = values.tokens;
  if (info.tell == Tell::kValue) return out;
  // Before, there was no note either.
  examples.clear();
  for (int64_t i = 0; i < F; ++i) {
    const FactLesson& lesson = lessons[static_cast<size_t>(i)];
    const auto own = fact_examples(model, lesson, i, Tell::kValue);
    for (size_t k = 0; k < std::min(own.size(), lesson.item.prompts.size()); ++k)
      examples.push_back(own[k]);
  }
  out.before = said_exactly(model.net(), examples, info.sites,
                            no_values(examples, F, info.sites, d), options, reporter);
  return out;
}

namespace {

// Of the wordings that are only asked: said exactly with what the update holds, and (`before`) by
// the base model, without a note.
std::vector<uint8_t> said_when_asked(const LanguageModel& model,
                                     std::span<const FactLesson> lessons, const UpdateFacts& facts,
                                     const FactValueOptions& options, const Reporter& reporter,
                                     std::vector<uint8_t>& before) {
  const FactMemoryInfo& info = model.facts().info();
  const auto F = static_cast<int64_t>(lessons.size());
  const int64_t d = model.net().config().width;
  const auto examples_by = [&](Tell tell) {
    std::vector<FactExample> out;
    for (int64_t i = 0; i < F; ++i)
      for (FactExample& e : asked_examples(model, lessons[static_cast<size_t>(i)], i, tell))
        out.push_back(std::move(e));
    return out;
  };
  const auto plain = examples_by(Tell::kValue), told = examples_by(info.tell);
  before = said_exactly(model.net(), plain, info.sites, no_values(plain, F, info.sites, d), options,
                        reporter);
  FactValues values = no_values(told, F, info.sites, d);
  int64_t from = 0;
  for (size_t f = 0; f < lessons.size(); ++f) {
    const int64_t n = std::min<int64_t>(facts.vectors[f], values.first[f + 1] - values.first[f]);
    std::copy_n(facts.values.begin() + from * d, n * d,
                values.vectors.begin() + values.first[f] * d);
    from += facts.vectors[f];
  }
  return said_exactly(model.net(), told, info.sites, values, options, reporter);
}

// A proposal beside the facts that are there, and how many questions of probes it leaves.
struct Trial {
  LanguageModel model;
  size_t left = 0;
};

// The state that the commit of `update` made of `model` with these updates.
std::shared_ptr<const LanguageModel> state_after(const LanguageModel& model,
                                                 std::vector<UpdateRecord> active, Update update,
                                                 const UpdateRecord& committed) {
  active.push_back(committed);
  auto after = std::make_shared<LanguageModel>(model);
  after->use_facts(model.facts().plus(committed.id, std::move(update)));
  after->name_state(model.state_of(active));
  return after;
}

// The passages of a set's documents.
void add_documents(const FactSession& session, FactProposal& proposal, const Reporter& reporter) {
  const auto n = static_cast<int64_t>(session.documents.passages.size());
  if (n == 0) return;
  append_passages(session.model.facts().reader(), session.documents.passages, proposal.update,
                  reporter);
  reporter.report("read documents", n, n);
}

// Asks the session's probes under the proposal. Those that it would answer wrongly are left to the
// model, which becomes part of the proposal.
Trial try_proposal(FactSession& session, FactProposal& proposal, const Reporter& reporter) {
  remark_on_keys(proposal.update.facts, proposal.update.taught.items, session.lessons.remarks);
  Trial trial{with_update(session.model, proposal.update)};
  ask_probes(trial.model, session.probes, reporter);
  auto left = leave_probes(trial.model, session.lessons.facts, session.probes);
  trial.left = left.size();
  if (left.empty()) return trial;
  append_left(session.model.facts().reader(), std::move(left), proposal.update);
  trial.model = with_update(session.model, proposal.update);
  ask_probes(trial.model, session.probes, reporter);
  return trial;
}

}  // namespace

namespace {

// Keys of lessons, without values.
Update keys_alone(const LanguageModel& model, std::span<const FactLesson> lessons) {
  Update out;
  out.taught.items = items_of(lessons);
  append_keys(model.facts().reader(), out.taught.items, out.facts);
  out.facts.vectors.assign(lessons.size(), 0);
  return out;
}

bool any_touched(const std::vector<WatchedFactProbe>& probes) {
  for (const WatchedFactProbe& watched : probes)
    if (watched.after.id != watched.before.id) return true;
  return false;
}

// How many vectors the lessons' values have.
int64_t vectors_of(const LanguageModel& model, std::span<const FactLesson> lessons) {
  const FactMemoryInfo& info = model.facts().info();
  int64_t out = 0;
  for (size_t i = 0; i < lessons.size(); ++i) {
    const auto examples = fact_examples(model, lessons[i], static_cast<int64_t>(i), info.tell);
    if (examples.empty() || by_note_alone(info.tell, lessons[i].item)) continue;
    const FactExample& e = examples.front();
    out += info.sites.vectors(static_cast<int64_t>(e.tokens.size()) - e.prompt);
  }
  return out;
}

// How many facts each subject has, as it was given or found; "" for those without.
std::map<std::string, int64_t> subjects_of(std::span<const FactLesson> lessons) {
  std::map<std::string, int64_t> out;
  for (const FactLesson& lesson : lessons) ++out[lesson.item.subject];
  return out;
}

}  // namespace

Metadata fact_metadata(const LanguageModel& model, const UpdateRecord& record) {
  const FactMemoryInfo& info = model.facts().info();
  return {{"base_digest", load_memory_info(model.folder()).value("base_digest", "")},
          {"reader_digest", info.reader_digest},
          {"block", std::to_string(info.sites.block)},
          {"parent", record.parent},
          {"method", record.method},
          {"tool_version", record.tool_version}};
}

PlanResult plan_facts(const fs::path& folder, const Dataset& data, const ModelInState& model_in,
                      const TeachOptions& options, const Reporter& reporter) {
  const Clock clock;
  const Reporter timed = with_limit(reporter, options.max_seconds, clock);
  FactSession session(folder, data, model_in, options.raw, Ledger::Mode::kRead, timed);
  PlanResult result;
  result.items = static_cast<int64_t>(data.items.size());
  result.conflicts = session.conflicts;
  // Keys say which questions would be answered otherwise. Values are learned where a probe has one.
  FactProposal proposal;
  proposal.update = keys_alone(session.model, session.lessons.facts);
  add_documents(session, proposal, timed);
  ask_probes(with_update(session.model, proposal.update), session.probes, timed);
  if (any_touched(session.probes)) {
    proposal = propose_facts(session.model, session.lessons.facts, options.facts, timed);
    add_documents(session, proposal, timed);
    try_proposal(session, proposal, timed);
  } else {
    remark_on_keys(proposal.update.facts, proposal.update.taught.items, session.lessons.remarks);
  }
  const int64_t vectors = vectors_of(session.model, session.lessons.facts);
  result.rows = proposal.update.facts.keys() + vectors;
  result.parameters = vectors * session.model.net().config().width;
  result.subjects = subjects_of(session.lessons.facts);
  result.documents = session.document_counts();
  result.forecast = forecasts(session.probes);
  for (const WatchedFactProbe& watched : session.probes) {
    result.floors[watched.probe.record.name] = watched.probe.record.floor;
    result.holds[watched.probe.record.name] = probe_holds(watched.probe, watched.after.score);
  }
  result.remarks = session.lessons.remarks;
  result.seconds = clock.seconds();
  reporter.report("done", 1, 1);
  return result;
}

TeachResult teach_facts(const fs::path& folder, const Dataset& data, const ModelInState& model_in,
                        const TeachOptions& options, const Reporter& reporter) {
  const Clock clock;
  const Reporter timed = with_limit(reporter, options.max_seconds, clock);
  FactSession session(folder, data, model_in, options.raw, Ledger::Mode::kWrite, timed);
  const LanguageModel& model = session.model;
  const auto& lessons = session.lessons.facts;
  TeachResult result;
  result.items = static_cast<int64_t>(data.items.size());
  result.conflicts = session.conflicts;

  result.documents = session.document_counts();
  result.remarks = session.lessons.remarks;
  if (session.nothing_new()) {  // every document is there as it is
    result.seconds = clock.seconds();
    return result;
  }
  FactProposal proposal = propose_facts(model, lessons, options.facts, timed);
  add_documents(session, proposal, timed);
  const auto [trial, left] = try_proposal(session, proposal, timed);
  if (left > 0)
    result.change = accrete::format("{} questions of probes are left to the model", left);

  // What was answered before: by what was taught earlier, or by the base model.
  const Clock measuring;
  const AskedWordings taught(lessons, /*asked=*/false), untaught(lessons, /*asked=*/true);
  std::vector<std::pair<size_t, Choice>> missed;
  result.learned_after = answered_share(trial, taught, proposal.exact, /*by_value=*/true, &missed);
  remark_on_missed(trial, taught, missed, session.lessons.remarks);
  result.learned_before = answered_share(model, taught, proposal.before, /*by_value=*/false);
  const bool any_asked = std::any_of(lessons.begin(), lessons.end(),
                                     [](const FactLesson& l) { return !l.asked.empty(); });
  if (any_asked) {
    std::vector<uint8_t> said_before;
    const auto said =
        said_when_asked(model, lessons, proposal.update.facts, options.facts, timed, said_before);
    result.asked_after = answered_share(trial, untaught, said, /*by_value=*/true);
    double before = 0;
    for (const uint8_t b : said_before) before += b;
    result.asked_before =
        said_before.empty() ? 0 : before / static_cast<double>(said_before.size());
  }
  result.measuring_seconds = measuring.seconds();

  result.forecast = forecasts(session.probes);
  for (const WatchedFactProbe& watched : session.probes) {
    KeptScore& kept = result.kept[watched.probe.record.name];
    kept.before = watched.before.score;
    kept.after = watched.after.score;
    kept.kept = probe_kept(watched.probe, kept.after);
    kept.floor = watched.probe.record.floor;
  }
  require_floors(session.probes);
  // What could not be learned exactly in every wording is taught all the same, and remarked on.
  size_t at = 0;
  for (const FactLesson& lesson : lessons) {
    if (lesson.item.leave || lesson.item.verbatim) continue;
    bool said = true;
    for (size_t k = 0; k < lesson.item.prompts.size(); ++k) said &= proposal.exact[at++] != 0;
    if (!said && model.facts().info().tell == Tell::kValue)
      session.lessons.remarks.push_back(accrete::format(
          "line {}: the model does not say {} exactly in every wording; \"verbatim\": true has it "
          "written word for word",
          lesson.item.line, quoted(lesson.item.answers.front())));
  }
  timed.check_cancelled();

  result.rows = rows_of(proposal.update);
  result.parameters = static_cast<int64_t>(proposal.update.facts.values.size());
  result.teach_tokens = proposal.tokens;
  result.subjects = subjects_of(lessons);
  result.left = std::count_if(lessons.begin(), lessons.end(),
                              [](const FactLesson& l) { return l.item.leave; });
  result.remarks = session.lessons.remarks;
  UpdateRecord record;
  record.items = static_cast<int64_t>(lessons.size()) + result.documents.passages;
  record.source = data.path.string();
  record.source_digest = data.digest;
  record.parent = session.snapshot.active.empty() ? "" : session.snapshot.active.back().id;
  record.seed = options.seed;
  record.method =
      lessons.empty() ? "documents" : "questions+" + tell_name(model.facts().info().tell);
  if (!lessons.empty() && result.documents.taught > 0) record.method += "+documents";
  record.tool_version = options.tool_version;
  record.measurements = {
      {"learned", {{"before", result.learned_before}, {"after", result.learned_after}}},
      {"state", model.state_of(session.snapshot.active)},
      {"seconds", clock.seconds()}};
  if (result.asked_after)
    record.measurements["asked"] = {{"before", *result.asked_before},
                                    {"after", *result.asked_after}};
  if (result.documents.taught > 0)
    record.measurements["documents"] = {{"taught", result.documents.taught},
                                        {"replaced", result.documents.replaced},
                                        {"passages", result.documents.passages}};
  if (!result.change.empty()) record.measurements["change"] = result.change;
  if (!result.conflicts.empty()) record.measurements["conflicts"] = result.conflicts.size();
  for (const WatchedFactProbe& watched : session.probes)
    record.measurements["kept"][watched.probe.record.name] = {{"before", watched.before.score},
                                                              {"after", watched.after.score},
                                                              {"probe", watched.digest}};
  Metadata& metadata = proposal.update.metadata;
  metadata = fact_metadata(model, record);
  metadata["data_digest"] = data.digest;
  metadata["seed"] = std::to_string(options.seed);
  metadata["learned"] =
      accrete::format("{:.6f} -> {:.6f}", result.learned_before, result.learned_after);
  forget_weights(model.net());
  const UpdateRecord committed = session.ledger.commit(proposal.update, record);
  result.update = committed.id;
  result.after = state_after(model, session.snapshot.active, std::move(proposal.update), committed);
  result.seconds = clock.seconds();
  result.peak_bytes = peak_memory_bytes();
  reporter.report("done", 1, 1);
  return result;
}

ForgetResult forget_documents(const fs::path& folder, const std::string& source,
                              const ModelInState& model_in, const std::string& tool_version) {
  Ledger ledger = Ledger::open(folder, Ledger::Mode::kWrite);
  const auto active = ledger.active();
  const LanguageModel model = model_in(ledger, active);
  ForgetResult result;
  Update update = forget_source(model.facts().store(), source, &result.documents);
  result.passages = static_cast<int64_t>(update.taught.items.front().replaces.size());
  UpdateRecord record;
  record.items = 1;
  record.source = source;
  record.parent = active.empty() ? "" : active.back().id;
  record.method = "forget";
  record.tool_version = tool_version;
  record.measurements = {{"forgotten", result.documents}, {"passages", result.passages}};
  update.metadata = fact_metadata(model, record);
  const UpdateRecord committed = ledger.commit(update, record);
  result.update = committed.id;
  result.after = state_after(model, active, std::move(update), committed);
  return result;
}

}  // namespace accrete
