#include "bench/baselines/memory_learner.h"

#include "learn/subjects.h"

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
  std::vector<Item> own(items.begin(), items.end());
  fill_subjects(own);
  const Protect protect = [&](AccessLog& log, const Speaks& where) {
    protect_earlier(log, earlier_, own, model_.memory(), options_.earlier_weight, where);
  };
  const Proposal proposal = propose(model_, own, log_, names_, options, reporter, protect,
                                    find_companions(own, earlier_));
  model_.add_update(proposal.update);
  EarlierUpdate outline{{}, proposal.update};
  outline.update.layers.clear();
  earlier_.push_back(std::move(outline));
  cost_.tokens += proposal.teach_tokens;
}

LearnerCost MemoryLearner::cost() const {
  LearnerCost cost = cost_;
  cost.parameters += model_.memory().overlay.parameters();
  return cost;
}

}  // namespace accrete
