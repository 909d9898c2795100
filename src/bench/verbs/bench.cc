#include "bench/verbs/bench.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "api/installation.h"
#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "bench/forgetting_data.h"
#include "learn/fact_teach.h"
#include "learn/teach.h"
#include "measure/probe.h"
#include "measure/score.h"
#include "measure/text_metrics.h"
#include "model/ask.h"

namespace accrete::cli {
namespace {

struct BenchFacts {
  std::string model, split = "test", out, ranking = "interference";
  std::string plasticity = "full";
  int64_t facts = 200, seeds = 3, first_seed = 0, text_bytes = 40000, anchors = 0;
  double lambda = DepositOptions().lambda;
  bool questions = false, no_gate = false, about_known = false;
  TeachOptions options;
};

// Mean and half the spread of what the seeds gave.
struct Column {
  std::vector<double> values;
  std::string text(const char* format) const {
    double low = values.front(), high = low, sum = 0;
    for (const double v : values) {
      low = std::min(low, v);
      high = std::max(high, v);
      sum += v;
    }
    return accrete::vformat(format, {sum / static_cast<double>(values.size()), low, high});
  }
};

// The same questions behind words that no teaching reads (learn/sites.cc has those that it does):
// a subject is then read as in no phrasing of it.
std::vector<Item> elsewhere(std::vector<Item> items) {
  for (Item& item : items)
    for (auto& prompt : item.asked)
      prompt = "My neighbour brought it up at dinner the other day. " + prompt;
  return items;
}

// The same of a memory of facts: generated text to its natural stop. What accepts no fact is
// answered by the base model, bit for bit, so of what was known only that is asked again.
int bench_facts_of_questions(const BenchFacts& state, const Common& common, LanguageModel model) {
  const auto data = data_folder();
  const auto reporter = common.reporter();
  model.use_facts(model.facts().with(FactStore()));
  KnownSets known = known_sets(model, data, state.split, reporter);
  if (state.about_known)
    known.facts = read_dataset(data / "facts" / ("about_known_" + state.split + ".jsonl")).items;
  if (state.questions)
    known.facts = read_dataset(data / "facts" / (state.split + "_questions.jsonl")).items;
  const auto questions = discover(model, known.candidates, known.few_shot, true, reporter);
  ExampleOptions how, raw;
  how.raw = !state.questions;
  raw.raw = true;
  const double questions_before = exact_rate(score_items(model, questions, raw, false, reporter)),
               clozes_before = exact_rate(score_items(model, known.clozes, raw, false, reporter));
  nlohmann::ordered_json runs = nlohmann::ordered_json::array();
  std::map<std::string, Column> columns;
  for (int64_t seed = state.first_seed; seed < state.first_seed + state.seeds; ++seed) {
    Dataset set;
    set.path = "facts";
    set.items = known.facts;
    Rng(static_cast<uint64_t>(seed)).split(1).shuffle(std::span(set.items));
    if (static_cast<int64_t>(set.items.size()) > state.facts)
      set.items.resize(static_cast<size_t>(state.facts));
    const auto start = std::chrono::steady_clock::now();
    const FactLessons lessons = make_fact_lessons(model, set, !state.questions);
    FactProposal proposal = propose_facts(model, lessons.facts, state.options.facts, reporter);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    LanguageModel taught = model;
    taught.use_facts(model.facts().plus("bench", std::move(proposal.update)));
    std::vector<AskRequest> requests;
    std::vector<const Item*> of;
    for (const Item& item : set.items) {
      if (item.asked.empty()) continue;
      requests.push_back(single_question(taught, item.asked.front(), !state.questions));
      of.push_back(&item);
    }
    double exact = 0, begins = 0;
    constexpr size_t kBatch = 32;
    for (size_t at = 0; at < requests.size(); at += kBatch) {
      AskOptions ask_how;
      ask_how.generate.max_tokens = 48;
      const size_t n = std::min(kBatch, requests.size() - at);
      const auto said = ask(taught, std::span(requests).subspan(at, n), ask_how);
      for (size_t k = 0; k < n; ++k) {
        const Item& item = *of[at + k];
        const std::string& text = said[k].generation.text;
        exact += says_exactly(text, item.answers);
        begins += std::any_of(item.answers.begin(), item.answers.end(), [&](const std::string& a) {
          return (normalize_answer(text) + " ").starts_with(normalize_answer(a) + " ");
        });
      }
      reporter.report("ask", static_cast<int64_t>(at + n), static_cast<int64_t>(requests.size()));
    }
    const auto n = static_cast<double>(std::max<size_t>(requests.size(), 1));
    const std::map<std::string, double> row = {
        {"asked_after", exact / n},
        {"begins_right", begins / n},
        {"taught_after", exact_rate(score_items(taught, set.items, how, false, reporter))},
        {"kept_questions",
         exact_rate(score_items(taught, questions, raw, false, reporter)) / questions_before},
        {"kept_clozes",
         exact_rate(score_items(taught, known.clozes, raw, false, reporter)) / clozes_before},
        {"seconds", seconds}};
    nlohmann::ordered_json run = {{"seed", seed}};
    for (const auto& [key, value] : row) {
      run[key] = value;
      columns[key].values.push_back(value);
    }
    runs.push_back(run);
    if (!common.quiet) std::fprintf(stderr, "%s\n", run.dump().c_str());
  }
  const nlohmann::ordered_json json = {{"benchmark", "facts"},
                                       {"split", state.split},
                                       {"form", state.questions ? "chat questions" : "clozes"},
                                       {"about_known", state.about_known},
                                       {"facts", state.facts},
                                       {"known_questions", questions.size()},
                                       {"known_clozes", known.clozes.size()},
                                       {"memory", "questions"},
                                       {"runs", runs}};
  if (!state.out.empty()) write_file_atomically(state.out, json.dump(2) + "\n");
  constexpr const char* kShare = "{:.3f}  ({:.3f} .. {:.3f})";
  common.print(
      json,
      table({{"", "mean  (lowest .. highest seed)"},
             {"asked in other words, to the natural stop", columns["asked_after"].text(kShare)},
             {"of these begin right", columns["begins_right"].text(kShare)},
             {"asked as taught", columns["taught_after"].text(kShare)},
             {"known questions kept", columns["kept_questions"].text(kShare)},
             {"known clozes kept", columns["kept_clozes"].text(kShare)},
             {"seconds to teach", columns["seconds"].text("{:.0f}  ({:.0f} .. {:.0f})")}}));
  return 0;
}

int bench_facts(const BenchFacts& state, const Common& common) {
  const auto data = data_folder();
  const auto reporter = common.reporter();
  LanguageModel model = LanguageModel::open(state.model, open_options(common));
  if (model.has_facts()) return bench_facts_of_questions(state, common, std::move(model));
  model.set_overlay({});
  TeachOptions options = state.options;
  options.ranking = parse_ranking(state.ranking);
  options.raw = !state.questions;
  options.gated = !state.no_gate;
  options.deposit.lambda = options.rows.lambda = state.lambda;
  options.deposit.plasticity = options.rows.plasticity = parse_plasticity(state.plasticity);
  const AccessLog log = load_background(state.model, model.memory().keys);
  const auto names = load_names(state.model);
  KnownSets known = known_sets(model, data, state.split, reporter);
  if (state.about_known)
    known.facts = read_dataset(data / "facts" / ("about_known_" + state.split + ".jsonl")).items;
  if (state.questions)
    known.facts = read_dataset(data / "facts" / (state.split + "_questions.jsonl")).items;
  const auto questions = discover(model, known.candidates, known.few_shot, true, reporter);
  const std::vector<std::string> text = {read_file(data / "text" / "wikitext2_test_sample.txt")
                                             .substr(0, static_cast<size_t>(state.text_bytes))};

  ExampleOptions raw;
  raw.raw = true;
  ExampleOptions how;
  how.raw = !state.questions;
  const auto kept = [&](std::span<const Item> items) {
    return exact_rate(score_items(model, items, raw, false, reporter, "known"));
  };
  const double questions_before = kept(questions), all_clozes_before = kept(known.clozes);
  const double bits_before = bits_per_byte(model, text, reporter);

  // What is known of the other split: what is measured is never an anchor.
  std::vector<Example> anchors;
  if (state.anchors > 0) {
    const KnownSets other =
        known_sets(model, data, state.split == "test" ? "dev" : "test", reporter);
    auto prompts = discover(model, other.candidates, other.few_shot, true, reporter);
    prompts.insert(prompts.end(), other.clozes.begin(), other.clozes.end());
    Rng(1).shuffle(std::span(prompts));
    prompts.resize(std::min(prompts.size(), static_cast<size_t>(state.anchors)));
    for (Item& item : prompts) item.prompts.resize(std::min<size_t>(item.prompts.size(), 1));
    anchors = make_examples(model, prompts, raw);
  }
  nlohmann::ordered_json runs = nlohmann::ordered_json::array();
  std::map<std::string, Column> columns;
  for (int64_t seed = state.first_seed; seed < state.first_seed + state.seeds; ++seed) {
    std::vector<Item> items = known.facts;
    Rng(static_cast<uint64_t>(seed)).split(1).shuffle(std::span(items));
    if (static_cast<int64_t>(items.size()) > state.facts)
      items.resize(static_cast<size_t>(state.facts));
    // Known sentences about the very subjects are counted apart.
    std::vector<Item> same_subject;
    std::vector<Item> others = known.clozes;
    if (state.about_known) {
      const auto about = [&](const Item& sentence) {
        return std::any_of(items.begin(), items.end(), [&](const Item& fact) {
          return sentence.prompts.front().find(fact.subject) != std::string::npos;
        });
      };
      const auto middle = std::stable_partition(
          others.begin(), others.end(), [&](const Item& sentence) { return !about(sentence); });
      same_subject.assign(middle, others.end());
      others.erase(middle, others.end());
    }
    model.set_overlay({});
    const double clozes_before = state.about_known ? kept(others) : all_clozes_before;
    const double same_before = same_subject.empty() ? 0 : kept(same_subject);
    const double before = exact_rate(score_items(model, items, how, true, reporter, "ask"));
    options.seed = static_cast<uint64_t>(seed);
    const auto start = std::chrono::steady_clock::now();
    const Proposal proposal = propose(model, items, log, names, options, reporter, {}, {}, anchors);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    model.set_overlay({proposal.update});
    const auto taught = make_examples(model, items, how);
    std::map<std::string, double> row = {
        {"asked_before", before},
        {"asked_after", exact_rate(score_items(model, items, how, true, reporter, "ask"))},
        {"asked_elsewhere",
         exact_rate(score_items(model, elsewhere(items), how, true, reporter, "ask"))},
        {"taught_after", exact_rate(score_examples(model, taught, reporter, "ask"))},
        {"kept_questions", kept(questions) / questions_before},
        {"kept_clozes", kept(others) / clozes_before},
        {"bits_per_byte_change", bits_per_byte(model, text, reporter) - bits_before},
        {"seconds", seconds}};
    if (same_before > 0) row["kept_same_subject"] = kept(same_subject) / same_before;
    nlohmann::ordered_json run = {{"seed", seed}, {"rows", rows_of(proposal.update)}};
    for (const auto& [key, value] : row) {
      run[key] = value;
      columns[key].values.push_back(value);
    }
    runs.push_back(run);
    if (!common.quiet) std::fprintf(stderr, "%s\n", run.dump().c_str());
  }
  const nlohmann::ordered_json json = {{"benchmark", "facts"},
                                       {"split", state.split},
                                       {"form", state.questions ? "chat questions" : "clozes"},
                                       {"about_known", state.about_known},
                                       {"facts", state.facts},
                                       {"known_questions", questions.size()},
                                       {"known_clozes", known.clozes.size()},
                                       {"ranking", state.ranking},
                                       {"gated", !state.no_gate},
                                       {"low_precision", state.options.values.low_precision},
                                       {"stepwise", state.options.stepwise},
                                       {"plasticity", state.plasticity},
                                       {"lambda", state.lambda},
                                       {"adapt", state.options.rows.adapt},
                                       {"anchors", anchors.size()},
                                       {"anchor_weight", state.options.rows.anchor_weight},
                                       {"anchor_log_weight", state.options.anchor_log_weight},
                                       {"runs", runs}};
  if (!state.out.empty()) write_file_atomically(state.out, json.dump(2) + "\n");
  constexpr const char* kShare = "{:.3f}  ({:.3f} .. {:.3f})";
  std::vector<std::vector<std::string>> lines = {
      {"", "mean  (lowest .. highest seed)"},
      {"asked in other words, before", columns["asked_before"].text(kShare)},
      {"asked in other words, after", columns["asked_after"].text(kShare)},
      {"the same behind other words", columns["asked_elsewhere"].text(kShare)},
      {"asked as taught, after", columns["taught_after"].text(kShare)},
      {"known questions kept", columns["kept_questions"].text(kShare)},
      {"known clozes kept", columns["kept_clozes"].text(kShare)},
      {"bits per byte, change",
       columns["bits_per_byte_change"].text("{:+.5f}  ({:+.5f} .. {:+.5f})")},
      {"seconds to teach", columns["seconds"].text("{:.0f}  ({:.0f} .. {:.0f})")}};
  if (columns.contains("kept_same_subject"))
    lines.push_back(
        {"known clozes of the same subjects", columns["kept_same_subject"].text(kShare)});
  common.print(json, table(lines));
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, Common& common, Run& run) {
  auto state = std::make_shared<BenchFacts>();
  auto* verb = app.add_subcommand("bench", "Benchmarks: what was learned, what was kept");
  verb->require_subcommand(1);
  add_bench_forecast(*verb, common, run);
  add_bench_sequence(*verb, common, run);
  add_bench_documents(*verb, common, run);
  add_bench_explain(*verb, common, run);
  add_bench_domains(*verb, common, run);
  add_bench_desk(*verb, common, run);
  auto* facts =
      verb->add_subcommand("facts", "New facts, asked in phrasings that were never taught");
  facts->add_option("MODEL", state->model, "A model folder made by retrofit; it is not changed")
      ->type_name("FOLDER")
      ->required();
  facts->add_option("--facts", state->facts, "How many facts a seed draws")
      ->check(above_zero())
      ->capture_default_str();
  facts->add_option("--seeds", state->seeds, "How many seeds, from --seed on")
      ->check(above_zero())
      ->capture_default_str();
  facts->add_option("--split", state->split, "The facts: dev is to tune on, test to report")
      ->check(CLI::IsMember({"dev", "test"}))
      ->capture_default_str();
  facts->add_flag("--questions", state->questions,
                  "As questions in the chat template, not as sentences to complete");
  facts
      ->add_flag("--about-known", state->about_known,
                 "Invented facts about subjects of known sentences; those are counted apart")
      ->excludes("--questions");
  facts->add_flag("--no-gate", state->no_gate, "Without the gate (for comparison)");
  facts->add_option("--ranking", state->ranking, "Which slots are written")
      ->type_name(kRankings)
      ->capture_default_str();
  facts
      ->add_option("--steps", state->options.values.steps,
                   "Steps of a subject at most, for each fact about it; 0: 45, of raw text 20 "
                   "where that is enough")
      ->capture_default_str();
  facts
      ->add_option("--rate", state->options.values.rate,
                   "First step length of the value vectors, in units of what they are added to")
      ->capture_default_str();
  facts
      ->add_option("--slots", state->options.slots,
                   "Rows per memory layer at most; 0: by the number of facts")
      ->capture_default_str();
  facts
      ->add_flag("--low-precision,!--no-low-precision", state->options.values.low_precision,
                 "The solver's products in bfloat16 where that is faster")
      ->default_str("on");
  facts->add_flag("--stepwise", state->options.stepwise,
                  "Steps on the rows instead of vectors that are deposited");
  facts->add_option("--plasticity", state->plasticity, "What the steps of slots are scaled by")
      ->type_name("{full,diagonal,flat}")
      ->capture_default_str();
  facts->add_option("--lambda", state->lambda, "Small: the background counts for more")
      ->type_name("X")
      ->check(above_zero())
      ->capture_default_str();
  facts
      ->add_option("--anchors", state->anchors,
                   "Known prompts of the other split that serve as anchors; 0: none")
      ->check(zero_or_above())
      ->capture_default_str();
  facts
      ->add_option("--anchor-weight", state->options.rows.anchor_weight,
                   "With --stepwise: weight of the anchors' contrastive loss")
      ->type_name("X")
      ->capture_default_str();
  facts
      ->add_option("--anchor-log", state->options.anchor_log_weight,
                   "Weight of the anchors' tokens in the access log")
      ->type_name("X")
      ->capture_default_str();
  facts->add_flag("--adapt", state->options.rows.adapt,
                  "With --stepwise and anchors: slots where they object take smaller steps");
  facts->add_option("--out", state->out, "Write the JSON to this file as well")->type_name("FILE");
  add_common(*facts, common, "accrete bench facts my-model --facts 200 --seeds 3 --out bench.json");
  facts->callback([state, &common, &run] {
    run = [state, &common] {
      BenchFacts copy = *state;
      copy.first_seed = static_cast<int64_t>(common.seed);
      return bench_facts(copy, common);
    };
  });
  add_bench_forgetting(*verb, common, run);
}

}  // namespace accrete::cli
