#include "learn/anchors.h"

#include <ATen/ATen.h>

namespace accrete {
namespace {

constexpr int64_t kAnchorTokens = 512;

}  // namespace

Anchors::Anchors(const LanguageModel& model, std::vector<Example> examples, double temperature,
                 const Reporter& reporter)
    : task_(model, std::move(examples), kAnchorTokens) {
  contrast_.temperature = temperature;
  at::Tensor states;
  PassOptions options;
  options.states = true;
  for (size_t i = 0; i < task_.batches(); ++i) {
    reporter.check_cancelled();
    const Pass pass = task_.run(i, options);
    if (!states.defined())
      states = at::zeros({static_cast<int64_t>(task_.examples().size()), pass.states.size(1)},
                         at::kFloat);
    states.index_copy_(0, at::tensor(task_.batch(i).examples, at::kLong), pass.states);
    reporter.report("anchors", static_cast<int64_t>(i) + 1, static_cast<int64_t>(task_.batches()));
  }
  contrast_.anchors = states;
}

Pass Anchors::run(size_t batch, const RowChanges& changes) {
  PassOptions options;
  options.gradient = true;
  options.changes = &changes;
  options.contrast = &contrast_;
  return task_.run(batch, options);
}

Accesses Anchors::accesses() {
  std::vector<Accesses> all;
  for (size_t i = 0; i < task_.batches(); ++i) all.push_back(task_.frozen(i).accesses);
  return concat(all);
}

}  // namespace accrete
