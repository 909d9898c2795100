#include "learn/baselines/memory_learner.h"

#include <ATen/ATen.h>

namespace accrete {

MemoryLearner::MemoryLearner(LanguageModel& model, AccessLog background,
                             std::vector<std::string> names, const TeachOptions& options)
    : model_(model),
      log_(std::move(background)),
      names_(std::move(names)),
      options_(options),
      original_(model.memory().overlay) {}

MemoryLearner::~MemoryLearner() {
  model_.use_overlay(std::move(original_));
}

void MemoryLearner::learn(std::span<const Item> items, int64_t /*passes*/,
                          const Reporter& reporter) {
  TeachOptions options = options_;
  options.seed += updates_++;
  const Proposal proposal =
      propose(model_, {items.begin(), items.end()}, log_, names_, options, reporter);
  model_.add_update(proposal.update);
  if (const Accesses own = taught_accesses(proposal.update.taught); own.defined())
    log_.append(own, options_.earlier_weight, false);
  cost_.tokens += proposal.teach_tokens;
}

LearnerCost MemoryLearner::cost() const {
  LearnerCost cost = cost_;
  for (const auto& [block, rows] : model_.memory().overlay.by_block)
    for (const auto* table : {&rows.open, &rows.gated, &rows.text})
      if (!table->empty())
        cost.parameters += static_cast<int64_t>(table->slots.size()) * table->values.size(1);
  return cost;
}

}  // namespace accrete
