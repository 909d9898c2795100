// What is in a model: diff, audit, digest, export; and its probes.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "learn/audit.h"
#include "learn/fact_inspect.h"
#include "learn/fact_watch.h"
#include "ledger/combine.h"
#include "measure/fact_probe.h"
#include "measure/probe.h"
#include "model/coded_matrix.h"
#include "model/export.h"
#include "model/fact_memory.h"
#include "model/memory_files.h"
#include "model/state_digest.h"
#include "workspace/impl.h"

namespace accrete {
namespace {

// A side of a diff: an update by id, beginning of an id or tag; `base`: nothing; `state`: the sum
// of the active updates, without `except`.
Update side_of(const Ledger& ledger, const std::string& name, const std::string& except = {}) {
  if (name == "base") return {};
  if (name != "state") return ledger.load(name);
  std::vector<Update> updates;
  for (const auto& record : ledger.active())
    if (record.id != except) updates.push_back(ledger.load(record.id));
  return sum_updates(updates);
}

std::string full_name(const Ledger& ledger, const std::string& name) {
  return name == "base" || name == "state" ? name : ledger.find(name).id;
}

api::DiffReport::Facts plain(const FactDifference& d) {
  const auto lines = [](const std::vector<FactDifference::Line>& all) {
    std::vector<api::DiffReport::Line> out;
    for (const auto& l : all) out.push_back({l.question, l.a, l.b});
    return out;
  };
  return {d.facts_a, d.facts_b, d.shared, lines(d.changed), lines(d.only_a), lines(d.only_b)};
}

api::DiffReport::Rows plain(const UpdateDifference& d, double radius) {
  api::DiffReport::Rows out;
  for (const BlockDifference& x : d.blocks)
    out.blocks.push_back(
        {x.block, x.rows_a, x.rows_b, x.shared, x.norm_a, x.norm_b, x.norm_difference});
  out.all = {0, d.rows_a(), d.rows_b(), d.shared(), d.norm_a(), d.norm_b(), d.norm_difference()};
  out.cosine = d.shared_cosine();
  out.anchors_a = d.anchors_a;
  out.anchors_b = d.anchors_b;
  out.anchors_near = d.anchors_near;
  out.radius = radius;
  return out;
}

api::AuditReport plain(const FactAudit& r) {
  api::AuditReport out;
  auto& facts = out.facts.emplace();
  facts.facts = r.facts;
  facts.wordings = r.wordings;
  for (const PassagesOfDocument& d : r.documents)
    facts.documents.push_back({d.document, d.passages, d.update});
  facts.passages = r.passages;
  facts.left = r.left;
  facts.bytes = r.bytes;
  for (const FactsOfUpdate& u : r.updates)
    facts.updates.push_back({u.update, u.tag, u.source, u.active, u.taught, u.wordings, u.bytes});
  for (const FactsOfSubject& s : r.subjects) facts.subjects.push_back({s.subject, s.facts});
  out.anomalies = r.anomalies;
  return out;
}

api::AuditReport plain(const AuditReport& r) {
  api::AuditReport out;
  auto& rows = out.rows.emplace();
  for (const OwnedSlots& u : r.updates)
    rows.updates.push_back({u.update, u.tag, u.source, u.items, u.rows, u.exclusive, u.anchors,
                            u.norm, u.largest_row});
  for (const BlockUse& b : r.blocks)
    rows.blocks.push_back({b.block, b.used, b.slots, b.norm, b.largest_row});
  for (const SharedSlots& s : r.overlaps) rows.overlaps.push_back({s.a, s.b, s.shared, s.cosine});
  for (const ContestedSlot& c : r.contested)
    rows.contested.push_back({c.block, c.slot, c.updates, c.norm, c.sum_of_norms});
  out.anomalies = r.anomalies;
  return out;
}

ProbeRecord record_of(const api::ProbeOptions& options, bool raw, const Ledger& ledger) {
  ProbeRecord record;
  record.name = options.name;
  record.floor = options.floor;
  record.details["raw"] = raw;
  record.details["state"] = state_key(ledger.active());
  return record;
}

}  // namespace

api::DiffReport Workspace::diff(const std::string& a, const std::string& b) const {
  impl_->require_text();
  const Ledger ledger = Ledger::open(impl_->place, Ledger::Mode::kRead);
  const bool others = b.empty();
  api::DiffReport report;
  report.a = full_name(ledger, a);
  report.b = others ? "others" : full_name(ledger, b);
  const std::string right = others ? "state" : report.b, except = others ? report.a : "";
  if (has_fact_memory(impl_->folder)) {
    report.facts =
        plain(compare_facts(facts_named(ledger, report.a), facts_named(ledger, right, except)));
    return report;
  }
  const Update left = side_of(ledger, report.a), other = side_of(ledger, right, except);
  const double radius = load_memory_info(impl_->folder).at("gate").value("radius", 0.0);
  report.rows = plain(compare_updates(left, other, radius), radius);
  return report;
}

api::AuditReport Workspace::audit(size_t most) const {
  if (takes_vectors()) return impl_->vectors()->audit();
  if (has_fact_memory(impl_->folder))
    return plain(audit_facts(Ledger::open(impl_->place, Ledger::Mode::kRead), most));
  const State state = impl_->any();
  const Memory& memory = state->memory();
  const Ledger ledger = Ledger::open(impl_->place, Ledger::Mode::kRead);
  return plain(accrete::audit(load_members(ledger), memory.blocks, memory.keys.slots(), most));
}

api::Digest Workspace::digest() const {
  if (takes_vectors()) return impl_->vectors()->digest();
  const State state = impl_->any();  // updates are read from their files, whatever is kept of them
  const LanguageModel& model = *state;
  api::Digest out;
  out.base = model.base_digest();
  // What decodes beside the weights must be the weights.
  const auto codes = CodedWeights::open(model.folder());
  for (const TensorView* t : model.net().base_tensors()) codes.check(t->name, *t);
  out.state = model.has_memory() || model.has_facts()
                  ? accrete::state_digest(model, Ledger::open(impl_->place, Ledger::Mode::kRead))
                  : model.state_digest();
  return out;
}

api::ExportReport Workspace::export_to(const std::filesystem::path& to,
                                       const Reporter& reporter) const {
  impl_->require_text();
  if (impl_->shared)
    throw Error(ErrorCode::kUnsupported, "a folder for transformers has what all share",
                "`accrete overlay export` writes an overlay's facts into a file");
  const ExportResult r = export_model(impl_->folder, to, reporter);
  return {to.string(), r.updates, r.files};
}

api::ProbeInfo Workspace::add_probe(const Dataset& data, const api::ProbeOptions& options,
                                    const Reporter& reporter) {
  impl_->require_text();
  for (const Item& item : data.items)
    if (item.leave)
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("{}:{}: a question of a probe needs its answer",
                                  data.path.string(), item.line),
                  "teach what is to be left to the model");
  Ledger ledger = Ledger::open(impl_->place, Ledger::Mode::kWrite);  // no other writer now
  const State state = impl_->at(ledger, ledger.active());
  Probe probe;
  probe.data = data;
  probe.raw = options.raw;
  probe.record = record_of(options, options.raw, ledger);
  if (state->has_facts() && !probe.is_text())
    probe.record.details["base_answers"] = base_answers(*state, probe, reporter);
  probe.record.base = probe_score(*state, probe, reporter);
  probe.record.items = static_cast<int64_t>(data.items.size());
  ledger.add_probe(probe.record, to_jsonl(data.items), options.replace);
  return {options.name, probe.record.items, probe.record.base, options.floor};
}

