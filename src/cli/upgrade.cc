#include "api/upgrade.h"

#include <nlohmann/json.hpp>

#include "api/find_reader.h"
#include "base/error.h"
#include "base/format.h"
#include "cli/cli.h"

namespace accrete::cli {
namespace {

std::string as_text(const std::string& model, const UpgradeResult& r) {
  int64_t facts = 0;
  for (const UpgradedUpdate& u : r.updates) facts += u.facts;
  std::string out = accrete::format("{}: {} facts of {} update{} taught again\n", model, facts,
                                    r.updates.size(), r.updates.size() == 1 ? "" : "s");
  std::vector<std::vector<std::string>> rows;
  for (const UpgradedUpdate& u : r.updates)
    rows.push_back(
        {u.old, u.id.empty() ? "-" : u.id, accrete::format("{} facts", u.facts), u.source});
  out += table(rows);
  rows.clear();
  for (const LeftLesson& l : r.left)
    rows.push_back({"not taught",
                    l.line > 0 ? accrete::format("update {}, line {}", l.update, l.line)
                               : accrete::format("update {}", l.update),
                    l.what, l.why});
  return out + table(rows);
}

nlohmann::ordered_json as_json(const std::string& model, const UpgradeResult& r) {
  nlohmann::ordered_json updates = nlohmann::ordered_json::array(),
                         left = nlohmann::ordered_json::array();
  for (const UpgradedUpdate& u : r.updates)
    updates.push_back({{"old", u.old}, {"update", u.id}, {"source", u.source}, {"facts", u.facts}});
  for (const LeftLesson& l : r.left)
    left.push_back({{"update", l.update},
                    {"source", l.source},
                    {"line", l.line},
                    {"what", l.what},
                    {"why", l.why}});
  return {{"model", model}, {"updates", updates}, {"left", left}, {"probes", r.probes}};
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
      RetrofitFactsOptions options;
      options.reader = find_reader(state->reader);
      options.open = common.open;
      options.tool_version = kVersion;
      TeachOptions how;
      how.seed = common.seed;
      how.tool_version = kVersion;
      const auto result = upgrade(state->source, state->model, options, how, common.reporter());
      common.print(as_json(state->model, result), as_text(state->model, result));
      return 0;
    };
  });
}

}  // namespace accrete::cli
