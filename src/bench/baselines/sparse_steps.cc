#include "bench/baselines/sparse_steps.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/format.h"
#include "learn/language_task.h"
#include "learn/low_precision.h"

namespace accrete {

SparseSteps::SparseSteps(LanguageModel& model, const AccessLog& background,
                         const SparseStepsOptions& options)
    : model_(model),
      background_(background),
      options_(options),
      original_(model.memory().overlay),
      order_(Rng(options.seed).split(31)) {
  if (options.slots < 1 || !(options.rate > 0))
    throw Error(ErrorCode::kInvalidArgument, "sparse steps need slots and a rate above 0");
}

SparseSteps::~SparseSteps() {
  model_.use_overlay(std::move(original_));
}

void SparseSteps::learn(std::span<const Item> items, int64_t passes, const Reporter& reporter) {
  const LowPrecisionProducts products(options_.low_precision);
  cost_.low_precision = options_.low_precision;
  ExampleOptions how;
  how.raw = options_.raw;
  LanguageTask task(model_, make_examples(model_, items, how), options_.batch_tokens);
  const auto& blocks = model_.memory().blocks;
  const int64_t width = model_.net().config().width;
  const Rng rng(options_.seed);

  // Which slots a batch may write. Without gradients a ranking depends on the accesses alone, which
  // no update moves, so it is known from the start; with them it is that of the first pass.
  std::vector<std::vector<int64_t>> chosen(task.batches());
  PassOptions with_gradient;
  with_gradient.gradient = true;
  const bool by_gradient = options_.ranking == Ranking::kInterference ||
                           options_.ranking == Ranking::kGradient ||
                           options_.ranking == Ranking::kFisher;
  std::vector<int64_t> all;
  for (size_t i = 0; i < task.batches(); ++i) {
    reporter.check_cancelled();
    SlotStatistics statistics;
    if (by_gradient) {
      const Pass pass = task.run(i, with_gradient);
      std::vector<at::Tensor> gradients;
      for (const auto& [block, g] : pass.output_gradient) gradients.push_back(g);
      statistics.add(task.frozen(i).accesses, at::cat(gradients, 1));
    } else {
      statistics.add(task.frozen(i).accesses, {});
    }
    chosen[i] = select_slots(statistics, background_, options_.ranking, options_.slots, 1e-5,
                             rng.split(32).split(i));
    std::vector<int64_t> merged;
    std::set_union(all.begin(), all.end(), chosen[i].begin(), chosen[i].end(),
                   std::back_inserter(merged));
    all = std::move(merged);
    reporter.report("rank slots", static_cast<int64_t>(i) + 1,
                    static_cast<int64_t>(task.batches()));
  }

  RowChanges changes;
  changes.slots = all;
  changes.index = SlotIndex(all);
  const auto t = static_cast<int64_t>(all.size());
  for (const int64_t block : blocks) changes.delta[block] = at::zeros({t, width}, at::kFloat);
  std::vector<SlotIndex> index;           // of a batch's own slots
  std::vector<at::Tensor> rows_of_batch;  // their rows among all
  for (const auto& slots : chosen) {
    index.emplace_back(slots);
    auto rows = at::empty({static_cast<int64_t>(slots.size())}, at::kLong);
    for (size_t k = 0; k < slots.size(); ++k)
      rows.data_ptr<int64_t>()[k] = changes.index.find(static_cast<int32_t>(slots[k]));
    rows_of_batch.push_back(rows);
  }

  std::vector<size_t> order(task.batches());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto total = static_cast<int64_t>(order.size()) * passes;
  int64_t done = 0;
  PassOptions pass_options;
  pass_options.gradient = true;
  pass_options.changes = &changes;
  for (int64_t pass = 0; pass < passes; ++pass) {
    order_.shuffle(std::span(order));
    for (const size_t i : order) {
      reporter.check_cancelled();
      const Pass result = task.run(i, pass_options);
      if (!std::isfinite(result.loss))
        throw Error(ErrorCode::kRefused, "the loss is no longer finite", "lower the rate");
      const Accesses& a = task.frozen(i).accesses;
      const auto rows = index[i].rows(a.slots);
      const auto count = static_cast<double>(task.batch(i).examples.size());
      for (auto& [block, delta] : changes.delta) {
        const auto gradient = scatter_rows(result.output_gradient.at(block) / count, rows,
                                           a.weights, index[i].size());
        delta.index_add_(0, rows_of_batch[i], gradient, -options_.rate);
      }
      cost_.tokens += task.batch(i).mask.sum().item<int64_t>();
      cost_.losses.push_back(result.loss);
      reporter.report("sparse steps", ++done, total, accrete::format("loss {:.3f}", result.loss));
    }
  }

  Update update;
  for (const auto& [block, delta] : changes.delta) {
    LayerDelta layer;
    layer.block = static_cast<int>(block);
    layer.width = width;
    layer.indices = all;
    const auto values = delta.contiguous();
    layer.delta.assign(values.data_ptr<float>(), values.data_ptr<float>() + values.numel());
    if (t > 0) update.layers.push_back(std::move(layer));
  }
  model_.add_update(update);
}

LearnerCost SparseSteps::cost() const {
  LearnerCost cost = cost_;
  cost.parameters += model_.memory().overlay.parameters();
  return cost;
}

}  // namespace accrete
