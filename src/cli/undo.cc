// undo, redo, revert and tag: what is active, and what it is called. The ledger alone answers, in
// milliseconds; `accrete digest` proves the state.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "cli/cli.h"
#include "workspace/history.h"
#include "workspace/json.h"

namespace accrete::cli {
namespace {

void print(const Common& common, const api::ActiveReport& r) {
  std::string text;
  for (const auto& id : r.ids) text += accrete::format("{} {}\n", r.done, id);
  common.print(to_json(r),
               text + accrete::format("{} active\n",
                                      r.active == 1 ? "1 update is"
                                                    : accrete::format("{} updates are", r.active)));
}

void add_steps(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model;
    int64_t count = 1;
  };
  auto state = std::make_shared<State>();
  const auto add = [&](const char* name, const char* help, bool undo) {
    auto* verb = app.add_subcommand(name, help);
    verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
    verb->add_option("N", state->count, "How many updates")
        ->check(CLI::Validator(
            [](std::string& text) {
              const bool number =
                  !text.empty() && text.size() < 10 && text != "0" &&
                  std::all_of(
                      text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
              return number
                         ? std::string()
                         : "a number of updates is expected; `accrete revert MODEL ID` takes one "
                           "back by its id, with --again it brings it back";
            },
            ""))
        ->capture_default_str();
    add_overlay(*verb, common);
    add_common(*verb, common, accrete::format("accrete {} my-model 2", name));
    verb->callback([state, undo, &common, &run] {
      run = [state, undo, &common] {
        const History history(state->model, common.open.overlay);
        print(common, undo ? history.undo(state->count) : history.redo(state->count));
        return 0;
      };
    });
  };
  add("undo", "Take the last N updates back, exactly", true);
  add("redo", "Put the last N undone updates back, those undone since the last teach or revert",
      false);
}

void add_revert(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, id;
    bool again = false;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand(
      "revert", "Take one update back, anywhere in the order; the others stay as they are");
  verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  verb->add_option("ID", state->id, "An update's id, its beginning, or a tag")->required();
  verb->add_flag("--again", state->again, "Bring it back, in its old place; redo does not");
  add_overlay(*verb, common);
  add_common(*verb, common, "accrete revert my-model 3f2a && accrete revert my-model 3f2a --again");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      print(common, History(state->model, common.open.overlay).revert(state->id, state->again));
      return 0;
    };
  });
}

void add_tag(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, id, name;
    bool remove = false;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand("tag", "Give an update a name that every verb takes as its id");
  verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  verb->add_option("ID", state->id, "An update's id, its beginning, or its tag")->required();
  auto* name = verb->add_option("NAME", state->name, "Letters, digits, '_', '.' and '-'");
  verb->add_flag("--remove", state->remove, "Take the update's tag away")->excludes(name);
  add_overlay(*verb, common);
  add_common(*verb, common, "accrete tag my-model 3f2a prices-2025");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      if (state->name.empty() != state->remove)
        throw Error(ErrorCode::kInvalidArgument, "a tag needs a name",
                    "give NAME, or --remove to take the tag away");
      const api::TagReport r =
          History(state->model, common.open.overlay).tag(state->id, state->name);
      common.print(to_json(r), state->remove ? accrete::format("{} has no tag now\n", r.id)
                                             : accrete::format("{} is {} now\n", r.id, r.tag));
      return 0;
    };
  });
}

}  // namespace

void add_undo(CLI::App& app, Common& common, Run& run) {
  add_steps(app, common, run);
  add_revert(app, common, run);
  add_tag(app, common, run);
}

}  // namespace accrete::cli
