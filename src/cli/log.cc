#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/cli.h"
#include "ledger/ledger.h"

namespace accrete::cli {
namespace {

nlohmann::ordered_json record_json(const UpdateRecord& r) {
  return {{"id", r.id},
          {"order", r.order},
          {"time", r.time},
          {"items", r.items},
          {"active", r.active},
          {"source", r.source},
          {"digest", r.source_digest},
          {"parent", r.parent},
          {"seed", r.seed},
          {"method", r.method},
          {"rows", r.rows},
          {"tag", r.tag},
          {"tool_version", r.tool_version},
          {"measurements", r.measurements}};
}

}  // namespace

void add_log(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, id;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand("log", "The updates of a model, oldest first");
  verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  add_common(*verb, common, "accrete log my-model --json");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const Ledger ledger = Ledger::open(state->model, Ledger::Mode::kRead);
      nlohmann::ordered_json json = nlohmann::ordered_json::array();
      std::vector<std::vector<std::string>> rows = {
          {"UPDATE", "TIME", "ITEMS", "", "TAG", "SOURCE"}};
      for (const auto& r : ledger.updates()) {
        json.push_back(record_json(r));
        rows.push_back({r.id, r.time, std::to_string(r.items), r.active ? "active" : "undone",
                        r.tag, r.source});
      }
      common.print({{"updates", json}}, json.empty() ? "nothing was taught yet\n" : table(rows));
      return 0;
    };
  });

  auto* show = app.add_subcommand("show", "One update: where it came from and what it measured");
  show->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  show->add_option("ID", state->id, "An update's id, its beginning, or a tag")->required();
  add_common(*show, common, "accrete show my-model 3f2a");
  show->callback([state, &common, &run] {
    run = [state, &common] {
      const Ledger ledger = Ledger::open(state->model, Ledger::Mode::kRead);
      auto json = record_json(ledger.find(state->id));
      // What was taught is in the update's file.
      json["taught"] = nlohmann::ordered_json::array();
      for (const TaughtItem& item : ledger.load(json["id"].get<std::string>()).taught.items) {
        nlohmann::ordered_json entry = {{"line", item.line}};
        if (!item.prompts.empty()) {
          entry["prompts"] = item.prompts;
          entry["answers"] = item.answers;
        }
        if (!item.subject.empty()) entry["subject"] = item.subject;
        if (!item.excerpt.empty()) entry["excerpt"] = item.excerpt;
        json["taught"].push_back(entry);
      }
      common.print(json, json.dump(2) + "\n");
      return 0;
    };
  });
}

}  // namespace accrete::cli
