#include "learn/teach.h"

#include <ATen/ATen.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <future>

#include "base/error.h"
#include "base/format.h"
#include "base/threads.h"
#include "learn/fact_teach.h"
#include "learn/guard.h"
#include "learn/subject_prompts.h"
#include "learn/subjects.h"
#include "learn/teach_clock.h"
#include "ledger/combine.h"
#include "measure/score.h"
#include "model/fact_memory.h"
#include "model/memory_files.h"
#include "model/overlay_trial.h"
#include "model/weight_pages.h"
#include "text/wording.h"

namespace accrete {
namespace {

// A model with everything that a teach looks at, before it computes anything.
struct Session {
  Ledger ledger;
  Snapshot snapshot;                   // of one moment
  std::vector<UpdateRecord> active;    // of it
  std::vector<EarlierUpdate> earlier;  // their rows' values may be absent
  std::future<std::optional<StateFile>> reading;
  LanguageModel model;
  WatchedProbes probes;
  std::map<std::string, std::string> probe_digests;  // of their items
  std::string source;                                // the teach set's file
  std::vector<Item> items;                           // with subjects
  std::vector<Conflict> conflicts;
  std::vector<Companion> companions;

  Session(const std::filesystem::path& folder, const Dataset& data, const OpenOptions& open,
          Ledger::Mode mode)
      : ledger(Ledger::open(folder, mode)),
        snapshot(ledger.snapshot()),
        active(std::move(snapshot.active)),
        reading(open_state()),
        model(open_bare(folder, open)) {
    if (!model.has_memory())
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("{} has no memory layers", folder.string()),
                  "make them with `accrete retrofit SRC MODEL`");
    load_state(mode);
    for (Probe& probe : probes_of(ledger, snapshot)) {
      probe_digests[probe.record.name] = probe.digest;
      probes.push_back(std::make_unique<WatchedProbe>(model, std::move(probe)));
      if (const auto known = known_score(probes.back()->probe().record))
        probes.back()->set_score_now(*known);
    }
    source = data.path.string();
    items = data.items;
    fill_subjects(items);
    conflicts = find_conflicts(items, earlier);
    companions = find_companions(items, earlier);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // A correction and what is about the same subject must not be held back by what it corrects.
  Proposal propose_update(TeachOptions options, const SubjectPrompts* prompts,
                          const Reporter& reporter) const {
    options.source = source;
    const Protect protect = [&](AccessLog& log, const Speaks& where) {
      protect_earlier(log, earlier, items, model.memory(), options.earlier_weight, where);
    };
    return propose(model, items, load_background(model.folder(), model.memory().keys),
                   load_names(model.folder()), options, reporter, protect, companions, {}, prompts);
  }

  // Those that share most slots with `update`.
  std::vector<Overlap> overlaps(const Update& update) const {
    constexpr size_t kMost = 10;
    const int64_t rows = rows_of(update);
    std::vector<Overlap> out;
    for (const EarlierUpdate& e : earlier)
      if (const int64_t shared = shared_slots(update, e.update); shared > 0)
        out.push_back({e.record.id, e.record.tag, e.record.source, shared,
                       static_cast<double>(shared) / static_cast<double>(rows), 0});
    std::stable_sort(out.begin(), out.end(),
                     [](const Overlap& a, const Overlap& b) { return a.shared > b.shared; });
    if (out.size() > kMost) out.resize(kMost);
    for (Overlap& o : out)
      o.cosine = compare_updates(update, shared_rows(update, o.update), 0).shared_cosine();
    return out;
  }

 private:
  std::optional<StateFile> state;  // its tables and records are elsewhere
  std::vector<int64_t> rows_end;   // of each of `earlier`, where its rows end in the state file

  // What an earlier update changed in the slots of `update`. Of a gated one the state file has the
  // rows, which saves reading the whole of its own file.
  Update shared_rows(const Update& update, const std::string& id) const {
    const auto it = std::find_if(earlier.begin(), earlier.end(),
                                 [&](const EarlierUpdate& e) { return e.record.id == id; });
    const Update& outline = it->update;
    if (!state || reach_of(outline) == Reach::kEverywhere || parts_of(outline) != 1)
      return ledger.load(id);
    int64_t row = rows_end[static_cast<size_t>(it - earlier.begin())] - rows_of(outline);
    const auto table = state->table();
    const auto width = static_cast<size_t>(state->width());
    Update out;
    for (const LayerDelta& layer : outline.layers) {
      const auto own = std::find_if(update.layers.begin(), update.layers.end(),
                                    [&](const LayerDelta& l) { return l.block == layer.block; });
      LayerDelta shared;
      shared.block = layer.block;
      shared.width = layer.width;
      for (const int64_t slot : layer.indices) {
        const auto values = table.subspan(static_cast<size_t>(row++) * width, width);
        if (own == update.layers.end() ||
            !std::binary_search(own->indices.begin(), own->indices.end(), slot))
          continue;
        shared.indices.push_back(slot);
        shared.delta.insert(shared.delta.end(), values.begin(), values.end());
      }
      out.layers.push_back(std::move(shared));
    }
    return out;
  }

