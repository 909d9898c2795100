#include "vector/vector_teach.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/utf8.h"
#include "learn/new_model.h"
#include "learn/teach_clock.h"
#include "model/memory_files.h"

namespace accrete {

namespace fs = std::filesystem;

namespace {

constexpr int kVectorMemoryVersion = 2;

// What one teach or plan has at hand.
struct VectorTrial {
  Snapshot snapshot;
  VectorState before;
  UpdateVectors update;
  TeachVectorsResult result;
};

void require_new(const VectorSet& set, const std::vector<UpdateRecord>& active) {
  for (const auto& record : active)
    if (record.source_digest == set.digest)
      throw Error(
          ErrorCode::kConflict,
          accrete::format("{} was taught already, by update {}", set.path.string(), record.id),
          "`accrete undo` or `accrete revert` takes it back");
}

// At most so many of its rows, evenly spaced: what was learned is told by these.
VectorSet some_of(const VectorSet& set) {
  constexpr int64_t kMost = 2000;
  const int64_t every = (set.rows + kMost - 1) / kMost;
  VectorSet out = set;
  out.inputs.clear();
  out.classes.clear();
  out.values.clear();
  out.rows = 0;
  const auto append = [](auto& to, const auto& from, int64_t row, int64_t width) {
    to.insert(to.end(), from.begin() + row * width, from.begin() + (row + 1) * width);
  };
  for (int64_t row = 0; row < set.rows; row += every, ++out.rows) {
    append(out.inputs, set.inputs, row, set.width);
    if (set.in_classes())
      append(out.classes, set.classes, row, 1);
    else
      append(out.values, set.values, row, set.outputs);
  }
  return out;
}

// All up to the decision.
VectorTrial try_set(const VectorModel& model, const VectorSet& set, const Ledger& ledger,
                    const VectorStateOf& state_of, const Reporter& reporter) {
  model.require_fit(set);
  VectorTrial trial;
  TeachVectorsResult& result = trial.result;
  trial.snapshot = ledger.snapshot();
  require_new(set, trial.snapshot.active);
  constexpr int64_t kStages = 4;
  reporter.report("read", 0, kStages);
  trial.before = state_of(ledger, trial.snapshot.active, /*with_sums=*/true);
  reporter.check_cancelled();
  trial.update = model.lesson(set);
  if (const int64_t n = count_repeated(set.path.string(), trial.update, *trial.before.seen); n > 0)
    result.remarks.push_back(accrete::format(
        "{} of its rows were taught before, as the same class; they count again", n));
  reporter.check_cancelled();
  reporter.report("solve", 1, kStages);
  result.after = add_update(model.place(), trial.before, "", trial.update);
  reporter.check_cancelled();
  reporter.report("measure", 2, kStages);
  const Clock measuring;
  result.metric = model.metric_of(set);
  const VectorSet some = some_of(set);
  result.learned_before = model.score(trial.before, some);
  result.learned_after = model.score(result.after, some);
  result.probes = vector_probes_of(ledger, trial.snapshot);
  for (VectorProbe& probe : result.probes) {
    reporter.check_cancelled();
    probe.before = model.score(trial.before, probe.set);
    probe.after = model.score(result.after, probe.set);
  }
  result.measuring_seconds = measuring.seconds();
  result.items = result.rows = set.rows;
  result.parameters = result.after.values.numel();
  return trial;
}

}  // namespace

std::string memory_name(const VectorMemory& memory) {
  return accrete::format("winners {} {} {}", memory.columns, memory.winners, memory.seed);
}

int64_t count_repeated(const std::string& source, const UpdateVectors& update,
                       const SeenRows& seen) {
  int64_t repeated = 0;
  for (size_t i = 0; i < update.inputs.size(); ++i) {
    const std::string& label = update.outputs[static_cast<size_t>(update.classes[i])];
    const auto [begin, end] = seen.equal_range(update.inputs[i]);
    for (auto at = begin; at != end; ++at)
      if (at->second.label != label)
        throw Error(ErrorCode::kConflict,
                    accrete::format("{}: row {} is {}, and the same input is {} in row {} of "
                                    "update {}; nothing was changed",
                                    source, i + 1, shown(label), shown(at->second.label),
                                    at->second.row + 1, at->second.update),
                    "leave the row out, or take the update back first");
    repeated += begin != end;
  }
  return repeated;
}

void require_floors(const std::vector<VectorProbe>& probes) {
  for (const VectorProbe& probe : probes)
    if (!probe.holds(probe.after))
      throw Error(
          ErrorCode::kRefused,
          accrete::format("the floor of probe {} would break: {:.4f} of its base, {:.4f} is "
                          "the floor; nothing was changed",
                          probe.record.name, probe.kept(probe.after), *probe.record.floor),
          "teach fewer rows, or lower the probe's floor");
}

double VectorProbe::kept(double score) const {
  const double none = set.metric == "auc" ? 0.5 : 0;
  return record.base > none ? std::max(0.0, score - none) / (record.base - none) : 1;
}

bool VectorProbe::holds(double score) const {
  return !record.floor || kept(score) >= *record.floor - 1e-12;
}

std::vector<VectorProbe> vector_probes_of(const Ledger& ledger, const Snapshot& snapshot) {
  std::vector<VectorProbe> probes;
  for (const StoredProbe& stored : snapshot.probes) {
    VectorProbe& probe = probes.emplace_back();
    probe.record = stored.record;
    probe.set = parse_vector_rows(stored.items, (ledger.folder() / stored.record.file).string());
    probe.set.metric = stored.record.details.value("metric", std::string());
    probe.digest = stored.digest;
  }
  return probes;
}

RetrofitVectorsResult retrofit_vectors(const fs::path& source, const fs::path& target,
                                       const RetrofitVectorsOptions& options,
                                       const Reporter& reporter) {
  const VectorNetwork net = VectorNetwork::open(source);
  const int64_t winners =
      options.winners > 0 ? options.winners : std::max<int64_t>(1, options.columns / 4);
  (void)Winners(1, options.columns, winners, 0);  // before anything is copied
  if (!(options.ridge > 0)) throw Error(ErrorCode::kInvalidArgument, "--ridge must be above 0");
  std::optional<VectorSet> background;
  if (!options.background.empty()) background = read_vector_set(options.background);
  NewModelFolder staging(target);
  bring_base(source, staging.path(), reporter);
  (void)Ledger::create(staging.path());
  nlohmann::ordered_json json = {
      {"version", kVectorMemoryVersion}, {"kind", "winners"},
      {"columns", options.columns},      {"winners", winners},
      {"ridge", options.ridge},          {"seed", options.seed},
      {"base_digest", net.digest()},     {"background", ""},
      {"source", source.string()},       {"tool_version", options.tool_version}};
  const fs::path file = staging.path() / "accrete" / "memory.json";
  write_file_atomically(file, json.dump(2) + "\n");
  if (background) {
    const VectorModel model = VectorModel::open(staging.path());
    model.require_fit(*background);
    Update update;
    update.vectors = model.background(*background);
    const fs::path folder = staging.path() / "accrete";
    const std::string id = write_update(folder, update);
    const fs::path written = folder / "background.safetensors";
    rename_durably(folder / update_file_name(id), written);
    json["background"] = sha256_hex(MappedFile(written).bytes());
    write_file_atomically(file, json.dump(2) + "\n");
  }
  reporter.check_cancelled();
  staging.commit();
  return {options.columns, winners};
}

TeachVectorsResult plan_vectors(const VectorModel& model, const VectorSet& set,
                                const VectorStateOf& state_of, const Reporter& reporter) {
  const Clock clock;
  const Ledger ledger = Ledger::open(model.place().folder, Ledger::Mode::kRead);
  TeachVectorsResult result = try_set(model, set, ledger, state_of, reporter).result;
  result.seconds = clock.seconds();
  return result;
}

TeachVectorsResult teach_vectors(const VectorModel& model, const VectorSet& set,
                                 const VectorStateOf& state_of, const TeachVectorsOptions& options,
                                 const Reporter& reporter) {
  const Clock clock;
  const Reporter timed = with_limit(reporter, options.max_seconds, clock);
  Ledger ledger = Ledger::open(model.place().folder, Ledger::Mode::kWrite);
  VectorTrial trial = try_set(model, set, ledger, state_of, timed);
  TeachVectorsResult& result = trial.result;
  require_floors(result.probes);
  timed.check_cancelled();

  UpdateRecord record;
  record.items = set.rows;
  record.source = set.path.string();
  record.source_digest = set.digest;
  record.parent = trial.snapshot.active.empty() ? "" : trial.snapshot.active.back().id;
  record.seed = options.seed;
  record.method = "winners+ridge";
  record.tool_version = options.tool_version;
  record.measurements = {
      {"learned", {{"before", result.learned_before}, {"after", result.learned_after}}},
      {"metric", result.metric},
      {"state", state_key(trial.snapshot.active)},
      {"seconds", clock.seconds()}};
  if (!set.task.empty()) record.measurements["task"] = set.task;
  for (const VectorProbe& probe : result.probes)
    record.measurements["kept"][probe.record.name] = {
        {"before", probe.before}, {"after", probe.after}, {"probe", probe.digest}};
  Update update;
  update.vectors = std::move(trial.update);
  // No parent: the same set gives the same update, whatever else is active.
  update.metadata = {{"base_digest", model.place().memory.base_digest},
                     {"memory", memory_name(model.place().memory)},
                     {"data_digest", set.digest}};
  if (!set.task.empty()) update.metadata["task"] = set.task;
  timed.report("write", 3, 4);
  const UpdateRecord committed = ledger.commit(update, record);
  result.update = committed.id;
  // By its name now, which it has since it was written.
  result.after.ids = trial.before.ids;
  result.after.ids.insert(committed.id);
  auto seen = std::make_shared<SeenRows>(*trial.before.seen);
  for (size_t i = 0; i < update.vectors.inputs.size(); ++i)
    seen->emplace(update.vectors.inputs[i],
                  SeenRow{committed.id,
                          update.vectors.outputs[static_cast<size_t>(update.vectors.classes[i])],
                          static_cast<int64_t>(i)});
  result.after.seen = std::move(seen);
  try {
    save_state(model.place(), result.after);
  } catch (const Error&) {
    // It was taught all the same: whoever needs the sums makes them of the update files.
  }
  result.seconds = clock.seconds();
  reporter.report("done", 4, 4);
  return std::move(trial.result);
}

ProbeRecord add_vector_probe(const VectorModel& model, const VectorSet& set, ProbeRecord record,
                             bool replace, const VectorStateOf& state_of) {
  model.require_fit(set);
  Ledger ledger = Ledger::open(model.place().folder, Ledger::Mode::kWrite);  // no other writer now
  const auto active = ledger.active();
  record.base = model.score(state_of(ledger, active, /*with_sums=*/false), set);
  record.items = set.rows;
  record.details = {{"metric", model.metric_of(set)}, {"state", state_key(active)}};
  ledger.add_probe(record, to_jsonl(set), replace);
  return record;
}

}  // namespace accrete
