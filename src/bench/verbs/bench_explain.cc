// bench explain: does `ask --explain` name the update and the line that a taught answer comes from?
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/format.h"
#include "base/rng.h"
#include "bench/verbs/bench.h"
#include "cli/cli.h"
#include "learn/explain.h"
#include "model/ask.h"
#include "text/wording.h"

namespace accrete::cli {
namespace {

struct BenchExplain {
  std::string model, out;
  int64_t facts = 100;
};

struct Told {
  size_t update = 0;
  TaughtItem item;
};

// Every taught fact as it stands: of a question that several updates answer the last.
std::vector<Told> facts_now(const std::vector<EarlierUpdate>& active) {
  std::map<std::string, Told> now;
  for (size_t u = 0; u < active.size(); ++u)
    for (const TaughtItem& item : active[u].update.taught.items)
      if (!item.prompts.empty()) now[question_key(item.prompts.front())] = {u, item};
  std::vector<Told> out;
  for (auto& [key, told] : now) out.push_back(std::move(told));
  return out;
}

// Of a memory of facts: whether a taught wording is answered by its own fact.
int bench_explain_facts(const BenchExplain& state, const Common& common,
                        const LanguageModel& model) {
  const FactStore& store = model.facts().store();
  const Ledger ledger = Ledger::open(state.model, Ledger::Mode::kRead);
  std::vector<int64_t> facts;
  for (int64_t i = 0; i < store.size(); ++i)
    if (!store.fact(i).text().leave) facts.push_back(i);
  Rng(common.seed).shuffle(std::span(facts));
  facts.resize(std::min(facts.size(), static_cast<size_t>(state.facts)));
  if (facts.empty())
    throw Error(ErrorCode::kNotFound, state.model + " was taught no facts",
                "teach it, or name the --work folder of `accrete bench sequence`");
  std::vector<AskRequest> requests;
  for (const int64_t f : facts) {
    const TaughtItem& item = store.fact(f).text();
    requests.push_back(single_question(model, item.prompts.front(), item.raw));
  }
  const auto start = std::chrono::steady_clock::now();
  const auto choices = choose_facts(model, requests);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  int64_t right = 0;
  for (size_t i = 0; i < facts.size(); ++i) right += choices[i].fact == facts[i];
  const double n = static_cast<double>(facts.size()), share = static_cast<double>(right) / n;
  const nlohmann::ordered_json json = {{"benchmark", "explain"},
                                       {"seed", common.seed},
                                       {"updates", ledger.active().size()},
                                       {"facts", facts.size()},
                                       {"update_named_first", share},
                                       {"line_named_first", share},
                                       {"seconds_each", seconds / n}};
  if (!state.out.empty()) write_file_atomically(state.out, json.dump(1) + "\n");
  common.print(json, table({{"FACTS", "FACT NAMED FIRST", "SECONDS"},
                            {std::to_string(facts.size()), percent(share),
                             accrete::format("{:.3f}", seconds / n)}}));
  return 0;
}

int bench_explain(const BenchExplain& state, const Common& common) {
  if (has_fact_memory(state.model))
    return bench_explain_facts(state, common,
                               LanguageModel::open(state.model, open_options(common)));
  OpenOptions bare = open_options(common);
  bare.with_updates = false;
  const LanguageModel model = LanguageModel::open(state.model, bare);
  const auto active = load_members(Ledger::open(state.model, Ledger::Mode::kRead));
  auto facts = facts_now(active);
  Rng(common.seed).shuffle(std::span(facts));
  facts.resize(std::min(facts.size(), static_cast<size_t>(state.facts)));
  if (facts.empty())
    throw Error(ErrorCode::kNotFound, state.model + " was taught no facts",
                "teach it, or name the --work folder of `accrete bench sequence`");
  const Reporter reporter = common.reporter();
  int64_t updates_right = 0, lines_right = 0, raised = 0;
  nlohmann::ordered_json wrong = nlohmann::ordered_json::array();
  const auto start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < facts.size(); ++i) {
    const TaughtItem& item = facts[i].item;
    const std::string& id = active[facts[i].update].record.id;
    const Explanation e =
        explain(model, active, item.prompts.front(), item.answers.front(), item.raw);
    const bool update_right = !e.updates.empty() && e.updates.front().update == id;
    updates_right += update_right;
    lines_right += update_right && !e.updates.front().lines.empty() &&
                   e.updates.front().lines.front().line == item.line;
    raised += e.log_probability > e.base_log_probability;
    if (!update_right)
      wrong.push_back({{"prompt", item.prompts.front()},
                       {"update", id},
                       {"named", e.updates.empty() ? "" : e.updates.front().update}});
    reporter.report("explain", static_cast<int64_t>(i) + 1, static_cast<int64_t>(facts.size()));
  }
  const double n = static_cast<double>(facts.size());
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const nlohmann::ordered_json json = {
      {"benchmark", "explain"},
      {"seed", common.seed},
      {"updates", active.size()},
      {"facts", facts.size()},
      {"update_named_first", static_cast<double>(updates_right) / n},
      {"line_named_first", static_cast<double>(lines_right) / n},
      {"answer_raised", static_cast<double>(raised) / n},
      {"seconds_each", seconds / n},
      {"wrong", wrong}};
  if (!state.out.empty()) write_file_atomically(state.out, json.dump(1) + "\n");
  common.print(json,
               table({{"UPDATES", "FACTS", "UPDATE NAMED FIRST", "LINE NAMED FIRST", "SECONDS"},
                      {std::to_string(active.size()), std::to_string(facts.size()),
                       percent(json["update_named_first"]), percent(json["line_named_first"]),
                       accrete::format("{:.2f}", seconds / n)}}));
  return 0;
}

}  // namespace

void add_bench_explain(CLI::App& bench, Common& common, Run& run) {
  auto state = std::make_shared<BenchExplain>();
  auto* verb = bench.add_subcommand(
      "explain", "Whether `ask --explain` names the update and line of taught facts first");
  verb->add_option("MODEL", state->model, "A model folder that was taught; it is not changed")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--facts", state->facts, "How many taught facts, drawn by --seed")
      ->check(above_zero())
      ->capture_default_str();
  verb->add_option("--out", state->out, "Write the JSON to this file as well")->type_name("FILE");
  add_common(*verb, common, "accrete bench explain my-model --facts 100");
  verb->callback(
      [state, &common, &run] { run = [state, &common] { return bench_explain(*state, common); }; });
}

}  // namespace accrete::cli