  static LanguageModel open_bare(const std::filesystem::path& folder, const OpenOptions& open) {
    OpenOptions bare = open;
    bare.with_updates = false;  // they are read already
    return LanguageModel::open(folder, bare);
  }

  // On a thread of its own: after many updates it takes as long as to open the model.
  std::future<std::optional<StateFile>> open_state() const {
    std::vector<std::string> ids;
    for (const UpdateRecord& record : active) ids.push_back(record.id);
    return beside(
        [folder = ledger.folder(), ids = std::move(ids)] { return StateFile::open(folder, ids); });
  }

  // From the state file where it is at hand; else from the update files, and the next session finds
  // a state file.
  void load_state(Ledger::Mode mode) {
    if (auto opened = reading.get()) {
      model.use_overlay(model.overlay_of(*opened));
      for (const StateFile::Record& record : opened->records()) rows_end.push_back(record.end);
      earlier = outlines_of(active, *opened);
      state = std::move(*opened);
      return;
    }
    earlier = load_earlier(ledger, active);
    std::vector<const Update*> all;
    std::vector<NamedUpdate> named;
    for (const EarlierUpdate& e : earlier) {
      all.push_back(&e.update);
      named.push_back({e.record.id, &e.update});
    }
    model.use_overlay(model.make_overlay(all));
    if (mode != Ledger::Mode::kWrite || named.empty()) return;
    try {
      write_state(ledger.folder(), named);
    } catch (const Error&) {  // it is a convenience: a full disk is told of where it matters
    }
  }

  // What the probe scores in the state as it is, where that was measured: when the probe was made,
  // or by the commit that made this state.
  std::optional<double> known_score(const ProbeRecord& record) const {
    const std::string state = state_key(active);
    if (record.details.value("state", std::string()) == state) return record.base;
    if (active.empty()) return std::nullopt;
    auto before = active;
    before.pop_back();
    const auto& m = active.back().measurements;
    if (!m.is_object() || m.value("state", std::string()) != state_key(before) ||
        !m.contains("kept") || !m["kept"].contains(record.name))
      return std::nullopt;
    const auto& kept = m["kept"][record.name];
    if (kept.value("probe", std::string()) != probe_digests.at(record.name) ||
        !kept.contains("after") || !kept["after"].is_number())
      return std::nullopt;
    return kept.at("after").get<double>();
  }
};

std::map<std::string, ProbeForecast> forecast_all(WatchedProbes& probes, const Overlay& overlay,
                                                  const Update& update,
                                                  const ForecastOptions& options,
                                                  const Reporter& reporter) {
  std::map<std::string, ProbeForecast> out;
  for (const auto& probe : probes)
    out[probe->probe().record.name] = forecast(*probe, overlay, update, options, reporter);
  return out;
}

int64_t parameters_of(const Update& update) {
  int64_t parameters = 0;
  for (const LayerDelta& l : update.layers) parameters += static_cast<int64_t>(l.delta.size());
  return parameters;
}

// Shares of taught and of asked phrasings that the model answers under its overlay. Nobody can say
// a text by heart: of one the tokens count that it would have said.
struct Exam {
  std::vector<Example> taught;
  std::vector<Item> asked;
  std::vector<bool> is_fact;  // by item
  ExampleOptions options;
  // What is kept of the taught ones' passes; null where that cannot be.
  std::unique_ptr<const SubjectPrompts> prompts;

