#include "learn/row_solver.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numeric>

#include "base/error.h"

namespace accrete {

RowSolverResult solve_rows(LanguageTask& task,
                           const std::map<int64_t, std::vector<int64_t>>& selected,
                           const std::map<int64_t, at::Tensor>& gram, int64_t width,
                           const RowSolverOptions& options, Rng rng, const Reporter& reporter) {
  RowSolverResult result;
  std::map<int64_t, at::Tensor> factor, momentum;
  for (const auto& [block, slots] : selected) {
    const auto t = static_cast<int64_t>(slots.size());
    result.changes[block] = {slots, SlotIndex(slots), at::zeros({t, width}, at::kFloat)};
    momentum[block] = at::zeros({t, width}, at::kFloat);
    // lambda (G + lambda I)^-1 = (G / lambda + I)^-1
    auto [l, info] =
        at::linalg_cholesky_ex(gram.at(block) / options.lambda + at::eye(t, at::kFloat));
    if (info.item<int>() != 0)
      throw Error(ErrorCode::kInvalidArgument, "G_SS / lambda + I is not positive definite",
                  "raise --lambda");
    factor[block] = l;
  }
  std::vector<size_t> order(task.batches());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto total = static_cast<int64_t>(order.size()) * options.epochs;
  int64_t done = 0;
  for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    rng.shuffle(std::span(order));
    double sum = 0;
    for (const size_t i : order) {
      reporter.check_cancelled();
      const Batch& batch = task.batch(i);
      PassOptions pass_options;
      pass_options.gradient = true;
      const int64_t tokens = batch.ids.numel();
      for (const auto& [block, change] : result.changes) {
        auto keep = at::empty({tokens}, at::kFloat);
        const auto scale = static_cast<float>(1 / (1 - options.dropout));
        for (int64_t k = 0; k < tokens; ++k)
          keep.data_ptr<float>()[k] = rng.uniform() < options.dropout ? 0.0F : scale;
        pass_options.keep[block] = keep;
      }
      const Pass pass = task.run(i, &result.changes, pass_options);
      if (!std::isfinite(pass.loss))
        throw Error(ErrorCode::kRefused, "the loss is no longer finite; nothing was changed",
                    "lower --rate or raise --lambda");
      result.tokens += batch.mask.sum().item<int64_t>();
      const auto B = static_cast<double>(batch.examples.size());
      for (auto& [block, change] : result.changes) {
        const Accesses& a = pass.accesses.at(block);
        const auto weights = a.weights * pass_options.keep.at(block).unsqueeze(1);
        const auto grad = scatter_rows(pass.output_gradient.at(block) / B,
                                       change.index.rows(a.slots), weights, change.index.size());
        auto& m = momentum.at(block);
        m = options.momentum * m + grad;
        change.delta = change.delta - options.rate * (1 - options.momentum) *
                                          at::cholesky_solve(m, factor.at(block));
      }
      sum += pass.loss;
      reporter.report("teach", ++done, total, fmt::format("loss {:.3f}", pass.loss));
    }
    result.loss = sum / static_cast<double>(order.size());
    if (result.loss < options.target) break;
  }
  reporter.report("teach", total, total);
  return result;
}

}  // namespace accrete
