#include "base/error.h"
#include "cli/cli.h"
#include "ledger/ledger.h"

namespace accrete::cli {
namespace {

nlohmann::ordered_json to_json(const UpdateRecord& r) {
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
          {"UPDATE", "TIME", "ITEMS", "ROWS", "", "TAG", "SOURCE"}};
      for (const auto& r : ledger.updates()) {
        json.push_back(to_json(r));
        rows.push_back({r.id, r.time, std::to_string(r.items), std::to_string(r.rows),
                        r.active ? "active" : "undone", r.tag, r.source});
      }
      common.print({{"updates", json}}, table(rows));
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
      auto json = to_json(ledger.find(state->id));
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

void add_undo(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model;
    int64_t count = 1;
  };
  auto state = std::make_shared<State>();
  const auto add = [&](const char* name, const char* help, bool undo) {
    auto* verb = app.add_subcommand(name, help);
    verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
    verb->add_option("N", state->count, "How many updates")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    add_common(*verb, common, fmt::format("accrete {} my-model 2", name));
    verb->callback([state, undo, &common, &run] {
      run = [state, undo, &common] {
        std::vector<std::string> ids;
        {
          Ledger ledger = Ledger::open(state->model, Ledger::Mode::kWrite);
          ids = undo ? ledger.undo(state->count) : ledger.redo(state->count);
        }
        const auto digest = LanguageModel::open(state->model, common.open).state_digest();
        std::string text;
        for (const auto& id : ids) text += (undo ? "undone " : "redone ") + id + "\n";
        common.print({{undo ? "undone" : "redone", ids}, {"digest", digest}},
                     text + "state  " + digest + "\n");
        return 0;
      };
    });
  };
  add("undo", "Take the last N updates back, exactly", true);
  add("redo", "Put the last N undone updates back", false);
}

void add_digest(CLI::App& app, Common& common, Run& run) {
  auto folder = std::make_shared<std::string>();
  auto* verb =
      app.add_subcommand("digest", "SHA-256 of the base and of the state with its updates");
  verb->add_option("MODEL", *folder, "A model folder")->type_name("FOLDER")->required();
  add_common(*verb, common, "accrete digest my-model");
  verb->callback([folder, &common, &run] {
    run = [folder, &common] {
      const LanguageModel model = LanguageModel::open(*folder, common.open);
      const auto base = model.base_digest(), now = model.state_digest();
      common.print({{"base", base}, {"state", now}}, "base   " + base + "\nstate  " + now + "\n");
      return 0;
    };
  });
}

}  // namespace accrete::cli
