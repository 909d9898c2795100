// audit and compact: what many updates have come to.
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "cli/cli.h"
#include "workspace/json.h"
#include "workspace/workspace.h"

namespace accrete::cli {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string to_text(const api::AuditReport::Rows& r) {
  Rows updates = {{"UPDATE", "ITEMS", "ROWS", "ALONE", "ANCHORS", "NORM", "TAG", "SOURCE"}};
  for (const auto& u : r.updates)
    updates.push_back({u.id, std::to_string(u.items), std::to_string(u.rows),
                       std::to_string(u.exclusive), std::to_string(u.anchors),
                       accrete::format("{:.2f}", u.norm), u.tag, u.source});
  Rows blocks = {{"BLOCK", "USED", "OF", "SHARE", "NORM", "LARGEST ROW"}};
  for (const auto& b : r.blocks)
    blocks.push_back({std::to_string(b.block), std::to_string(b.used), std::to_string(b.slots),
                      percent(static_cast<double>(b.used) / static_cast<double>(b.slots)),
                      accrete::format("{:.2f}", b.norm), accrete::format("{:.3f}", b.largest_row)});
  std::string text = table(updates) + "\n" + table(blocks);
  if (!r.overlaps.empty()) {
    Rows rows = {{"UPDATE", "AND", "SHARED SLOTS", "COSINE"}};
    for (const auto& s : r.overlaps)
      rows.push_back({s.a, s.b, std::to_string(s.shared), accrete::format("{:+.2f}", s.cosine)});
    text += "\n" + table(rows);
  }
  if (!r.contested.empty()) {
    Rows rows = {{"BLOCK", "SLOT", "UPDATES", "NORM", "OF NORMS"}};
    for (const auto& c : r.contested)
      rows.push_back({std::to_string(c.block), std::to_string(c.slot),
                      std::to_string(c.updates.size()), accrete::format("{:.3f}", c.norm),
                      accrete::format("{:.3f}", c.sum_of_norms)});
    text += "\n" + table(rows);
  }
  return text;
}

std::string to_text(const api::AuditReport::Facts& r) {
  Rows updates = {{"UPDATE", "FACTS", "OF", "WORDINGS", "BYTES", "TAG", "SOURCE"}},
       subjects = {{"SUBJECT", "FACTS"}};
  for (const auto& u : r.updates)
    updates.push_back({u.id, std::to_string(u.facts), std::to_string(u.taught),
                       std::to_string(u.wordings), std::to_string(u.bytes), u.tag, u.source});
  for (const auto& s : r.subjects)
    subjects.push_back({s.subject.empty() ? "(none)" : s.subject, std::to_string(s.facts)});
  std::string text = table(updates) + "\n" + table(subjects) + "\n";
  if (!r.documents.empty()) {
    Rows documents = {{"DOCUMENT", "PASSAGES", "UPDATE"}};
    for (const auto& d : r.documents)
      documents.push_back({d.source, std::to_string(d.passages), d.update});
    text += table(documents) + "\n";
  }
  text += accrete::format("{} facts in {} wordings, {} bytes; {} questions are left to the model\n",
                          r.facts - r.left, r.wordings, r.bytes, r.left);
  if (!r.documents.empty())
    text += accrete::format("{} passages of {} documents\n", r.passages, r.documents.size());
  return text;
}

std::string to_text(const api::AuditReport::Vectors& r) {
  Rows updates = {{"UPDATE", "ROWS", "OUTPUTS", "KEPT AS", "BYTES", "TASK", "TAG", "SOURCE"}};
  for (const auto& u : r.updates)
    updates.push_back({u.id, std::to_string(u.rows), std::to_string(u.outputs.size()),
                       u.sums ? "sums" : "rows", std::to_string(u.bytes), u.task, u.tag, u.source});
  return table(updates) +
         accrete::format("\n{} rows, {} outputs; {} of {} columns are used; {} bytes\n", r.rows,
                         r.outputs.size(), r.used, r.columns, r.bytes);
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
  add_overlay(*verb, common);
  add_common(*verb, common, "accrete audit my-model");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const auto r = Workspace::open(state->model, common.open).audit(state->most);
      std::string text = r.facts     ? to_text(*r.facts)
                         : r.vectors ? to_text(*r.vectors)
                                     : to_text(*r.rows);
      for (const auto& anomaly : r.anomalies) text += "odd: " + anomaly + "\n";
      common.print(to_json(r), text);
      return 0;
    };
  });

  struct Compact {
    std::string model;
    bool erase = false;
  };
  auto how = std::make_shared<Compact>();
  auto* fold = app.add_subcommand(
      "compact", "Fold all active updates into one; the state stays the same bit for bit");
  fold->add_option("MODEL", how->model, "A model folder")->type_name("FOLDER")->required();
  fold->add_flag("--erase", how->erase,
                 "Remove what is not active from the disk: what was corrected, undone or forgotten "
                 "cannot come back");
  add_overlay(*fold, common);
  add_common(*fold, common, "accrete compact my-model    (accrete undo my-model unfolds it)");
  fold->callback([how, &common, &run] {
    run = [how, &common] {
      const auto r =
          Workspace::open(how->model, common.open).compact(common.reporter(), how->erase);
      std::string text;
      for (const auto& id : r.updates) text += "fold   " + id + "\n";
      if (!r.updates.empty()) {
        text += accrete::format("of {} updates: {} rows -> {}, {} bytes -> {}\n", r.folded.size(),
                                r.rows_before, r.rows_after, r.bytes_before, r.bytes_after);
        text += "state  " + r.digest_before + " before\n       " + r.digest_after + " after\n";
      }
      if (how->erase)
        text += accrete::format("erased {} updates, {} bytes\n", r.erased.size(), r.erased_bytes);
      common.print(to_json(r), text);
      return 0;
    };
  });
}

}  // namespace accrete::cli
