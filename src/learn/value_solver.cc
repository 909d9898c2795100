#include "learn/value_solver.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "base/format.h"
#include "learn/low_precision.h"
#include "learn/suffix_task.h"

namespace accrete {

int64_t last_subject_token(const Example& example) {
  for (auto t = static_cast<int64_t>(example.subject.size()) - 1; t >= 0; --t)
    if (example.subject[static_cast<size_t>(t)] != 0) return t;
  return -1;
}

at::Tensor write_sites(const Batch& batch, const std::vector<Example>& examples,
                       const std::map<int64_t, int64_t>& subject_of) {
  const int64_t B = batch.ids.size(0), T = batch.ids.size(1);
  auto sites = at::full({B * T, 1}, -1, at::kInt);
  for (int64_t b = 0; b < B; ++b) {
    const Example& e = examples[static_cast<size_t>(batch.examples[static_cast<size_t>(b)])];
    if (const int64_t t = last_subject_token(e); t >= 0)
      sites.data_ptr<int32_t>()[b * T + t] = static_cast<int32_t>(subject_of.at(e.item));
  }
  return sites;
}

namespace {

constexpr int64_t kRawSteps = 20;

// The phrasings of one fact, and what is known of them.
struct Fact {
  std::vector<int64_t> phrasings;  // example indices
  std::vector<double> loss;        // last seen
  size_t shown = 0;                // in this step

  bool settled(double below) const { return *std::max_element(loss.begin(), loss.end()) <= below; }

  // Which phrasing a step shows: by turns, of those that have not settled, if any has not.
  size_t shown_in(int64_t step, double below) const {
    const size_t turn = static_cast<size_t>(step) % phrasings.size();
    for (size_t k = 0; k < phrasings.size(); ++k)
      if (const size_t p = (turn + k) % phrasings.size(); !(loss[p] <= below)) return p;
    return turn;
  }
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

// The hidden states that vectors are added to, at the sites of some of the examples, [n, d].
at::Tensor site_states(const LanguageModel& model, const std::vector<Example>& examples) {
  constexpr size_t kSome = 16;
  const at::NoGradGuard no_grad;
  const Transformer& net = model.net();
  std::vector<int64_t> which;
  const size_t step = std::max<size_t>(1, examples.size() / kSome);
  for (size_t i = 0; i < examples.size() && which.size() < kSome; i += step)
    which.push_back(static_cast<int64_t>(i));
  std::vector<at::Tensor> out;
  for (const Batch& batch : make_batches(examples, which, kSome * 64)) {
    const auto h =
        net.run(net.embed(batch.ids.to(net.device())), 0, model.memory().address_block + 1);
    for (size_t b = 0; b < batch.examples.size(); ++b) {
      const auto& e = examples[static_cast<size_t>(batch.examples[b])];
      out.push_back(h.select(0, static_cast<int64_t>(b)).select(0, last_subject_token(e)));
    }
  }
  return at::stack(out);
}

// Losses and gradients of examples with a vector each: with what comes before the subjects kept, or
// by whole passes.
class Shower {
 public:
  Shower(const LanguageModel& model, const std::vector<Example>& examples,
         const std::map<int64_t, int64_t>& subject_of, const ValueSolverOptions& options,
         const Reporter& reporter, const SubjectPrompts* prompts)
      : model_(model),
        examples_(examples),
        subject_of_(subject_of),
        batch_tokens_(options.batch_tokens),
        settled_(options.settled) {
    if (options.cached && PackedPass::supports(model.net())) {
      const SuffixOptions how{options.batch_tokens, options.cache_bytes,
                              options.low_precision && PackedPass::fast_low_precision(model.net())};
      suffixes_ = prompts != nullptr ? std::make_unique<SuffixTask>(*prompts, how)
                                     : std::make_unique<SuffixTask>(model, examples, how, reporter);
      tokens = suffixes_->tokens_before();
    } else {
      batch_tokens_ = tokens_a_pass(model.net(), batch_tokens_);
      whole_ = std::make_unique<LanguageTask>(model, examples, 2 * batch_tokens_);
      low_precision_ = options.low_precision && model.net().device().is_cuda();
    }
  }

  // The hidden states that vectors are added to, at the sites of all or some of the examples.
  at::Tensor site_states() const {
    return suffixes_ ? suffixes_->prompts().site_states() : accrete::site_states(model_, examples_);
  }

  // Examples that are best shown together.
  size_t most() const {
    constexpr int64_t kFew = 64, kTokens = 16;  // of an example
    return static_cast<size_t>(std::max(kFew, whole_ ? batch_tokens_ / kTokens : 0));
  }

  // Calls see(example, loss); adds to `gradient`, by block [S, d].
  void show(const std::vector<int64_t>& which, const std::map<int64_t, at::Tensor>& values,
            std::map<int64_t, at::Tensor>& gradient,
            const std::function<void(int64_t example, double loss)>& see) {
    if (!suffixes_) return show_whole(which, values, gradient, see);
    std::vector<int64_t> vectors;
    for (const int64_t i : which) {
      vectors.push_back(subject_of_.at(examples_[static_cast<size_t>(i)].item));
      tokens += suffixes_->tokens_of(i);
    }
    const auto loss = suffixes_->run(which, vectors, values, &gradient, settled_);
    for (size_t i = 0; i < which.size(); ++i) see(which[i], loss[i]);
  }

  int64_t tokens = 0;  // passed so far

