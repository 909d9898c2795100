#include "base/error.h"
#include "cli/cli.h"
#include "ledger/ledger.h"
#include "model/language_model.h"

namespace accrete::cli {

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
        const auto digest = LanguageModel::open(state->model, common.from_updates()).state_digest();
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
      const LanguageModel model = LanguageModel::open(*folder, common.from_updates());
      const auto base = model.base_digest(), now = model.state_digest();
      common.print({{"base", base}, {"state", now}}, "base   " + base + "\nstate  " + now + "\n");
      return 0;
    };
  });
}

}  // namespace accrete::cli
