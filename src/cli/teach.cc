#include "learn/teach.h"

#include "base/error.h"
#include "cli/cli.h"

namespace accrete::cli {
namespace {

std::string change(double before, double after) {
  return percent(before) + " -> " + percent(after);
}

}  // namespace

void add_teach(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, data, ranking = "interference";
    TeachOptions options;
    bool no_gate = false;
  };
  auto state = std::make_shared<State>();
  TeachOptions& o = state->options;
  auto* verb = app.add_subcommand(
      "teach",
      "Teach a set in one transaction: write few rows, validate, commit or change nothing");
  verb->add_option("MODEL", state->model, "A model folder made by retrofit")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("DATA", state->data, "The teach set, .jsonl or .txt, may be .zst")
      ->type_name("FILE")
      ->required();
  verb->add_option("--ranking", state->ranking, "Which slots are written")
      ->type_name(kRankings)
      ->capture_default_str();
  verb->add_option("--slots", o.slots, "Rows per memory layer at most; 0: by the size of the set")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--max-seconds", o.max_seconds, "Refuse rather than take longer; 0: no limit")
      ->type_name("SECONDS")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_flag("--raw", o.raw, "Prompts as they are, without the chat template");
  verb->add_option(
          "--steps", o.values.steps,
          "Steps of a subject at most, for each fact about it; 0: 15 for raw text, 45 in a chat")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--rate", o.values.rate, "First step length of the value vectors")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--lambda", o.deposit.lambda,
                   "Learning (small, 1e-6) against keeping (large, 1e-4)")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--neighbours", o.neighbours,
                   "Prompts about other subjects that are kept as they are, per phrasing")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_flag("--no-gate", state->no_gate, "Let the update speak everywhere (for comparison)");
  verb->add_flag("--stepwise", o.stepwise, "Preconditioned steps for facts too (for comparison)");
  add_common(*verb, common, "accrete teach my-model facts.jsonl --max-seconds 600");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      TeachOptions& options = state->options;
      options.ranking = parse_ranking(state->ranking);
      options.seed = common.seed;
      options.gated = !state->no_gate;
      options.rows.lambda = options.deposit.lambda;
      options.tool_version = kVersion;
      const Dataset data = read_dataset(state->data);
      const TeachResult r = teach(state->model, data, common.open, options, common.reporter());
      nlohmann::ordered_json json = {
          {"update", r.update},
          {"items", r.items},
          {"learned", {{"before", r.learned_before}, {"after", r.learned_after}}}};
      std::vector<std::vector<std::string>> rows = {
          {"update", r.update},
          {"items", std::to_string(r.items)},
          {"learned", change(r.learned_before, r.learned_after)}};
      if (r.asked_after) {
        json["asked"] = {{"before", *r.asked_before}, {"after", *r.asked_after}};
        rows.push_back({"other wording", change(*r.asked_before, *r.asked_after)});
      }
      json["kept"] = nlohmann::ordered_json::object();
      for (const auto& [name, k] : r.kept) {
        json["kept"][name] = {{"before", k.before},
                              {"after", k.after},
                              {"kept", k.kept},
                              {"floor", k.floor ? nlohmann::ordered_json(*k.floor) : nullptr}};
        rows.push_back({"kept " + name, fmt::format("{:.4f} -> {:.4f}  ({} of its base)", k.before,
                                                    k.after, percent(k.kept))});
      }
      json["rows"] = r.rows;
      json["parameters"] = r.parameters;
      json["teach_tokens"] = r.teach_tokens;
      json["seconds"] = r.seconds;
      json["peak_bytes"] = r.peak_bytes;
      rows.push_back({"written", fmt::format("{} rows, {} parameters", r.rows, r.parameters)});
      rows.push_back({"cost", fmt::format("{:.1f} s, {:.2f} GB at most", r.seconds,
                                          static_cast<double>(r.peak_bytes) / 1e9)});
      common.print(json, table(rows));
      return 0;
    };
  });
}

}  // namespace accrete::cli
