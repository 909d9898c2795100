#include "workspace/history.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "ledger/ledger.h"
#include "ledger/overlay_folder.h"

namespace accrete {
namespace {

api::UpdateInfo info_of(const UpdateRecord& r) {
  api::UpdateInfo info;
  info.id = r.id;
  info.time = r.time;
  info.active = r.active;
  info.items = r.items;
  info.rows = r.rows;
  info.source = r.source;
  info.tag = r.tag;
  info.order = r.order;
  info.digest = r.source_digest;
  info.parent = r.parent;
  info.seed = r.seed;
  info.method = r.method;
  info.tool_version = r.tool_version;
  info.measurements = r.measurements.dump();
  return info;
}

api::ActiveReport report(const Ledger& ledger, const char* done, std::vector<std::string> ids) {
  return {done, std::move(ids), static_cast<int64_t>(ledger.active().size())};
}

}  // namespace

History::History(std::filesystem::path folder, const std::string& overlay)
    : folder_(overlay.empty() ? std::move(folder) : find_overlay(folder, overlay)) {}

std::vector<api::UpdateInfo> History::log() const {
  std::vector<api::UpdateInfo> out;
  for (const UpdateRecord& record : Ledger::open(folder_, Ledger::Mode::kRead).updates())
    out.push_back(info_of(record));
  return out;
}

api::UpdateDetails History::show(const std::string& id) const {
  const Ledger ledger = Ledger::open(folder_, Ledger::Mode::kRead);
  api::UpdateDetails out;
  out.update = info_of(ledger.find(id));
  // What was taught is in the update's file.
  for (const TaughtItem& item : ledger.load(out.update.id).taught.items)
    out.taught.push_back({item.line, item.prompts, item.answers, item.subject, item.excerpt,
                          item.verbatim, item.leave, item.document, item.section,
                          item.prompts.empty() ? static_cast<int64_t>(item.replaces.size()) : 0});
  return out;
}

api::ActiveReport History::undo(int64_t n) const {
  Ledger ledger = Ledger::open(folder_, Ledger::Mode::kWrite);
  return report(ledger, "undone", ledger.undo(n));
}

api::ActiveReport History::redo(int64_t n) const {
  Ledger ledger = Ledger::open(folder_, Ledger::Mode::kWrite);
  const auto ids = ledger.redo(n);
  try {
    for (const auto& id : ids) (void)ledger.load(id);  // its file must be there and whole
  } catch (...) {
    (void)ledger.undo(static_cast<int64_t>(ids.size()));
    throw;
  }
  return report(ledger, "redone", ids);
}

api::ActiveReport History::revert(const std::string& id, bool again) const {
  Ledger ledger = Ledger::open(folder_, Ledger::Mode::kWrite);
  const UpdateRecord record = ledger.find(id);
  if (record.active == again)
    throw Error(
        ErrorCode::kInvalidArgument,
        accrete::format("update {} is {} already", record.id, again ? "active" : "taken back"),
        again ? "`accrete log` shows which are not" : "--again brings it back");
  if (again) (void)ledger.load(record.id);  // its file must be there and whole
  ledger.set_active(record.id, again);
  return report(ledger, again ? "activated" : "reverted", {record.id});
}

api::TagReport History::tag(const std::string& id, const std::string& name) const {
  if (name == "base" || name == "state")
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("\"{}\" cannot be a tag: diff has a meaning for it", name),
                "choose another name");
  Ledger ledger = Ledger::open(folder_, Ledger::Mode::kWrite);
  const std::string full = ledger.find(id).id;
  ledger.tag(full, name);
  return {full, name};
}

std::vector<api::ProbeInfo> History::probes() const {
  std::vector<api::ProbeInfo> out;
  for (const ProbeRecord& p : Ledger::open(folder_, Ledger::Mode::kRead).probes())
    out.push_back({p.name, p.items, p.base, p.floor});
  return out;
}

void History::remove_probe(const std::string& name) const {
  Ledger::open(folder_, Ledger::Mode::kWrite).remove_probe(name);
}

}  // namespace accrete
