// upgrade: a model of an earlier accrete made anew.
#include <nlohmann/json.hpp>

#include "accrete/model.h"
#include "base/format.h"
#include "cli/cli.h"
#include "workspace/json.h"

namespace accrete::cli {
namespace {

std::string to_text(const api::UpgradeReport& r) {
  int64_t facts = 0;
  for (const auto& u : r.updates) facts += u.facts;
  std::string out = accrete::format("{}: {} facts of {} update{} taught again\n", r.model, facts,
                                    r.updates.size(), r.updates.size() == 1 ? "" : "s");
  std::vector<std::vector<std::string>> rows;
  for (const auto& u : r.updates)
    rows.push_back(
        {u.old, u.id.empty() ? "-" : u.id, accrete::format("{} facts", u.facts), u.source});
  out += table(rows);
  rows.clear();
  for (const auto& l : r.left)
    rows.push_back({"not taught",
                    l.line > 0 ? accrete::format("update {}, line {}", l.update, l.line)
                               : accrete::format("update {}", l.update),
                    l.what, l.why});
  return out + table(rows);
}

}  // namespace

void add_upgrade(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string source, model, reader;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand(
      "upgrade", "Make a model of an earlier accrete anew and teach what its ledger has again");
  verb->add_option("OLD", state->source, "A model folder that an earlier accrete retrofitted")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("MODEL", state->model, "The new model's folder")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--reader", state->reader,
                   "The sentence encoder that reads questions; default: the one that comes along")
      ->type_name("FOLDER");
  add_common(*verb, common, "accrete upgrade old-model my-model");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      api::RetrofitOptions options;
      options.reader = state->reader;
      options.device = common.open.device;
      options.dtype = common.open.dtype;
      options.threads = common.open.threads;
      const auto r =
          api::upgrade(state->source, state->model, options, common.seed, common.callbacks());
      common.print(to_json(r), to_text(r));
      return 0;
    };
  });
}

}  // namespace accrete::cli
