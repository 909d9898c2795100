#include "learn/row_solver.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/format.h"

namespace accrete {
namespace {

using SteadyClock = std::chrono::steady_clock;

double seconds_since(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

// The gradient of the anchors' loss for the rows, by block; a batch of anchors a step, by turns.
std::map<int64_t, at::Tensor> anchor_pull(Anchors* anchors, size_t step, const RowChanges& changes,
                                          const RowSolverOptions& options) {
  std::map<int64_t, at::Tensor> out;
  if (anchors == nullptr || (options.anchor_weight <= 0 && !options.adapt)) return out;
  const size_t i = step % anchors->batches();
  const Pass pass = anchors->run(i, changes);
  const Accesses& a = anchors->frozen(i).accesses;
  const auto rows = changes.index.rows(a.slots);
  const double scale = 1 / static_cast<double>(anchors->size(i));
  for (const auto& [block, gradient] : pass.output_gradient)
    out[block] =
        scatter_rows(gradient * scale, rows, a.weights, static_cast<int64_t>(changes.slots.size()));
  return out;
}

}  // namespace

RowSolverResult solve_rows(LanguageTask& task, const std::vector<int64_t>& selected,
                           const at::Tensor& gram, const std::vector<int64_t>& blocks,
                           int64_t width, const RowSolverOptions& options, Rng rng,
                           const Reporter& reporter, Anchors* anchors, const RowGate& gate) {
  RowSolverResult result;
  const auto t = static_cast<int64_t>(selected.size());
  result.changes.slots = selected;
  result.changes.index = SlotIndex(selected);
  result.changes.anchors = gate.anchors;
  std::map<int64_t, at::Tensor> momentum, plasticity;
  for (const int64_t block : blocks) {
    result.changes.delta[block] = at::zeros({t, width}, at::kFloat);
    momentum[block] = at::zeros({t, width}, at::kFloat);
    plasticity[block] = at::ones({t, 1}, at::kFloat);
  }
  // lambda (G + lambda I)^-1 = (G / lambda + I)^-1
  const auto [factor, info] = at::linalg_cholesky_ex(
      seen_gram(gram / options.lambda, options.plasticity) + at::eye(t, at::kFloat));
  if (info.item<int>() != 0)
    throw Error(ErrorCode::kInvalidArgument, "G_SS / lambda + I is not positive definite",
                "raise --lambda");
  std::vector<size_t> order(task.batches());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto total = static_cast<int64_t>(order.size()) * options.epochs;
  int64_t done = 0;
  const auto start = SteadyClock::now();
  auto held = result.changes.delta;  // tensors are replaced, never written: a copy of handles
  const auto check = [&] {
    if (!options.holds) return true;
    const double taken = seconds_since(start);
    // Before the first, by what a token of the steps costs, forward and backward.
    const double price =
        result.checks > 0 ? result.check_seconds / static_cast<double>(result.checks)
                          : taken / static_cast<double>(result.tokens) * options.check_tokens / 2;
    if (result.check_seconds + price > options.check_share * taken) return true;
    const auto before = SteadyClock::now();
    const bool holds = options.holds(result.changes);
    result.check_seconds += seconds_since(before);
    ++result.checks;
    if (holds)
      held = result.changes.delta;
    else
      result.changes.delta = held;
    result.stopped = !holds;
    return holds;
  };
  for (int64_t epoch = 0; epoch < options.epochs && !result.stopped; ++epoch) {
    rng.shuffle(std::span(order));
    double sum = 0;
    for (const size_t i : order) {
      reporter.check_cancelled();
      const Batch& batch = task.batch(i);
      const int64_t tokens = batch.ids.numel();
      auto keep = at::empty({tokens}, at::kFloat);
      const auto scale = static_cast<float>(1 / (1 - options.dropout));
      for (int64_t k = 0; k < tokens; ++k)
        keep.data_ptr<float>()[k] = rng.uniform() < options.dropout ? 0.0F : scale;
      if (gate.anchors.defined()) keep = keep * gate.of_batch[i];
      PassOptions pass_options;
      pass_options.gradient = true;
      pass_options.changes = &result.changes;
      pass_options.keep = keep;
      const Pass pass = task.run(i, pass_options);
      if (!std::isfinite(pass.loss))
        throw Error(ErrorCode::kRefused, "the loss is no longer finite; nothing was changed",
                    "lower --rate or raise --lambda");
      result.tokens += batch.mask.sum().item<int64_t>();
      const auto B = static_cast<double>(batch.examples.size());
      const Accesses& a = task.frozen(i).accesses;
      const auto rows = result.changes.index.rows(a.slots);
      const auto weights = a.weights * keep.unsqueeze(1);
      const auto pull = anchor_pull(anchors, static_cast<size_t>(done), result.changes, options);
      for (auto& [block, delta] : result.changes.delta) {
        auto grad = scatter_rows(pass.output_gradient.at(block) / B, rows, weights, t);
        if (const auto it = pull.find(block); it != pull.end()) {
          if (options.adapt) {
            auto& p = plasticity.at(block);
            const auto against = (grad * it->second).sum(1, true) < 0;
            p = at::where(against, p * 0.5, p * 1.1).clamp(1.0 / 16, 1);
            grad = grad * p;
          }
          if (options.anchor_weight > 0) grad = grad + it->second * options.anchor_weight;
        }
        auto& m = momentum.at(block);
        m = options.momentum * m + grad;
        delta = delta - options.rate * (1 - options.momentum) * at::cholesky_solve(m, factor);
      }
      sum += pass.loss;
      reporter.report("teach", ++done, total, accrete::format("loss {:.3f}", pass.loss));
      if (!check()) break;
    }
    result.loss = sum / static_cast<double>(order.size());
    if (result.loss < options.target) break;
  }
  result.seconds = seconds_since(start);
  reporter.report("teach", total, total);
  return result;
}

}  // namespace accrete
