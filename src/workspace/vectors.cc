// What a workspace does with a model of vectors.
#include "workspace/vectors.h"

#include <ATen/Parallel.h>

#include <filesystem>

#include "base/error.h"
#include "base/format.h"
#include "learn/teach.h"
#include "vector/vector_merge.h"
#include "workspace/impl.h"

namespace accrete {
namespace {

api::Kept kept_of(const VectorProbe& probe) {
  return {probe.before, probe.after, probe.kept(probe.after), probe.record.floor};
}

}  // namespace

VectorDesk::VectorDesk(const std::filesystem::path& folder, int threads)
    : model_(VectorModel::open(folder)) {
  if (threads > 0) at::set_num_threads(threads);
}

VectorState VectorDesk::at(const Ledger& ledger, const std::vector<UpdateRecord>& active,
                           bool with_sums) const {
  const std::lock_guard lock(guard_);
  VectorState state =
      make_state(model_.place(), ledger, active, with_sums, state_ ? &*state_ : nullptr);
  state_ = state;
  return state;
}

VectorState VectorDesk::now() const {
  const Ledger ledger = Ledger::open(model_.place().folder, Ledger::Mode::kRead);
  return at(ledger, ledger.active());
}

VectorStateOf VectorDesk::state_of() const {
  return [this](const Ledger& ledger, const std::vector<UpdateRecord>& active, bool with_sums) {
    return at(ledger, active, with_sums);
  };
}

void VectorDesk::follow(VectorState state) const {
  const std::lock_guard lock(guard_);
  state_ = std::move(state);
}

api::CheckReport VectorDesk::check() const {
  const Ledger ledger = Ledger::open(model_.place().folder, Ledger::Mode::kRead);
  const Snapshot snapshot = ledger.snapshot();
  const VectorState state = at(ledger, snapshot.active);
  api::CheckReport report;
  for (const VectorProbe& probe : vector_probes_of(ledger, snapshot)) {
    auto& out = report.probes.emplace_back();
    out.name = probe.record.name;
    out.base = probe.record.base;
    out.now = model_.score(state, probe.set);
    out.kept = probe.kept(out.now);
    out.floor = probe.record.floor;
    out.holds = probe.holds(out.now);
    report.holds = report.holds && out.holds;
  }
  return report;
}

api::Digest VectorDesk::digest() const {
  const Ledger ledger = Ledger::open(model_.place().folder, Ledger::Mode::kRead);
  return {model_.net().digest(),
          model_.digest(sums_of_files(model_.place(), ledger, ledger.active()))};
}

api::AuditReport VectorDesk::audit() const {
  const Ledger ledger = Ledger::open(model_.place().folder, Ledger::Mode::kRead);
  const auto active = ledger.active();
  api::AuditReport out;
  auto& vectors = out.vectors.emplace();
  for (const UpdateRecord& record : active) {
    const Update update = ledger.load(record.id);
    const auto task = update.metadata.find("task");
    const auto bytes = static_cast<int64_t>(
        std::filesystem::file_size(ledger.folder() / "updates" / update_file_name(record.id)));
    vectors.updates.push_back(
        {record.id, record.tag, record.source, task == update.metadata.end() ? "" : task->second,
         update.vectors.rows, update.vectors.outputs, update.vectors.as_sums(), bytes});
    vectors.rows += update.vectors.rows;
    vectors.bytes += bytes;
  }
  const VectorState state = at(ledger, active, /*with_sums=*/true);
  vectors.outputs = state.outputs;
  vectors.columns = model_.place().memory.columns;
  vectors.used = state.sums->used();
  return out;
}

api::Info VectorDesk::info() const {
  const Ledger ledger = Ledger::open(model_.place().folder, Ledger::Mode::kRead);
  const auto active = ledger.active();
  api::Info info;
  info.base = model_.net().digest();
  info.kind = "winners";
  info.state = state_key(active);
  info.updates = static_cast<int64_t>(active.size());
  info.outputs = at(ledger, active).outputs;
  return info;
}

std::shared_ptr<const VectorDesk> Workspace::Impl::vectors() {
  const std::lock_guard lock(guard_);
  if (!vectors_) {
    if (!has_vector_memory(folder))
      throw Error(
          ErrorCode::kUnsupported,
          accrete::format("{} has no memory of vectors: it is taught text", folder.string()),
          "`accrete retrofit` makes one of a policy_mlp, feature_classifier or table_mlp");
    vectors_ = std::make_shared<const VectorDesk>(folder, options.threads);
  }
  return vectors_;
}

api::MergeReport Workspace::Impl::merge_vectors(std::span<const std::filesystem::path> files,
                                                const api::MergeOptions& options,
                                                const Reporter& reporter) {
  if (options.on_conflict != "refuse")
    throw Error(ErrorCode::kUnsupported, "sums of rows know neither ours nor theirs",
                "leave --on-conflict out; `accrete revert` takes an update back");
  const auto desk = vectors();
  MergeVectorsResult r = accrete::merge_vectors(desk->model(), files, desk->state_of(),
                                                std::string(api::version()), reporter);
  api::MergeReport out;
  out.files = out.facts = r.files;
  out.there = r.there;
  out.taken = static_cast<int64_t>(r.updates.size());
  if (r.updates.empty()) return out;
  out.update = r.updates.back();
  desk->follow(std::move(r.after));
  return out;
}

void Workspace::Impl::require_text() const {
  if (is_vector_folder(folder))
    throw Error(ErrorCode::kUnsupported,
                accrete::format("{} is a model of vectors, which this is not for", folder.string()),
                has_vector_memory(folder)
                    ? "`accrete act` asks it, `accrete teach` teaches it rows of numbers"
                    : "`accrete retrofit` gives it a memory first");
}

bool Workspace::takes_vectors() const {
  return has_vector_memory(impl_->folder);
}

api::TeachReport Workspace::teach(const VectorSet& set, const api::TeachOptions& options,
                                  const Reporter& reporter) {
  const auto desk = impl_->vectors();
  TeachVectorsOptions inner;
  inner.seed = options.seed;
  inner.max_seconds = options.max_seconds;
  inner.tool_version = api::version();
  TeachVectorsResult r = teach_vectors(desk->model(), set, desk->state_of(), inner, reporter);
  desk->follow(std::move(r.after));
  api::TeachReport out;
  out.update = r.update;
  out.items = r.items;
  out.metric = r.metric;
  out.learned = {r.learned_before, r.learned_after};
  for (const VectorProbe& probe : r.probes) out.kept[probe.record.name] = kept_of(probe);
  out.remarks = r.remarks;
  out.rows = r.rows;
  out.parameters = r.parameters;
  out.seconds = r.seconds;
  out.measuring_seconds = r.measuring_seconds;
  out.peak_bytes = peak_memory_bytes();
  return out;
}

api::PlanReport Workspace::plan(const VectorSet& set, const api::TeachOptions& options,
                                const Reporter& reporter) const {
  (void)options;
  const auto desk = impl_->vectors();
  const TeachVectorsResult r = plan_vectors(desk->model(), set, desk->state_of(), reporter);
  api::PlanReport out;
  out.items = r.items;
  for (const VectorProbe& probe : r.probes) {
    auto& plan = out.probes[probe.record.name];
    plan.forecast.examples = plan.forecast.touched = plan.forecast.tried = probe.record.items;
    plan.forecast.now = probe.before;
    plan.forecast.predicted = plan.forecast.low = plan.forecast.high = probe.after - probe.before;
    plan.floor = probe.record.floor;
    plan.holds = probe.holds(probe.after);
  }
  out.rows = r.rows;
  out.parameters = r.parameters;
  out.remarks = r.remarks;
  out.seconds = r.seconds;
  return out;
}

api::ProbeInfo Workspace::add_probe(const VectorSet& set, const api::ProbeOptions& options,
                                    const Reporter& reporter) {
  reporter.check_cancelled();
  const auto desk = impl_->vectors();
  ProbeRecord record;
  record.name = options.name;
  record.floor = options.floor;
  record = add_vector_probe(desk->model(), set, record, options.replace, desk->state_of());
  return {record.name, record.items, record.base, record.floor};
}

std::vector<api::Action> Workspace::act(const VectorSet& set) const {
  const auto desk = impl_->vectors();
  const VectorModel& model = desk->model();
  model.require_fit(set);
  const VectorState state = desk->now();
  const auto width = state.outputs.size();
  const bool classes = model.net().kind() == VectorKind::kClassifier;
  if (width == 0)
    throw Error(ErrorCode::kInvalidArgument, "this classifier knows no class yet",
                "`accrete teach` it some");
  const std::vector<float> said = model.answer(state, set.inputs);
  const auto best = VectorModel::largest(said, static_cast<int64_t>(width));
  std::vector<api::Action> out;
  for (size_t row = 0; row < static_cast<size_t>(set.rows); ++row) {
    api::Action& action = out.emplace_back();
    const auto begin = said.begin() + static_cast<int64_t>(row * width);
    action.outputs.assign(begin, begin + static_cast<int64_t>(width));
    if (classes) action.label = state.outputs[static_cast<size_t>(best[row])];
  }
  return out;
}

double Workspace::score(const VectorSet& set) const {
  const auto desk = impl_->vectors();
  desk->model().require_fit(set);
  return desk->model().score(desk->now(), set);
}

}  // namespace accrete
