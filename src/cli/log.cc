// log and show: what was taught, from the ledger alone.
#include <nlohmann/json.hpp>

#include "cli/cli.h"
#include "workspace/history.h"
#include "workspace/json.h"

namespace accrete::cli {
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
      const auto updates = History(state->model).log();
      std::vector<std::vector<std::string>> rows = {
          {"UPDATE", "TIME", "ITEMS", "", "TAG", "SOURCE"}};
      for (const auto& u : updates)
        rows.push_back({u.id, u.time, std::to_string(u.items), u.active ? "active" : "undone",
                        u.tag, u.source});
      common.print(to_json(updates), updates.empty() ? "nothing was taught yet\n" : table(rows));
      return 0;
    };
  });

  auto* show = app.add_subcommand("show", "One update: where it came from and what it measured");
  show->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  show->add_option("ID", state->id, "An update's id, its beginning, or a tag")->required();
  add_common(*show, common, "accrete show my-model 3f2a");
  show->callback([state, &common, &run] {
    run = [state, &common] {
      const auto json = to_json(History(state->model).show(state->id));
      common.print(json, json.dump(2) + "\n");
      return 0;
    };
  });
}

}  // namespace accrete::cli
