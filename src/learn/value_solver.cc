#include "learn/value_solver.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace accrete {

at::Tensor write_sites(const Batch& batch, const std::vector<Example>& examples) {
  const int64_t B = batch.ids.size(0), T = batch.ids.size(1);
  auto sites = at::full({B * T, 1}, -1, at::kInt);
  for (int64_t b = 0; b < B; ++b) {
    const Example& e = examples[static_cast<size_t>(batch.examples[static_cast<size_t>(b)])];
    for (int64_t t = std::min<int64_t>(T, static_cast<int64_t>(e.subject.size())) - 1; t >= 0; --t)
      if (e.subject[static_cast<size_t>(t)] != 0) {
        sites.data_ptr<int32_t>()[b * T + t] = static_cast<int32_t>(e.item);
        break;
      }
  }
  return sites;
}

Values solve_values(const LanguageModel& model, const std::vector<Example>& examples, int64_t facts,
                    const ValueSolverOptions& options, const Reporter& reporter) {
  const int64_t d = model.net().config().width;
  const auto F = static_cast<size_t>(facts);
  std::vector<std::vector<int64_t>> phrasings(F);
  for (size_t i = 0; i < examples.size(); ++i)
    phrasings[static_cast<size_t>(examples[i].item)].push_back(static_cast<int64_t>(i));

  // Round r shows every fact in its r-th phrasing, by turns.
  size_t rounds = 1;
  for (const auto& p : phrasings) rounds = std::max(rounds, p.size());
  rounds = std::min<size_t>(rounds, static_cast<size_t>(options.steps));
  std::vector<Batch> batches;
  std::vector<size_t> round_end;
  for (size_t r = 0; r < rounds; ++r) {
    std::vector<int64_t> which;
    for (const auto& p : phrasings)
      if (!p.empty()) which.push_back(p[r % p.size()]);
    for (auto& b : make_batches(examples, which, options.batch_tokens))
      batches.push_back(std::move(b));
    round_end.push_back(batches.size());
  }
  LanguageTask task(model, examples, std::move(batches));
  std::vector<at::Tensor> sites;
  for (size_t i = 0; i < task.batches(); ++i) sites.push_back(write_sites(task.batch(i), examples));

  Values out;
  out.loss.assign(F, 0);
  std::map<int64_t, at::Tensor> first, second;
  for (const int64_t block : model.memory().blocks) {
    out.by_block[block] = at::zeros({facts, d}, at::kFloat);
    first[block] = at::zeros({facts, d}, at::kFloat);
    second[block] = at::zeros({facts, d}, at::kFloat);
  }
  std::vector<std::vector<double>> seen(F);  // last loss by round
  for (auto& s : seen) s.assign(rounds, INFINITY);
  std::vector<int64_t> taken(F, 0);  // Adam's step count, by fact

  int64_t done = 0;
  const int64_t total = options.steps * facts;
  for (int64_t step = 0; step < options.steps; ++step) {
    const auto round = static_cast<size_t>(step) % rounds;
    const double progress = static_cast<double>(step) / static_cast<double>(options.steps);
    const double rate = options.rate * (1 - (1 - options.final_rate) * progress);
    double loss = 0;
    for (size_t i = round == 0 ? 0 : round_end[round - 1]; i < round_end[round]; ++i) {
      reporter.check_cancelled();
      const Batch& batch = task.batch(i);
      done += static_cast<int64_t>(batch.examples.size());
      std::vector<int64_t> moving;
      for (const int64_t e : batch.examples) {
        const auto f = static_cast<size_t>(examples[static_cast<size_t>(e)].item);
        if (*std::max_element(seen[f].begin(), seen[f].end()) > options.settled)
          moving.push_back(static_cast<int64_t>(f));
      }
      if (moving.empty()) continue;
      PassOptions pass_options;
      pass_options.gradient = true;
      pass_options.values = &out.by_block;
      pass_options.sites = sites[i];
      const Pass pass = task.run(i, pass_options);
      out.tokens += batch.mask.sum().item<int64_t>();
      for (size_t b = 0; b < batch.examples.size(); ++b) {
        const auto f = static_cast<size_t>(examples[static_cast<size_t>(batch.examples[b])].item);
        seen[f][round] = pass.example_loss[b];
        loss += pass.example_loss[b];
      }
      for (const int64_t f : moving) ++taken[static_cast<size_t>(f)];
      const auto rows = at::tensor(moving, at::kLong);
      std::vector<float> c1, c2;
      for (const int64_t f : moving) {
        const auto k = static_cast<double>(taken[static_cast<size_t>(f)]);
        c1.push_back(static_cast<float>(1 - std::pow(options.beta1, k)));
        c2.push_back(static_cast<float>(1 - std::pow(options.beta2, k)));
      }
      const auto unbias1 = at::tensor(c1).unsqueeze(1), unbias2 = at::tensor(c2).unsqueeze(1);
      for (auto& [block, values] : out.by_block) {
        const auto all = scatter_rows(pass.output_gradient.at(block), sites[i],
                                      at::ones(sites[i].sizes(), at::kFloat), facts);
        const auto g = all.index_select(0, rows);
        const auto m = first[block].index_select(0, rows) * options.beta1 + g * (1 - options.beta1);
        const auto v =
            second[block].index_select(0, rows) * options.beta2 + g.square() * (1 - options.beta2);
        first[block].index_copy_(0, rows, m);
        second[block].index_copy_(0, rows, v);
        values.index_add_(0, rows, (m / unbias1) / ((v / unbias2).sqrt() + 1e-6), -rate);
      }
      reporter.report("teach", done, total, fmt::format("loss {:.3f}", pass.loss));
    }
  }
  for (size_t f = 0; f < F; ++f) {
    double sum = 0;
    for (const double l : seen[f]) sum += std::isfinite(l) ? l : 0;
    out.loss[f] = sum / static_cast<double>(rounds);
  }
  reporter.report("teach", total, total);
  return out;
}

}  // namespace accrete