api::DiscoverReport Workspace::discover_probe(const Dataset& data, const api::ProbeOptions& options,
                                              const std::optional<Dataset>& demonstrations,
                                              const Reporter& reporter) {
  impl_->require_text();
  std::optional<FewShot> few_shot;
  if (demonstrations) few_shot = make_few_shot(demonstrations->items);
  const bool raw = options.raw || few_shot.has_value();
  Ledger ledger = Ledger::open(impl_->place, Ledger::Mode::kWrite);  // no other writer now
  const State state = impl_->at(ledger, ledger.active());
  Probe probe;
  probe.data.items = discover(*state, data.items, few_shot, options.raw, reporter);
  const auto& kept = probe.data.items;
  if (kept.empty())
    throw Error(
        ErrorCode::kRefused, "the model answers none of them right; there is no probe",
        "give questions whose answers it gives word for word today and nothing more, or --few-shot "
        "with two demonstrations");
  probe.raw = raw;
  probe.record = record_of(options, raw, ledger);
  probe.record.base = 1;
  probe.record.items = static_cast<int64_t>(kept.size());
  probe.record.details["asked"] = data.items.size();
  if (state->has_facts())
    probe.record.details["base_answers"] = base_answers(*state, probe, reporter);
  ledger.add_probe(probe.record, to_jsonl(kept), options.replace);
  return {options.name, static_cast<int64_t>(data.items.size()), probe.record.items};
}

api::CheckReport Workspace::check(const Reporter& reporter) const {
  if (takes_vectors()) return impl_->vectors()->check();
  // State and probes of one moment, whatever a writer does meanwhile.
  const Ledger ledger = Ledger::open(impl_->place, Ledger::Mode::kRead);
  const Snapshot snapshot = ledger.snapshot();
  const State state = impl_->at(ledger, snapshot.active);
  api::CheckReport report;
  for (const Probe& p : probes_for(*state, ledger, snapshot)) {
    auto& out = report.probes.emplace_back();
    out.name = p.record.name;
    out.base = p.record.base;
    out.now = probe_score(*state, p, reporter);
    out.kept = probe_kept(p, out.now);
    out.floor = p.record.floor;
    out.holds = probe_holds(p, out.now);
    report.holds = report.holds && out.holds;
  }
  return report;
}

}  // namespace accrete
