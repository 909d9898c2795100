// audit and compact: what many updates have come to.
#include "learn/audit.h"

#include <nlohmann/json.hpp>

#include "base/format.h"
#include "cli/cli.h"
#include "learn/compact.h"
#include "learn/fact_inspect.h"
#include "model/fact_memory.h"

namespace accrete::cli {
namespace {

nlohmann::ordered_json report_json(const AuditReport& r) {
  nlohmann::ordered_json json = {{"updates", nlohmann::ordered_json::array()},
                                 {"blocks", nlohmann::ordered_json::array()},
                                 {"overlaps", nlohmann::ordered_json::array()},
                                 {"contested", nlohmann::ordered_json::array()},
                                 {"anomalies", r.anomalies}};
  for (const OwnedSlots& u : r.updates)
    json["updates"].push_back({{"id", u.update},
                               {"tag", u.tag},
                               {"source", u.source},
                               {"items", u.items},
                               {"rows", u.rows},
                               {"exclusive", u.exclusive},
                               {"anchors", u.anchors},
                               {"norm", u.norm},
                               {"largest_row", u.largest_row}});
  for (const BlockUse& b : r.blocks)
    json["blocks"].push_back({{"block", b.block},
                              {"used", b.used},
                              {"slots", b.slots},
                              {"left", b.slots - b.used},
                              {"norm", b.norm},
                              {"largest_row", b.largest_row}});
  for (const SharedSlots& s : r.overlaps)
    json["overlaps"].push_back(
        {{"a", s.a}, {"b", s.b}, {"shared", s.shared}, {"cosine", s.cosine}});
  for (const ContestedSlot& c : r.contested)
    json["contested"].push_back({{"block", c.block},
                                 {"slot", c.slot},
                                 {"updates", c.updates},
                                 {"norm", c.norm},
                                 {"sum_of_norms", c.sum_of_norms}});
  return json;
}

std::string to_text(const AuditReport& r) {
  using Rows = std::vector<std::vector<std::string>>;
  Rows updates = {{"UPDATE", "ITEMS", "ROWS", "ALONE", "ANCHORS", "NORM", "TAG", "SOURCE"}};
  for (const OwnedSlots& u : r.updates)
    updates.push_back({u.update, std::to_string(u.items), std::to_string(u.rows),
                       std::to_string(u.exclusive), std::to_string(u.anchors),
                       accrete::format("{:.2f}", u.norm), u.tag, u.source});
  Rows blocks = {{"BLOCK", "USED", "OF", "SHARE", "NORM", "LARGEST ROW"}};
  for (const BlockUse& b : r.blocks)
    blocks.push_back({std::to_string(b.block), std::to_string(b.used), std::to_string(b.slots),
                      percent(static_cast<double>(b.used) / static_cast<double>(b.slots)),
                      accrete::format("{:.2f}", b.norm), accrete::format("{:.3f}", b.largest_row)});
  std::string text = table(updates) + "\n" + table(blocks);
  if (!r.overlaps.empty()) {
    Rows rows = {{"UPDATE", "AND", "SHARED SLOTS", "COSINE"}};
    for (const SharedSlots& s : r.overlaps)
      rows.push_back({s.a, s.b, std::to_string(s.shared), accrete::format("{:+.2f}", s.cosine)});
    text += "\n" + table(rows);
  }
  if (!r.contested.empty()) {
    Rows rows = {{"BLOCK", "SLOT", "UPDATES", "NORM", "OF NORMS"}};
    for (const ContestedSlot& c : r.contested)
      rows.push_back({std::to_string(c.block), std::to_string(c.slot),
                      std::to_string(c.updates.size()), accrete::format("{:.3f}", c.norm),
                      accrete::format("{:.3f}", c.sum_of_norms)});
    text += "\n" + table(rows);
  }
  for (const auto& anomaly : r.anomalies) text += "odd: " + anomaly + "\n";
  return text;
}

void print_facts(const Common& common, const FactAudit& r) {
  nlohmann::ordered_json json = {{"facts", r.facts},
                                 {"wordings", r.wordings},
                                 {"left_to_the_model", r.left},
                                 {"bytes", r.bytes},
                                 {"updates", nlohmann::ordered_json::array()},
                                 {"subjects", nlohmann::ordered_json::array()},
                                 {"anomalies", r.anomalies}};
  std::vector<std::vector<std::string>> updates = {{"UPDATE", "FACTS", "OF", "WORDINGS", "BYTES",
                                                    "TAG", "SOURCE"}},
                                        subjects = {{"SUBJECT", "FACTS"}};
  for (const FactsOfUpdate& u : r.updates) {
    json["updates"].push_back({{"id", u.update},
                               {"tag", u.tag},
                               {"source", u.source},
                               {"facts", u.active},
                               {"taught", u.taught},
                               {"wordings", u.wordings},
                               {"bytes", u.bytes}});
    updates.push_back({u.update, std::to_string(u.active), std::to_string(u.taught),
                       std::to_string(u.wordings), std::to_string(u.bytes), u.tag, u.source});
  }
  for (const FactsOfSubject& s : r.subjects) {
    json["subjects"].push_back({{"subject", s.subject}, {"facts", s.facts}});
    subjects.push_back({s.subject.empty() ? "(none)" : s.subject, std::to_string(s.facts)});
  }
  std::string text = table(updates) + "\n" + table(subjects) +
                     accrete::format(
                         "\n{} facts in {} wordings, {} bytes; {} questions are left to the "
                         "model\n",
                         r.facts - r.left, r.wordings, r.bytes, r.left);
  for (const auto& anomaly : r.anomalies) text += "odd: " + anomaly + "\n";
  common.print(json, text);
}

}  // namespace

void add_audit(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model;
    size_t most = 10;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand(
      "audit", "Which update owns which slots, where they meet, what is left, what looks odd");
  verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  verb->add_option("--most", state->most, "How many overlaps and contested slots are listed")
      ->capture_default_str();
  add_common(*verb, common, "accrete audit my-model");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      if (has_fact_memory(state->model)) {
        print_facts(common,
                    audit_facts(Ledger::open(state->model, Ledger::Mode::kRead), state->most));
        return 0;
      }
      OpenOptions bare = common.open;
      bare.with_updates = false;
      const LanguageModel model = LanguageModel::open(state->model, bare);
      const Memory& memory = model.memory();
      const Ledger ledger = Ledger::open(state->model, Ledger::Mode::kRead);
      const AuditReport report =
          audit(load_members(ledger), memory.blocks, memory.keys.slots(), state->most);
      common.print(report_json(report), to_text(report));
      return 0;
    };
  });

  auto folder = std::make_shared<std::string>();
  auto* fold = app.add_subcommand(
      "compact", "Fold all active updates into one; the state stays the same bit for bit");
  fold->add_option("MODEL", *folder, "A model folder")->type_name("FOLDER")->required();
  add_common(*fold, common, "accrete compact my-model    (accrete undo my-model unfolds it)");
  fold->callback([folder, &common, &run] {
    run = [folder, &common] {
      const CompactResult r = compact(*folder, common.open, kVersion, common.reporter());
      std::string text;
      for (const auto& id : r.updates) text += "fold   " + id + "\n";
      text += accrete::format("of {} updates: {} rows -> {}, {} bytes -> {}\n", r.folded.size(),
                              r.rows_before, r.rows_after, r.bytes_before, r.bytes_after);
      text += "state  " + r.digest_before + " before\n       " + r.digest_after + " after\n";
      common.print({{"updates", r.updates},
                    {"folded", r.folded},
                    {"digest", {{"before", r.digest_before}, {"after", r.digest_after}}},
                    {"identical", r.digest_before == r.digest_after},
                    {"rows", {{"before", r.rows_before}, {"after", r.rows_after}}},
                    {"bytes", {{"before", r.bytes_before}, {"after", r.bytes_after}}}},
                   text);
      return 0;
    };
  });
}

}  // namespace accrete::cli
