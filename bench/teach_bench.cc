// Teaching: what is computed once against computing everything in every step, timed side by side.
//
// For the first FACTS development facts of data/facts, drawn with SEED: the value vectors, by whole
// passes through autograd and with what comes before the subjects kept, and those of two facts by
// float32 weights and by codes, and in bfloat16 where that is faster; the deposit
// of random sites; asking a set before and after, what its subjects read and what its steps go on
// from, each by itself and from prompts passed once; what prompts with neighbours read, and how the
// same facts as questions of a chat score, in padded batches and as a tree; the states of their
// scopes, all of them and without those that scoring left; and the largest difference between the
// two ways. One JSON object on standard output. Usage: teach_bench MODEL [FACTS] [THREADS]
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <numeric>

#include "api/installation.h"
#include "base/error.h"
#include "bench/baselines/finetune.h"
#include "bench/score.h"
#include "io/dataset.h"
#include "learn/deposit.h"
#include "learn/reading.h"
#include "learn/subject_prompts.h"
#include "learn/subjects.h"
#include "learn/suffix_task.h"
#include "learn/teach.h"
#include "model/answer_pass.h"
#include "model/prompt_tree.h"

namespace accrete {
namespace {

double seconds_of(const std::function<void()>& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The accesses of every token, by whole prompts in padded batches.
Accesses read_padded(const LanguageModel& model, const std::vector<ReadRequest>& requests) {
  std::vector<Example> examples;
  for (const auto& request : requests) {
    Example e;
    e.tokens = request.tokens;
    e.tokens.push_back(0);
    e.label.resize(request.tokens.size());
    e.label.push_back(1);
    e.subject.resize(e.tokens.size());
    examples.push_back(std::move(e));
  }
  LanguageTask task(model, std::move(examples), 2048);
  std::vector<Accesses> parts(requests.size());
  for (size_t i = 0; i < task.batches(); ++i) {
    const auto& frozen = task.frozen(i);
    const int64_t T = task.batch(i).ids.size(1);
    for (size_t b = 0; b < task.batch(i).examples.size(); ++b) {
      const auto r = static_cast<size_t>(task.batch(i).examples[b]);
      const auto n = static_cast<int64_t>(requests[r].tokens.size());
      parts[r] = {frozen.accesses.slots.narrow(0, static_cast<int64_t>(b) * T, n),
                  frozen.accesses.weights.narrow(0, static_cast<int64_t>(b) * T, n)};
    }
  }
  return concat(parts);
}

// The mean NLL of every example's labels, in padded batches of whole passes.
std::vector<double> score_padded(const LanguageModel& model, const std::vector<Example>& examples) {
  const c10::InferenceMode inference;
  std::vector<double> out(examples.size());
  for (const Batch& batch : make_batches(examples, 2048)) {
    const auto h = AnswerPass(model).run({batch.ids, batch.mask, {}, {}}, batch.positions);
    const auto nll = at::cross_entropy_loss(model.net().logits(h), batch.labels, {}, /*none=*/0);
    for (int64_t l = 0; l < nll.size(0); ++l)
      out[static_cast<size_t>(
          batch.examples[static_cast<size_t>(batch.owner.const_data_ptr<int64_t>()[l])])] +=
          static_cast<double>(nll.const_data_ptr<float>()[l]);
  }
  return out;
}

// The deposit of `values` values at random sites: each site with its own, and by which site has
// which.
nlohmann::ordered_json deposit_ways(int64_t values) {
  constexpr int64_t kSlots = 4000, kReads = 32, kLogged = 20000, kWidth = 3 * 576;
  const int64_t sites = 40 * values;
  const auto accesses = [](int64_t n) {
    return Accesses{at::randint(kSlots, {n, kReads}, at::kInt), at::rand({n, kReads}) + 0.1};
  };
  at::manual_seed(0);
  AccessLog log;
  log.append(accesses(kLogged), 1, true);
  const Accesses at_sites = accesses(sites);
  Targets few{at::randn({values, kWidth}), {}};
  for (int64_t j = 0; j < sites; ++j) few.of.push_back(j % values);
  const auto each = Targets::each(few.values.index_select(0, at::tensor(few.of, at::kLong)));
  std::vector<int64_t> slots(kSlots);
  std::iota(slots.begin(), slots.end(), 0);
  at::Tensor delta[2];
  double time[2] = {1e30, 1e30};
  for (const int k : {0, 1, 0, 1})
    time[k] = std::min(time[k], seconds_of([&] {
                         delta[k] = deposit(at_sites, k == 0 ? each : few, slots, log, {});
                       }));
  return {{"slots", kSlots},
          {"sites", sites},
          {"values", values},
          {"each_seconds", time[0]},
          {"few_seconds", time[1]},
          {"ratio", time[0] / time[1]},
          {"relative_difference", ((delta[0] - delta[1]).norm() / delta[0].norm()).item<double>()}};
}

// Passes of many rows: with the float32 weights, and with the values that the codes of a quantised
// original are turned into where they are needed.
nlohmann::ordered_json many_rows(const LanguageModel& plain, const LanguageModel& coded) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const int64_t rows : {64, 512}) {
    const auto ids = at::arange(100, 100 + rows, at::kLong);
    PackedSequences one;
    one.add(rows);
    const LanguageModel* models[] = {&plain, &coded};
    double best[2] = {INFINITY, INFINITY};
    for (int round = 0; round < 6; ++round)
      for (const int k : {0, 1}) {
        const Transformer& net = models[k]->net();
        PackedPass pass(net);
        const auto h = net.embed(ids);
        pass.forward(h, one, 0, 1, {});  // makes its buffers
        best[k] = std::min(best[k],
                           seconds_of([&] { pass.forward(h, one, 0, net.config().blocks, {}); }));
      }
    out.push_back({{"rows", rows},
                   {"float32_seconds", best[0]},
                   {"codes_seconds", best[1]},
                   {"ratio", best[0] / best[1]}});
  }
  return out;
}

// What showing an example once costs: in full finetuning (forward, backward, AdamW on all weights;
// batches of 32) and in a step of the value solver, without what that computes once.
nlohmann::ordered_json step_ways(LanguageModel& plain, const LanguageModel& model,
                                 const std::vector<Item>& items,
                                 const std::vector<Example>& examples,
                                 const std::map<int64_t, int64_t>& subject_of) {
  double full[2] = {INFINITY, INFINITY};
  for (const bool low : {false, true}) {
    FinetuneOptions options;
    options.optimizer.rate = 1e-6;
    options.low_precision = low;
    Finetune finetune(plain, {}, options);
    for (int round = 0; round < 3; ++round)
      full[low] = std::min(full[low], seconds_of([&] { finetune.learn(items, 1, {}); }));
  }
  ValueSolverOptions steps;
  steps.settled = 0;
  double time[2] = {INFINITY, INFINITY};
  for (int round = 0; round < 3; ++round)
    for (const int k : {0, 1}) {
      steps.steps = 4 + 8 * k;
      time[k] = std::min(time[k], seconds_of([&] {
                           solve_values(model, examples, subject_of,
                                        static_cast<int64_t>(items.size()), steps, {});
                         }));
    }
  const auto shown = static_cast<double>(examples.size());
  const double ours = (time[1] - time[0]) / (8 * static_cast<double>(items.size()));
  const double best = std::min(full[0], full[1]) / shown;
  return {{"full_float32_seconds", full[0] / shown},
          {"full_bfloat16_seconds", full[1] / shown},
          {"values_seconds", ours},
          {"ratio", best / ours}};
}

int run(const char* folder, int64_t facts, int threads) {
  OpenOptions open;
  open.threads = threads;
  LanguageModel model = LanguageModel::open(folder, open);
  model.set_overlay({});
  std::vector<Item> items = read_dataset(data_folder() / "facts" / "dev.jsonl").items;
  Rng(0).split(1).shuffle(std::span(items));
  items.resize(std::min(items.size(), static_cast<size_t>(facts)));
  fill_subjects(items);
  ExampleOptions raw;
  raw.raw = true;
  std::vector<Example> examples;
  std::map<int64_t, int64_t> subject_of;
  for (Example& e : make_examples(model, items, raw))
    if (last_subject_token(e) >= 0) {
      subject_of[e.item] = e.item;
      examples.push_back(std::move(e));
    }

  nlohmann::ordered_json out = {
      {"benchmark", "teach"}, {"facts", items.size()}, {"threads", at::get_num_threads()}};
  ValueSolverOptions options;
  options.settled = 0;  // the same steps for both
  options.steps = 4;
  Values values[2];
  double seconds[2];
  const Reporter quiet;
  for (const int cached : {1, 0}) {
    options.cached = cached == 1;
    options.batch_tokens = cached == 1 ? 256 : 512;
    seconds[cached] = seconds_of([&] {
      values[cached] = solve_values(model, examples, subject_of, static_cast<int64_t>(items.size()),
                                    options, quiet);
    });
  }
  double loss_difference = 0;
  {
    // One step from the same vectors: losses of both ways.
    std::vector<int64_t> which, vectors;
    for (size_t i = 0; i < examples.size(); ++i) {
      which.push_back(static_cast<int64_t>(i));
      vectors.push_back(examples[i].item);
    }
    SuffixTask task(model, examples, {}, quiet);
    const auto loss = task.run(which, vectors, values[1].by_block, nullptr);
    LanguageTask whole(model, examples, 1024);
    for (size_t b = 0; b < whole.batches(); ++b) {
      PassOptions pass_options;
      pass_options.values = &values[1].by_block;
      pass_options.sites = write_sites(whole.batch(b), examples, subject_of);
      const Pass pass = whole.run(b, pass_options);
      for (size_t i = 0; i < pass.example_loss.size(); ++i)
        loss_difference = std::max(
            loss_difference,
            std::abs(pass.example_loss[i] - loss[static_cast<size_t>(whole.batch(b).examples[i])]));
    }
  }
  out["value_vectors"] = {{"steps", options.steps},
                          {"whole_passes_seconds", seconds[0]},
                          {"kept_prefixes_seconds", seconds[1]},
                          {"ratio", seconds[0] / seconds[1]},
                          {"whole_passes_tokens", values[0].tokens},
                          {"kept_prefixes_tokens", values[1].tokens},
                          {"largest_loss_difference", loss_difference}};

  {
    // A step over few rows costs reading the weights: as float32, and by the codes of a quantised
    // original (model/coded_matrix.h).
    LanguageModel plain = model;
    Transformer net = model.net();
    net.each_weight([](const std::string&, at::Tensor& w) { w = w.clone(); });
    plain.set_net(std::move(net));
    const std::vector<Example> few(examples.begin(),
                                   std::find_if(examples.begin(), examples.end(),
                                                [](const Example& e) { return e.item >= 2; }));
    ValueSolverOptions steps;
    steps.settled = 0;
    steps.steps = 20;
    steps.low_precision = false;
    Values by[2];
    double time[2];
    const LanguageModel* models[] = {&plain, &model};
    for (const int k : {1, 0, 1, 0})  // the second time counts
      time[k] = seconds_of(
          [&] { by[k] = solve_values(*models[k], few, {{0, 0}, {1, 1}}, 2, steps, quiet); });
    double apart = 0, largest = 0;
    for (const auto& [block, v] : by[0].by_block) {
      apart = std::max(apart, (v - by[1].by_block.at(block)).abs().max().item<double>());
      largest = std::max(largest, v.abs().max().item<double>());
    }
    out["few_facts"] = {{"facts", 2},
                        {"steps", steps.steps},
                        {"float32_seconds", time[0]},
                        {"codes_seconds", time[1]},
                        {"ratio", time[0] / time[1]},
                        {"largest_difference", apart / largest}};
    out["many_rows"] = many_rows(plain, model);
    out["step"] = step_ways(plain, model, items, examples, subject_of);
  }

  if (PackedPass::fast_low_precision(model.net())) {
    ValueSolverOptions steps;
    steps.settled = 0;
    steps.steps = 4;
    Values by[2];
    double time[2];
    for (const int low : {1, 0, 1, 0}) {  // the second time counts
      steps.low_precision = low == 1;
      time[low] = seconds_of([&] {
        by[low] = solve_values(model, examples, subject_of, static_cast<int64_t>(items.size()),
                               steps, quiet);
      });
    }
    double apart = 0, size = 0;
    for (const auto& [block, v] : by[0].by_block) {
      apart += (v - by[1].by_block.at(block)).square().sum().item<double>();
      size += v.square().sum().item<double>();
    }
    out["low_precision"] = {{"steps", steps.steps},
                            {"float32_seconds", time[0]},
                            {"bfloat16_seconds", time[1]},
                            {"ratio", time[0] / time[1]},
                            {"relative_difference", std::sqrt(apart / size)}};
  }
  out["deposit"] = deposit_ways(static_cast<int64_t>(items.size()));

  {
    const int64_t cache = ValueSolverOptions().cache_bytes;
    std::vector<ReadRequest> whole;
    for (const Example& e : examples) whole.push_back({{e.tokens.begin(), e.tokens.end() - 1}, 0});
    double apart = 0;
    std::vector<Score> each, once;
    const double each_seconds = seconds_of([&] {
      for (int k = 0; k < 2; ++k) each = score_examples(model, examples, quiet);
      (void)read_prompts(model, whole, true, quiet, "read");
      (void)SuffixTask(model, examples, {}, quiet);
    });
    const double once_seconds = seconds_of([&] {
      const SubjectPrompts prompts(model, examples, cache, quiet, "read");
      for (int k = 0; k < 2; ++k)
        once = score_states(model, examples, prompts.answers(quiet, "ask", nullptr));
      (void)prompts.reads();
      (void)SuffixTask(prompts, {});
    });
    for (size_t i = 0; i < each.size(); ++i)
      apart = std::max(apart, std::abs(each[i].nll - once[i].nll));
    out["prompts"] = {{"phrasings", examples.size()},
                      {"each_seconds", each_seconds},
                      {"once_seconds", once_seconds},
                      {"ratio", each_seconds / once_seconds},
                      {"largest_difference", apart}};
  }

  std::vector<ReadRequest> requests;
  for (const auto& prompt :
       make_neighbours(items, load_names(folder), TeachOptions().neighbours, Rng(0).split(7)))
    requests.push_back({encode_prompt(model, prompt, raw), 0});
  Accesses padded;
  Reads tree;
  const double padded_seconds = seconds_of([&] { padded = read_padded(model, requests); });
  const double tree_seconds =
      seconds_of([&] { tree = read_prompts(model, requests, false, quiet, "read"); });
  const auto same = (padded.slots == tree.accesses.slots).to(at::kFloat).mean().item<double>();
  out["neighbours"] = {{"prompts", requests.size()},
                       {"tokens", padded.tokens()},
                       {"padded_seconds", padded_seconds},
                       {"tree_seconds", tree_seconds},
                       {"ratio", padded_seconds / tree_seconds},
                       {"equal_slots", same}};

  if (model.uses_chat(false)) {
    std::vector<Item> questions =
        read_dataset(data_folder() / "facts" / "dev_questions.jsonl").items;
    Rng(0).split(1).shuffle(std::span(questions));
    questions.resize(std::min(questions.size(), static_cast<size_t>(facts)));
    const auto asked = make_examples(model, questions, {});
    std::vector<double> padded_nll;
    std::vector<Score> scores;
    const double padded_time = seconds_of([&] { padded_nll = score_padded(model, asked); });
    const double tree_time = seconds_of([&] { scores = score_examples(model, asked, quiet); });
    double apart = 0;
    for (size_t i = 0; i < asked.size(); ++i)
      apart = std::max(apart, std::abs(padded_nll[i] - scores[i].nll));
    out["scores"] = {{"examples", asked.size()},
                     {"padded_seconds", padded_time},
                     {"tree_seconds", tree_time},
                     {"ratio", padded_time / tree_time},
                     {"largest_difference", apart}};
  }

  const AccessLog log = load_background(folder, model.memory().keys);
  TeachOptions teach_options;
  teach_options.raw = true;
  std::map<std::string, double> stages;
  std::string stage;
  auto since = std::chrono::steady_clock::now();
  Reporter clock;
  const auto close = [&](const std::string& next) {
    const auto now = std::chrono::steady_clock::now();
    if (!stage.empty()) stages[stage] += std::chrono::duration<double>(now - since).count();
    stage = next;
    since = now;
  };
  clock.progress = [&](const ProgressEvent& e) {
    if (e.stage != stage) close(std::string(e.stage));
  };
  close("begin");
  const Proposal proposal = propose(model, items, log, load_names(folder), teach_options, clock);
  close("");
  double total = 0;
  for (const auto& [name, s] : stages) total += s;
  out["propose"] = {{"seconds", total}, {"stages", stages}, {"tokens", proposal.teach_tokens}};
  out["peak_bytes"] = peak_memory_bytes();
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace accrete

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: teach_bench MODEL [FACTS] [THREADS]\n");
    return 2;
  }
  try {
    return accrete::run(argv[1], argc > 2 ? std::atoll(argv[2]) : 48,
                        argc > 3 ? std::atoi(argv[3]) : 0);
  } catch (const accrete::Error& e) {
    std::fprintf(stderr, "teach_bench: %s\n  try: %s\n", e.what(), e.hint().c_str());
    return 1;
  }
}
