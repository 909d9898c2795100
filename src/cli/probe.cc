// probe and check: what must be preserved.
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "cli/cli.h"
#include "workspace/json.h"
#include "workspace/workspace.h"

namespace accrete::cli {

void add_probe(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, file, few_shot;
    double floor = 0;
    api::ProbeOptions options;

    const api::ProbeOptions& resolved() {
      if (floor > 0) options.floor = floor;
      return options;
    }
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand("probe", "What must be preserved: add, discover, list, remove");
  verb->require_subcommand(1);

  auto* add = verb->add_subcommand("add", "Add a file of items as a probe");
  add->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  add->add_option("NAME", state->options.name, "The probe's name: letters, digits, _ . -")
      ->required();
  add->add_option("FILE", state->file,
                  "Items (.jsonl) or text (.txt); of a model of vectors a set of rows")
      ->type_name("FILE")
      ->required();
  add->add_option("--floor", state->floor,
                  "Smallest share of today's score that a teach may leave, 0 to 1; 0: none")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  add->add_flag("--raw", state->options.raw, "Prompts as they are, without the chat template");
  add->add_flag("--replace", state->options.replace, "Replace a probe of that name");
  add_overlay(*add, common);
  add_common(*add, common, "accrete probe add my-model known known.jsonl --raw --floor 0.95");
  add->callback([state, &common, &run] {
    run = [state, &common] {
      auto workspace = Workspace::open(state->model, common.open);
      const auto r = workspace.takes_vectors()
                         ? workspace.add_probe(read_vector_set(state->file), state->resolved(),
                                               common.reporter())
                         : workspace.add_probe(read_dataset(state->file), state->resolved(),
                                               common.reporter());
      common.print(to_json(r),
                   accrete::format("{}: {} items, base {:.4f}\n", r.name, r.items, r.base));
      return 0;
    };
  });

  auto* find = verb->add_subcommand(
      "discover",
      "Keep the questions that the model answers exactly today; the others are left out");
  find->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  find->add_option("DATA", state->file,
                   "Questions with answers (.jsonl). Exactly answered: the first line that the "
                   "model says is one of the answers and no more, case, punctuation and articles "
                   "aside; after a --raw prompt it may go on")
      ->type_name("FILE")
      ->required();
  find->add_option("--name", state->options.name, "The probe's name: letters, digits, _ . -")
      ->type_name("NAME")
      ->required();
  find->add_option("--floor", state->floor,
                   "Smallest share of today's score that a teach may leave, 0 to 1; 0: none")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  find->add_option(
          "--few-shot", state->few_shot,
          "Demonstrations before each question, .jsonl; asks as plain Question/Answer text")
      ->type_name("FILE");
  find->add_flag("--raw", state->options.raw, "Prompts as they are, without the chat template");
  find->add_flag("--replace", state->options.replace, "Replace a probe of that name");
  add_overlay(*find, common);
  add_common(*find, common,
             "accrete probe discover my-model questions.jsonl --name general --floor 0.95");
  find->callback([state, &common, &run] {
    run = [state, &common] {
      const Dataset data = read_dataset(state->file);
      std::optional<Dataset> demonstrations;
      if (!state->few_shot.empty()) demonstrations = read_dataset(state->few_shot);
      const auto r =
          Workspace::open(state->model, common.open)
              .discover_probe(data, state->resolved(), demonstrations, common.reporter());
      common.print(to_json(r),
                   accrete::format("{}: {} of {} answered right\n", r.name, r.kept, r.asked));
      return 0;
    };
  });

  auto* list = verb->add_subcommand("list", "The probes of a model");
  list->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  add_overlay(*list, common);
  add_common(*list, common, "accrete probe list my-model");
  list->callback([state, &common, &run] {
    run = [state, &common] {
      const auto probes = History(state->model, common.open.overlay).probes();
      std::vector<std::vector<std::string>> rows = {{"NAME", "ITEMS", "BASE", "FLOOR"}};
      for (const auto& p : probes)
        rows.push_back({p.name, std::to_string(p.items), accrete::format("{:.4f}", p.base),
                        p.floor ? accrete::format("{:.4f}", *p.floor) : "-"});
      common.print(to_json(probes), probes.empty() ? "no probes\n" : table(rows));
      return 0;
    };
  });

  auto* remove = verb->add_subcommand("remove", "Remove a probe");
  remove->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  remove->add_option("NAME", state->options.name, "The probe's name")->required();
  add_overlay(*remove, common);
  add_common(*remove, common, "accrete probe remove my-model general");
  remove->callback([state, &common, &run] {
    run = [state, &common] {
      const std::string& name = state->options.name;
      History(state->model, common.open.overlay).remove_probe(name);
      common.print({{"removed", name}}, "removed " + name + "\n");
      return 0;
    };
  });
}

void add_check(CLI::App& app, Common& common, Run& run) {
  auto folder = std::make_shared<std::string>();
  auto* verb = app.add_subcommand("check", "Run every probe: kept and lost against the base");
  verb->add_option("MODEL", *folder, "A model folder")->type_name("FOLDER")->required();
  add_overlay(*verb, common);
  add_common(*verb, common, "accrete check my-model || echo \"a probe is below its floor\"");
  verb->callback([folder, &common, &run] {
    run = [folder, &common] {
      const auto r = Workspace::open(*folder, common.open).check(common.reporter());
      std::vector<std::vector<std::string>> rows = {{"PROBE", "BASE", "NOW", "KEPT", "FLOOR", ""}};
      for (const auto& p : r.probes)
        rows.push_back({p.name, accrete::format("{:.4f}", p.base), accrete::format("{:.4f}", p.now),
                        percent(p.kept), p.floor ? percent(*p.floor) : "-",
                        p.holds ? "" : "BELOW ITS FLOOR"});
      common.print(to_json(r), r.probes.empty() ? "no probes: `accrete probe discover` makes one\n"
                                                : table(rows));
      return r.holds ? 0 : 1;
    };
  });
}

}  // namespace accrete::cli
