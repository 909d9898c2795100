#include <nlohmann/json.hpp>

#include "api/installation.h"
#include "base/format.h"
#include "bench/forgetting.h"
#include "bench/verbs/bench.h"

namespace accrete::cli {
namespace {

struct BenchForgetting {
  std::string model, profile = "small", out = "forgetting";
  std::vector<std::string> methods, schedules;
  int64_t seeds = 0;
  double max_seconds = 0;
};

std::string line_of(const nlohmann::ordered_json& cell) {
  std::string out = cell.at("method").get<std::string>();
  for (const auto& [key, value] : cell.at("hyper").items())
    out += accrete::format(" {}={}", key, value.dump());
  return out + accrete::format(" passes={}", cell.at("passes").dump());
}

int bench_forgetting(const BenchForgetting& state, const Common& common) {
  ForgettingOptions options;
  options.data = data_folder();
  options.out = state.out;
  options.methods = state.methods;
  for (const auto& name : state.schedules) options.schedules.push_back(parse_schedule(name));
  options.seeds = state.seeds;
  options.max_seconds = state.max_seconds;
  OpenOptions open = open_options(common);
  open.with_updates = false;
  LanguageModel model = LanguageModel::open(state.model, open);
  options.profile = forgetting_profile(state.profile, model.net().config().memory.has_value());
  const auto json = run_forgetting(model, options, common.reporter());

  std::vector<std::vector<std::string>> rows = {{"schedule", "split", "seed", "new F1", "new exact",
                                                 "questions F1", "sentences F1", "bits", "method"}};
  const auto number = [](double v, const char* format = "{:.3f}") {
    return accrete::vformat(format, {v});
  };
  for (const auto& cell : json.at("cells")) {
    std::vector<std::string> row = {cell.at("schedule").get<std::string>(),
                                    cell.at("split").get<std::string>(), cell.at("seed").dump()};
    if (cell.contains("after")) {
      const auto& after = cell.at("after");
      const auto& before = cell.at("before");
      const auto kept = [&](const char* key) {
        const double was = before.at(key).get<double>();
        return was > 0 ? number(after.at(key).get<double>() / was) : "-";
      };
      row.push_back(number(after.at("new_f1").get<double>()));
      row.push_back(number(after.at("new_exact").get<double>()));
      row.push_back(kept("questions_f1"));
      row.push_back(kept("clozes_f1"));
      row.push_back(
          number(after.at("bits_per_byte").get<double>() - before.at("bits_per_byte").get<double>(),
                 "{:+.4f}"));
    } else {
      row.insert(row.end(), {"diverged", "-", "-", "-", "-"});
    }
    row.push_back(line_of(cell));
    rows.push_back(std::move(row));
  }
  std::string text = table(rows);
  if (const auto missing = json.at("missing").get<int64_t>(); missing > 0)
    text += accrete::format(
        "not complete: at least {} training runs are left; the same command goes on\n", missing);
  common.print(json, text);
  return 0;
}

}  // namespace

void add_bench_forgetting(CLI::App& bench, Common& common, Run& run) {
  auto state = std::make_shared<BenchForgetting>();
  auto* verb = bench.add_subcommand(
      "forgetting", "What finetuning, LoRA and memory learn, and what each of them loses");
  verb->add_option("MODEL", state->model,
                   "A model folder made by retrofit or pretrain; it is not changed")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--profile", state->profile,
                   "smoke: a minute, proves nothing; small: hours on two cores; abilities: one run "
                   "of each, scored on public tasks too; questions, documents: these are taught "
                   "instead of facts; full: for a GPU")
      ->type_name("{smoke,small,abilities,questions,documents,full}")
      ->check(CLI::IsMember({"smoke", "small", "abilities", "questions", "documents", "full"}))
      ->capture_default_str();
  verb->add_option("--out", state->out,
                   "Where each result goes as soon as it is there; a run that was stopped goes on")
      ->type_name("FOLDER")
      ->capture_default_str();
  verb->add_option("--method", state->methods, "Only this method; may be given again")
      ->type_name("NAME");
  verb->add_option("--schedule", state->schedules, "Only this; default: both")
      ->type_name("{one_go,stream}");
  verb->add_option("--seeds", state->seeds, "Seeds at most; 0: as many as the profile has")
      ->check(zero_or_above())
      ->capture_default_str();
  verb->add_option("--max-seconds", state->max_seconds,
                   "Begin no further training run after this time; 0: no limit")
      ->check(zero_or_above())
      ->capture_default_str();
  add_common(*verb, common,
             "accrete bench forgetting my-model --profile smoke --out forgetting-smoke");
  verb->callback([state, &common, &run] {
    run = [state, &common] { return bench_forgetting(*state, common); };
  });
}

}  // namespace accrete::cli
