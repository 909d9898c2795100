// accrete bench forecast: predicted against measured change of probes, over varied updates.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "api/installation.h"
#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "bench/correlation.h"
#include "bench/forgetting_data.h"
#include "bench/verbs/bench.h"
#include "cli/cli.h"
#include "learn/guard.h"
#include "learn/propose.h"
#include "model/memory_files.h"

namespace accrete::cli {
namespace {

struct BenchForecast {
  std::string model, split = "test", out;
  int64_t updates = 64, clozes = 80, questions = 40, text_bytes = 6000;
  double max_seconds = 0;
};

// The k-th update of the benchmark: what it teaches, and how.
struct Trial {
  std::string kind;
  std::vector<Item> items;
  TeachOptions options;
};

Trial make_trial(int64_t k, uint64_t seed, const std::vector<Item>& facts,
                 const std::vector<Item>& known) {
  Rng rng = Rng(seed).split(static_cast<uint64_t>(k));
  Trial t;
  t.options.raw = true;
  t.options.seed = seed + static_cast<uint64_t>(k);
  t.options.neighbours = 5;
  t.options.values.steps = 8;
  const auto draw = [&rng](const std::vector<Item>& from, uint64_t n) {
    std::vector<Item> all = from;
    rng.shuffle(std::span(all));
    all.resize(std::min<size_t>(n, all.size()));
    return all;
  };
  // Every answer goes to another question.
  const auto mislabelled = [&](uint64_t n) {
    auto items = draw(known, n + 1);
    const auto first = items.front().answers;
    for (size_t i = 0; i + 1 < items.size(); ++i) items[i].answers = items[i + 1].answers;
    items.back().answers = first;
    return items;
  };
  const uint64_t size = 1 + rng.below(6);
  switch (k % 12) {
    case 0:
      t.kind = "facts";
      t.items = draw(facts, size);
      break;
    case 1:
      t.kind = "facts, no gate";
      t.items = draw(facts, size);
      t.options.gated = false;
      break;
    case 2:
      t.kind = "facts, no gate, small lambda";
      t.items = draw(facts, 2 + size);
      t.options.gated = false;
      t.options.deposit.lambda = 1e-7;
      break;
    case 3:
      t.kind = "facts, no gate, no neighbours";
      t.items = draw(facts, 2 + size);
      t.options.gated = false;
      t.options.neighbours = 0;
      break;
    case 4:
      t.kind = "facts, no gate, large rate";
      t.items = draw(facts, size);
      t.options.gated = false;
      t.options.values.rate = 1;
      break;
    case 5:
      t.kind = "facts, steps";
      t.items = draw(facts, size);
      t.options.stepwise = true;
      t.options.rows.epochs = 4;
      break;
    case 6:
      t.kind = "facts, steps, large rate";
      t.items = draw(facts, size);
      t.options.stepwise = true;
      t.options.rows.epochs = 4;
      t.options.rows.rate = 40000;
      t.options.rows.lambda = 1e-6;
      break;
    case 7:
      t.kind = "facts, random slots, no gate";
      t.items = draw(facts, size);
      t.options.gated = false;
      t.options.ranking = Ranking::kRandom;
      t.options.slots = 60;
      break;
    case 8:
      t.kind = "facts, tfidf slots, no gate";
      t.items = draw(facts, size);
      t.options.gated = false;
      t.options.ranking = Ranking::kTfidf;
      t.options.slots = 60;
      break;
    case 9:
      t.kind = "mislabelled";
      t.items = mislabelled(size);
      break;
    case 10:
      t.kind = "mislabelled, no gate";
      t.items = mislabelled(size);
      t.options.gated = false;
      break;
    default:
      t.kind = "mislabelled, steps";
      t.items = mislabelled(size);
      t.options.stepwise = true;
      t.options.rows.epochs = 4;
      break;
  }
  return t;
}

Probe make_probe(const LanguageModel& model, const std::string& name, std::vector<Item> items,
                 const Reporter& reporter) {
  Probe probe;
  probe.record.name = name;
  probe.data.items = std::move(items);
  probe.raw = true;
  probe.record.base = probe_score(model, probe, reporter);
  return probe;
}

nlohmann::ordered_json summary_of_runs(const nlohmann::ordered_json& runs) {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  std::map<std::string, std::map<std::string, std::vector<double>>> columns;
  for (const auto& run : runs)
    for (const auto& [name, f] : run["probes"].items())
      for (const char* key :
           {"measured", "predicted", "first_order", "second_order", "low", "high"})
        columns[name][key].push_back(f[key].get<double>());
  for (auto& [name, c] : columns) {
    double inside = 0;
    for (size_t i = 0; i < c["measured"].size(); ++i)
      inside += c["measured"][i] >= c["low"][i] - 1e-9 && c["measured"][i] <= c["high"][i] + 1e-9;
    out[name] = {{"spearman", spearman(c["predicted"], c["measured"])},
                 {"spearman_first_order", spearman(c["first_order"], c["measured"])},
                 {"spearman_second_order", spearman(c["second_order"], c["measured"])},
                 {"inside_range", inside / static_cast<double>(c["measured"].size())}};
  }
  return out;
}

int bench_forecast(const BenchForecast& state, const Common& common) {
  const auto start = std::chrono::steady_clock::now();
  const auto data = data_folder();
  const Reporter reporter = common.reporter();
  LanguageModel model = LanguageModel::open(state.model, open_options(common));
  model.set_overlay({});
  const AccessLog log = load_background(state.model, model.memory().keys);
  const auto names = load_names(state.model);
  KnownSets sets = known_sets(model, data, state.split, reporter);
  const auto& facts = sets.facts;
  auto& clozes = sets.clozes;
  auto& candidates = sets.candidates;
  Rng(common.seed).split(2).shuffle(std::span(clozes));
  Rng(common.seed).split(3).shuffle(std::span(candidates));
  // Mislabelled updates draw from half of the probe's clozes and from as many others.
  std::vector<Item> known = clozes;
  known.resize(std::min(known.size(), static_cast<size_t>(state.clozes)));
  clozes.erase(clozes.begin(), clozes.begin() + static_cast<int64_t>(known.size() / 2));
  clozes.resize(std::min(clozes.size(), static_cast<size_t>(state.clozes)));
  candidates.resize(std::min(candidates.size(), static_cast<size_t>(2 * state.questions)));
  auto questions = discover(model, candidates, sets.few_shot, true, reporter);
  questions.resize(std::min(questions.size(), static_cast<size_t>(state.questions)));
  for (Item& item : questions) item.answers.resize(1);  // the one that the model gives
  Item text;
  text.kind = Item::Kind::kText;
  text.text = read_file(data / "text" / "wikitext2_test_sample.txt")
                  .substr(0, static_cast<size_t>(state.text_bytes));
  WatchedProbes probes;
  for (auto& [name, items] : std::map<std::string, std::vector<Item>>{
           {"clozes", clozes}, {"questions", questions}, {"text", {text}}})
    probes.push_back(
        std::make_unique<WatchedProbe>(model, make_probe(model, name, items, reporter)));

  const nlohmann::ordered_json setup = {
      {"benchmark", "forecast"}, {"split", state.split},          {"seed", common.seed},
      {"clozes", clozes.size()}, {"questions", questions.size()}, {"text_bytes", state.text_bytes}};
  nlohmann::ordered_json runs = nlohmann::ordered_json::array();
  if (!state.out.empty() && std::filesystem::exists(state.out)) {
    const auto old = nlohmann::ordered_json::parse(read_file(state.out), nullptr, false);
    if (!old.is_object() || old.value("setup", nlohmann::ordered_json()) != setup)
      throw Error(ErrorCode::kConflict, state.out + " is of another run of this benchmark",
                  "name another file, or remove it");
    runs = old["runs"];
  }
  const auto result = [&] {
    return nlohmann::ordered_json{
        {"setup", setup}, {"summary", summary_of_runs(runs)}, {"runs", runs}};
  };
  for (auto k = static_cast<int64_t>(runs.size()); k < state.updates; ++k) {
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (state.max_seconds > 0 && seconds > state.max_seconds) break;
    Trial trial = make_trial(k, common.seed, facts, known);
    nlohmann::ordered_json run = {
        {"update", k}, {"kind", trial.kind}, {"items", trial.items.size()}};
    const Proposal proposal = propose(model, trial.items, log, names, trial.options, reporter);
    const Update* all[] = {&proposal.update};
    const Overlay overlay = model.make_overlay(all);
    for (const auto& probe : probes) {
      ForecastOptions how;
      how.seed = trial.options.seed;
      how.try_all_when_few = false;  // or the forecast of small updates would be the measurement
      how.exact_examples = 12;
      const ProbeForecast f = forecast(*probe, overlay, proposal.update, how, reporter);
      const auto touched = probe->touched(overlay, proposal.update, reporter);
      const double after =
          probe->score_with(touched, probe->states(overlay, touched, reporter), reporter);
      run["probes"][f.probe] = {{"predicted", f.predicted},
                                {"low", f.low},
                                {"high", f.high},
                                {"first_order", f.first_order},
                                {"second_order", f.second_order},
                                {"measured", after - f.now},
                                {"examples", f.examples},
                                {"touched", f.touched},
                                {"tried", f.tried}};
    }
    runs.push_back(run);
    if (!common.quiet) std::fprintf(stderr, "%s\n", run.dump().c_str());
    if (!state.out.empty()) write_file_atomically(state.out, result().dump(1) + "\n");
  }
  const auto json = result();
  std::vector<std::vector<std::string>> rows = {
      {"PROBE", "UPDATES", "SPEARMAN", "1ST ORDER", "2ND ORDER", "INSIDE RANGE"}};
  for (const auto& [name, s] : json["summary"].items())
    rows.push_back({name, std::to_string(runs.size()),
                    accrete::format("{:.3f}", s["spearman"].get<double>()),
                    accrete::format("{:.3f}", s["spearman_first_order"].get<double>()),
                    accrete::format("{:.3f}", s["spearman_second_order"].get<double>()),
                    percent(s["inside_range"].get<double>())});
  common.print(json, table(rows));
  return 0;
}

}  // namespace

void add_bench_forecast(CLI::App& bench, Common& common, Run& run) {
  auto state = std::make_shared<BenchForecast>();
  auto* verb = bench.add_subcommand(
      "forecast", "Predicted against measured change of probes, over varied updates");
  verb->add_option("MODEL", state->model, "A model folder made by retrofit; it is not changed")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--updates", state->updates, "How many updates")
      ->check(above_zero())
      ->capture_default_str();
  verb->add_option("--split", state->split, "The facts: dev is to tune on, test to report")
      ->check(CLI::IsMember({"dev", "test"}))
      ->capture_default_str();
  verb->add_option("--out", state->out,
                   "Write the JSON to this file after every update; go on there")
      ->type_name("FILE");
  verb->add_option("--max-seconds", state->max_seconds, "Begin no update after this; 0: no limit")
      ->type_name("SECONDS")
      ->check(zero_or_above())
      ->capture_default_str();
  add_common(*verb, common, "accrete bench forecast my-model --updates 60 --out forecast.json");
  verb->callback([state, &common, &run] {
    run = [state, &common] { return bench_forecast(*state, common); };
  });
}

}  // namespace accrete::cli
