// What the audit trail is told.
#include <stdexcept>

#include "serve/api.h"

namespace accrete::serve {

void Api::note(const Call& call, const std::string& overlay, const char* action,
               const nlohmann::ordered_json& more) {
  if (!trail_) return;
  nlohmann::ordered_json entry = {{"key", call.key}, {"overlay", overlay}, {"action", action}};
  if (overlay.empty()) entry.erase("overlay");
  if (more.is_object()) entry.update(more);
  trail_->add(entry);
}

nlohmann::ordered_json Api::noted(const Call& call, const std::string& overlay, const char* action,
                                  const nlohmann::ordered_json& asked,
                                  const std::function<nlohmann::ordered_json()>& f) {
  nlohmann::ordered_json entry = {{"state", "asked"}};
  if (asked.is_object()) entry.update(asked);
  note(call, overlay, action, entry);
  nlohmann::ordered_json result;
  try {
    result = f();
  } catch (const std::exception& error) {
    entry["state"] = "failed";
    entry["error"] = error.what();
    note(call, overlay, action, entry);
    throw;
  }
  entry["state"] = "done";
  if (result.is_array()) entry["updates"] = result;
  if (result.is_object())
    for (const char* name : {"id", "update"})
      if (result.contains(name) && result[name].is_string()) entry["update"] = result[name];
  note(call, overlay, action, entry);
  return result;
}

void Api::note_end(const JobReport& report) {
  nlohmann::ordered_json entry = {{"state", report.state}, {"job", report.id}};
  for (const char* name : {"source", "update"})
    if (report.json.contains(name)) entry[name] = report.json[name];
  if (!report.error.is_null()) entry["error"] = report.error.value("message", "");
  if (proposals_) {
    try {
      proposals_->ended(report.id, report.state == "committed",
                        report.error.is_null() ? "" : report.error.value("message", ""));
    } catch (const Error&) {  // the disk is full; the ledger says what was taught
    }
  }
  Call call;
  call.key = report.key;
  try {
    note(call, report.overlay, "teach", entry);
  } catch (const Error&) {  // it has ended; the line before said that it was asked for
    metrics_.add("accrete_audit_lines_lost_total", "");
  }
}

}  // namespace accrete::serve