 private:
  void show_whole(const std::vector<int64_t>& which, const std::map<int64_t, at::Tensor>& values,
                  std::map<int64_t, at::Tensor>& gradient,
                  const std::function<void(int64_t example, double loss)>& see) {
    for (const Batch& group : make_batches(examples_, which, batch_tokens_)) {
      const auto selection = whole_->select(group.examples);
      const auto sites = write_sites(selection.batch, examples_, subject_of_);
      PassOptions pass_options;
      pass_options.gradient = true;
      pass_options.values = &values;
      pass_options.sites = sites;
      const LowPrecisionProducts products(low_precision_);
      const Pass pass = whole_->run(selection, pass_options);
      tokens += selection.batch.mask.sum().item<int64_t>();
      for (size_t b = 0; b < group.examples.size(); ++b)
        see(group.examples[b], pass.example_loss[b]);
      for (auto& [block, g] : gradient) g += pass.value_gradient.at(block);
    }
  }

  const LanguageModel& model_;
  const std::vector<Example>& examples_;
  const std::map<int64_t, int64_t>& subject_of_;
  int64_t batch_tokens_;
  double settled_;
  bool low_precision_ = false;  // of whole passes
  std::unique_ptr<SuffixTask> suffixes_;
  std::unique_ptr<LanguageTask> whole_;
};

// `all` in parts of at most `most`, as equal as can be.
std::vector<std::vector<int64_t>> in_parts(const std::vector<int64_t>& all, size_t most) {
  const size_t parts = (all.size() + most - 1) / most;
  std::vector<std::vector<int64_t>> out;
  for (size_t p = 0; p < parts; ++p)
    out.emplace_back(all.begin() + static_cast<ptrdiff_t>(p * all.size() / parts),
                     all.begin() + static_cast<ptrdiff_t>((p + 1) * all.size() / parts));
  return out;
}

}  // namespace

Values solve_values(const LanguageModel& model, const std::vector<Example>& examples,
                    const std::map<int64_t, int64_t>& subject_of, int64_t subjects,
                    const ValueSolverOptions& options, const Reporter& reporter,
                    const SubjectPrompts* prompts) {
  const int64_t d = model.net().config().width;
  const int64_t steps_a_fact = options.steps > 0 ? options.steps : kRawSteps;
  const int64_t more = options.steps > 0 ? 0 : options.more_steps;
  std::vector<std::map<int64_t, Fact>> facts(static_cast<size_t>(subjects));  // by item
  for (size_t i = 0; i < examples.size(); ++i) {
    Fact& fact = facts[static_cast<size_t>(subject_of.at(examples[i].item))][examples[i].item];
    fact.phrasings.push_back(static_cast<int64_t>(i));
    fact.loss.push_back(INFINITY);
  }
  Shower task(model, examples, subject_of, options, reporter, prompts);
  const auto states = task.site_states();
  const double rate =
      options.rate * std::sqrt(states.to(at::kDouble).square().mean().item<double>());

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
  const int64_t last = *std::max_element(budget.begin(), budget.end()) + more;
  const int64_t total = std::accumulate(budget.begin(), budget.end(), int64_t{0});
  int64_t done = 0;
  for (int64_t step = 0; step < last; ++step) {
    // One phrasing of each fact of each subject that is not settled, by turns.
    std::vector<int64_t> show, moving;
    std::vector<float> rates;
    int64_t over = 0;
    for (int64_t s = 0; s < subjects; ++s) {
      auto& about = facts[static_cast<size_t>(s)];
      const bool settled = std::all_of(about.begin(), about.end(), [&](const auto& f) {
        return f.second.settled(options.settled);
      });
      const int64_t steps = budget[static_cast<size_t>(s)];
      if (settled || step >= steps + more) {
        over += steps;
        continue;
      }
      over += std::min(step, steps);
      // What has not settled begins again, with long steps.
      const double progress = step < steps
                                  ? static_cast<double>(step) / static_cast<double>(steps)
                                  : static_cast<double>(step - steps) / static_cast<double>(more);
      rates.push_back(static_cast<float>(rate * (1 - (1 - options.final_rate) * progress)));
      moving.push_back(s);
      for (auto& [item, fact] : about) {
        fact.shown = fact.shown_in(step, options.settled);
        show.push_back(fact.phrasings[fact.shown]);
      }
    }
    if (moving.empty()) break;
    done = std::max(done, over);

    std::map<int64_t, at::Tensor> gradient;
    for (const int64_t block : model.memory().blocks)
      gradient[block] = at::zeros({subjects, d}, at::kFloat);
    double loss = 0;
    size_t shown = 0;
    // A part at a time, so that a reporter is heard often enough.
    for (const auto& part : in_parts(show, task.most())) {
      reporter.check_cancelled();
      shown += part.size();
      task.show(part, out.by_block, gradient, [&](int64_t example, double now) {
        const Example& e = examples[static_cast<size_t>(example)];
        Fact& fact = facts[static_cast<size_t>(subject_of.at(e.item))].at(e.item);
        fact.loss[fact.shown] = now;
        loss += now;
      });
      out.steps += static_cast<int64_t>(part.size());
      reporter.report("teach", done, total,
                      accrete::format("loss {:.3f}", loss / static_cast<double>(shown)));
    }
    // A subject moves in every step until it settles, so all that move have taken as many.
    const auto rows = at::tensor(moving, at::kLong);
    const auto lengths = at::tensor(rates, at::kFloat);
    for (auto& [block, values] : out.by_block)
      adam.at(block).step(values, rows, gradient.at(block).index_select(0, rows),
                          static_cast<double>(step + 1), lengths, options);
  }
  out.tokens = task.tokens;
  reporter.report("teach", total, total);
  return out;
}

}  // namespace accrete