  Exam(const LanguageModel& model, const std::vector<Item>& items, bool raw) {
    options.raw = raw;
    taught = make_examples(model, items, options);
    for (const Item& item : items) {
      if (!item.asked.empty()) asked.push_back(item);
      is_fact.push_back(item.kind == Item::Kind::kFact);
    }
  }
  double learned(const LanguageModel& model, const Reporter& reporter) {
    const auto scores = prompts ? score_states(model, taught, prompts->states(reporter, "ask"))
                                : score_examples(model, taught, reporter, "ask");
    double sum = 0;
    for (size_t i = 0; i < scores.size(); ++i)
      sum += is_fact[static_cast<size_t>(taught[i].item)]
                 ? static_cast<double>(scores[i].exact)
                 : static_cast<double>(scores[i].right) /
                       static_cast<double>(std::max<int64_t>(scores[i].labels, 1));
    return scores.empty() ? 0 : sum / static_cast<double>(scores.size());
  }
  std::optional<double> asked_rate(const LanguageModel& model, const Reporter& reporter) {
    if (asked.empty()) return std::nullopt;
    return exact_rate(score_items(model, asked, options, true, reporter, "ask"));
  }
};

}  // namespace

int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

void check_teach_set(const Dataset& data) {
  std::map<std::string, std::pair<std::string, int64_t>> answers;  // prompt -> answer, line
  int64_t learnable = 0;
  for (const Item& item : data.items) {
    learnable += item.kind != Item::Kind::kFact || !item.prompts.empty();
    if (item.leave || item.verbatim)
      throw Error(ErrorCode::kUnsupported,
                  accrete::format("{}:{}: this model has memory layers, which know no \"{}\"",
                                  data.path.string(), item.line, item.leave ? "leave" : "verbatim"),
                  "leave it away, or use a model that `accrete retrofit` made");
    if (item.kind != Item::Kind::kFact) continue;
    for (const auto& prompt : item.prompts) {
      const auto [it, fresh] = answers.try_emplace(prompt, item.answers.front(), item.line);
      if (!fresh && !same_text(it->second.first, item.answers.front()))
        throw Error(
            ErrorCode::kInvalidArgument,
            accrete::format("{}: lines {} and {} give \"{}\" two answers: \"{}\" and \"{}\"",
                            data.path.string(), it->second.second, item.line, prompt,
                            it->second.first, item.answers.front()),
            "keep the one that is true; list accepted variants under \"answers\"");
    }
  }
  if (learnable == 0)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{}: there is nothing to teach", data.path.string()),
                "an item needs a prompt with a completion, messages or text");
}

PlanResult plan(const std::filesystem::path& folder, const Dataset& data, const OpenOptions& open,
                const TeachOptions& options, const Reporter& reporter) {
  if (has_fact_memory(folder))
    return plan_facts(folder, data, open_in_state(folder, open), options, reporter);
  const Clock clock;
  const Reporter timed = with_limit(reporter, options.max_seconds, clock);
  check_teach_set(data);
  Session session(folder, data, open, Ledger::Mode::kRead);
  PlanResult result;
  result.items = static_cast<int64_t>(data.items.size());
  result.conflicts = session.conflicts;
  result.companions = static_cast<int64_t>(session.companions.size());
  const Proposal proposal = session.propose_update(options, {}, timed);
  result.rows = rows_of(proposal.update);
  result.parameters = parameters_of(proposal.update);
  result.overlaps = session.overlaps(proposal.update);
  ForecastOptions how = options.forecast;
  how.seed = options.seed;
  result.forecast = forecast_all(session.probes, session.model.overlay_with(proposal.update),
                                 proposal.update, how, timed);
  for (const auto& probe : session.probes)
    result.floors[probe->probe().record.name] = probe->probe().record.floor;
  for (const auto& probe : session.probes) {
    const auto& name = probe->probe().record.name;
    const ProbeForecast& f = result.forecast.at(name);
    result.holds[name] = probe_holds(probe->probe(), f.now + f.predicted);
  }
  result.seconds = clock.seconds();
  reporter.report("done", 1, 1);
  return result;
}

