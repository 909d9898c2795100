#include "learn/value_solver.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace accrete {

at::Tensor write_sites(const Batch& batch, const std::vector<Example>& examples,
                       const std::map<int64_t, int64_t>& subject_of) {
  const int64_t B = batch.ids.size(0), T = batch.ids.size(1);
  auto sites = at::full({B * T, 1}, -1, at::kInt);
  for (int64_t b = 0; b < B; ++b) {
    const Example& e = examples[static_cast<size_t>(batch.examples[static_cast<size_t>(b)])];
    for (int64_t t = std::min<int64_t>(T, static_cast<int64_t>(e.subject.size())) - 1; t >= 0; --t)
      if (e.subject[static_cast<size_t>(t)] != 0) {
        sites.data_ptr<int32_t>()[b * T + t] = static_cast<int32_t>(subject_of.at(e.item));
        break;
      }
  }
  return sites;
}

namespace {

constexpr int64_t kRawSteps = 15;

// The phrasings of one fact, and what is known of them.
struct Fact {
  std::vector<int64_t> phrasings;  // example indices
  std::vector<double> loss;        // last seen
};

// Elementwise Adam on rows of a table that have all taken `count` steps, with this one.
struct Adam {
  at::Tensor first, second;  // [S, d]

  void step(at::Tensor& values, const at::Tensor& rows, const at::Tensor& gradient, double count,
            const at::Tensor& rate, const ValueSolverOptions& o) {
    const auto m = first.index_select(0, rows) * o.beta1 + gradient * (1 - o.beta1);
    const auto v = second.index_select(0, rows) * o.beta2 + gradient.square() * (1 - o.beta2);
    first.index_copy_(0, rows, m);
    second.index_copy_(0, rows, v);
    const auto direction =
        (m / (1 - std::pow(o.beta1, count))) / ((v / (1 - std::pow(o.beta2, count))).sqrt() + 1e-6);
    values.index_add_(0, rows, direction * rate.unsqueeze(1), -1);
  }
};

}  // namespace

Values solve_values(const LanguageModel& model, const std::vector<Example>& examples,
                    const std::map<int64_t, int64_t>& subject_of, int64_t subjects,
                    const ValueSolverOptions& options, const Reporter& reporter) {
  const int64_t d = model.net().config().width;
  const int64_t steps_a_fact = options.steps > 0 ? options.steps : kRawSteps;
  std::vector<std::map<int64_t, Fact>> facts(static_cast<size_t>(subjects));  // by item
  for (size_t i = 0; i < examples.size(); ++i) {
    Fact& fact = facts[static_cast<size_t>(subject_of.at(examples[i].item))][examples[i].item];
    fact.phrasings.push_back(static_cast<int64_t>(i));
    fact.loss.push_back(INFINITY);
  }
  LanguageTask task(model, examples, 2 * options.batch_tokens);

  Values out;
  std::map<int64_t, Adam> adam;
  for (const int64_t block : model.memory().blocks) {
    out.by_block[block] = at::zeros({subjects, d}, at::kFloat);
    adam[block] = {at::zeros({subjects, d}, at::kFloat), at::zeros({subjects, d}, at::kFloat)};
  }
  // A vector that has to hold several facts needs more steps.
  std::vector<int64_t> budget;
  for (const auto& about : facts)
    budget.push_back(steps_a_fact *
                     std::min(static_cast<int64_t>(about.size()), options.most_facts));
  const int64_t last = *std::max_element(budget.begin(), budget.end());
  const int64_t total = std::accumulate(budget.begin(), budget.end(), int64_t{0});
  int64_t done = 0;
  for (int64_t step = 0; step < last; ++step) {
    // One phrasing of each fact of each subject that is not settled, by turns.
    std::vector<int64_t> show, moving;
    std::vector<float> rates;
    int64_t over = 0;
    for (int64_t s = 0; s < subjects; ++s) {
      const auto& about = facts[static_cast<size_t>(s)];
      const bool settled = std::all_of(about.begin(), about.end(), [&](const auto& f) {
        return *std::max_element(f.second.loss.begin(), f.second.loss.end()) <= options.settled;
      });
      const int64_t steps = budget[static_cast<size_t>(s)];
      if (settled || step >= steps) {
        over += steps;
        continue;
      }
      over += step;
      const double progress = static_cast<double>(step) / static_cast<double>(steps);
      rates.push_back(static_cast<float>(options.rate * (1 - (1 - options.final_rate) * progress)));
      moving.push_back(s);
      for (const auto& [item, fact] : about)
        show.push_back(fact.phrasings[static_cast<size_t>(step) % fact.phrasings.size()]);
    }
    if (moving.empty()) break;
    done = std::max(done, over);

    std::map<int64_t, at::Tensor> gradient;
    for (const int64_t block : model.memory().blocks)
      gradient[block] = at::zeros({subjects, d}, at::kFloat);
    double loss = 0;
    int64_t shown = 0;
    for (const Batch& group : make_batches(examples, show, options.batch_tokens)) {
      reporter.check_cancelled();
      const auto selection = task.select(group.examples);
      const auto sites = write_sites(selection.batch, examples, subject_of);
      PassOptions pass_options;
      pass_options.gradient = true;
      pass_options.values = &out.by_block;
      pass_options.sites = sites;
      const Pass pass = task.run(selection, pass_options);
      out.tokens += selection.batch.mask.sum().item<int64_t>();
      for (size_t b = 0; b < group.examples.size(); ++b) {
        const Example& e = examples[static_cast<size_t>(group.examples[b])];
        Fact& fact = facts[static_cast<size_t>(subject_of.at(e.item))].at(e.item);
        fact.loss[static_cast<size_t>(step) % fact.phrasings.size()] = pass.example_loss[b];
        loss += pass.example_loss[b];
      }
      const auto ones = at::ones(sites.sizes(), at::kFloat);
      for (auto& [block, g] : gradient)
        g += scatter_rows(pass.output_gradient.at(block), sites, ones, subjects);
      shown += static_cast<int64_t>(group.examples.size());
      reporter.report("teach", done, total,
                      fmt::format("loss {:.3f}", loss / static_cast<double>(shown)));
    }
    // A subject moves in every step until it settles, so all that move have taken as many.
    const auto rows = at::tensor(moving, at::kLong);
    const auto rate = at::tensor(rates, at::kFloat);
    for (auto& [block, values] : out.by_block)
      adam.at(block).step(values, rows, gradient.at(block).index_select(0, rows),
                          static_cast<double>(step + 1), rate, options);
  }
  reporter.report("teach", total, total);
  return out;
}

}  // namespace accrete