TeachResult teach(const std::filesystem::path& folder, const Dataset& data, const OpenOptions& open,
                  const TeachOptions& given, const Reporter& reporter) {
  if (has_fact_memory(folder))
    return teach_facts(folder, data, open_in_state(folder, open), given, reporter);
  const Clock clock;
  const Reporter timed = with_limit(reporter, given.max_seconds, clock);
  check_teach_set(data);
  Session session(folder, data, open, Ledger::Mode::kWrite);
  LanguageModel& model = session.model;

  TeachResult result;
  result.items = static_cast<int64_t>(data.items.size());
  result.conflicts = session.conflicts;
  result.companions = static_cast<int64_t>(session.companions.size());
  Exam exam(model, session.items, given.raw);
  if (!given.stepwise && SubjectPrompts::apply(model, exam.taught))
    exam.prompts = std::make_unique<SubjectPrompts>(model, exam.taught, given.values.cache_bytes,
                                                    timed, "read prompts");
  const auto measuring = [&](auto&& measure) {
    const Clock own;
    const auto value = measure();
    result.measuring_seconds += own.seconds();
    return value;
  };
  result.learned_before = measuring([&] { return exam.learned(model, timed); });
  result.asked_before = measuring([&] { return exam.asked_rate(model, timed); });
  for (const auto& probe : session.probes) {
    KeptScore& kept = result.kept[probe->probe().record.name];
    kept.before = probe->score_now(timed);
    kept.floor = probe->probe().record.floor;
  }

  // Steps are watched as they are taken; what is solved in one go is checked when it is there.
  TeachOptions options = given;
  constexpr int64_t kRollingExamples = 8;
  RollingCheck rolling(session.probes, kRollingExamples, options.seed);
  const bool any_floor = std::any_of(result.kept.begin(), result.kept.end(),
                                     [](const auto& k) { return k.second.floor.has_value(); });
  if (any_floor) {
    options.rows.check_tokens = rolling.tokens();
    options.rows.holds = [&](const RowChanges& changes) {
      return rolling.holds(
          model.memory().overlay.with_trial(changes.slots, changes.delta, changes.anchors), timed);
    };
  }
  const Proposal proposal = session.propose_update(options, exam.prompts.get(), timed);
  result.check_share =
      proposal.step_seconds > 0 ? proposal.check_seconds / proposal.step_seconds : 0;

  ForecastOptions how = options.forecast;
  how.seed = options.seed;
  result.forecast = forecast_all(session.probes, session.model.overlay_with(proposal.update),
                                 proposal.update, how, timed);
  result.overlaps = session.overlaps(proposal.update);

  // The whole of every probe, and states near the proposal if a floor would break.
  const auto under = [&](const Overlay& overlay, auto&& measure) {
    const OverlayTrial trial(model, overlay);  // gone too when measuring is cancelled
    return measure();
  };
  GuardSetup setup;
  setup.model = &model;
  setup.probes = &session.probes;
  setup.learned = [&](const Overlay& overlay) {
    return measuring([&] { return under(overlay, [&] { return exam.learned(model, timed); }); });
  };
  setup.learned_before = result.learned_before;
  setup.least_share = options.least_share;
  Guarded guarded = guard_floors(setup, proposal, timed);
  result.learned_after = guarded.learned;
  result.change = guarded.change;
  if (proposal.stopped && result.change.empty()) result.change = "stopped early";
  for (const int64_t i : guarded.variant.dropped)
    result.dropped_lines.push_back(proposal.update.taught.items[static_cast<size_t>(i)].line);
  result.asked_after = measuring(
      [&] { return under(guarded.overlay, [&] { return exam.asked_rate(model, timed); }); });
  if (reach_of(guarded.update) == Reach::kSubjects && result.learned_before < 1 &&
      result.learned_after <= result.learned_before)
    throw Error(ErrorCode::kRefused, "none of the facts was learned; nothing was changed",
                "give more phrasings of each and name its \"subject\", or raise --steps");
  for (const auto& probe : session.probes) {
    KeptScore& kept = result.kept[probe->probe().record.name];
    kept.after = guarded.after.at(probe->probe().record.name);
    kept.kept = probe_kept(probe->probe(), kept.after);
  }
  timed.check_cancelled();

  result.rows = rows_of(guarded.update);
  result.parameters = parameters_of(guarded.update);
  result.teach_tokens = proposal.teach_tokens;
  UpdateRecord record;
  record.items = result.items - static_cast<int64_t>(result.dropped_lines.size());
  record.source = data.path.string();
  record.source_digest = data.digest;
  record.parent = session.active.empty() ? "" : session.active.back().id;
  record.seed = options.seed;
  record.method = ranking_name(options.ranking) + (proposal.deposit_again ? "+deposit" : "+steps") +
                  (guarded.update.anchors.queries.empty() ? "" : "+gate");
  record.tool_version = options.tool_version;
  record.measurements = {
      {"learned", {{"before", result.learned_before}, {"after", result.learned_after}}},
      {"state", state_key(session.active)},
      {"seconds", clock.seconds()}};
  if (result.asked_after)
    record.measurements["asked"] = {{"before", *result.asked_before},
                                    {"after", *result.asked_after}};
  if (!result.change.empty()) record.measurements["change"] = result.change;
  if (!result.conflicts.empty()) record.measurements["conflicts"] = result.conflicts.size();
  for (const auto& [name, kept] : result.kept)
    record.measurements["kept"][name] = {
        {"before", kept.before}, {"after", kept.after}, {"probe", session.probe_digests.at(name)}};

  // In the file only what the same teach gives again: no times.
  Metadata& metadata = guarded.update.metadata;
  metadata["base_digest"] = load_memory_info(folder).value("base_digest", "");
  metadata["parent"] = record.parent;
  metadata["data_digest"] = data.digest;
  metadata["seed"] = std::to_string(options.seed);
  metadata["method"] = record.method;
  metadata["tool_version"] = options.tool_version;
  metadata["learned"] =
      accrete::format("{:.6f} -> {:.6f}", result.learned_before, result.learned_after);
  // The commit takes memory for the update, and does not read the weights.
  forget_weights(model.net());
  result.update = session.ledger.commit(guarded.update, record).id;
  result.seconds = clock.seconds();
  result.peak_bytes = peak_memory_bytes();
  reporter.report("done", 1, 1);
  return result;
}

}  // namespace accrete
