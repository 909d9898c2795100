// accrete's own learner (teach.h's `propose`) behind the interface of the baselines: each call is
// one update on top of the overlay, which leaves alone the background and what the updates before
// it were taught with, as `teach` does it.
//
// Non-goals: validation, the ledger (teach.h).
#pragma once

#include <string>
#include <vector>

#include "bench/baselines/learner.h"
#include "learn/teach.h"

namespace accrete {

class MemoryLearner : public Learner {
 public:
  // `model` must outlive this; `names` as load_names gives them.
  MemoryLearner(LanguageModel& model, AccessLog background, std::vector<std::string> names,
                const TeachOptions& options);
  ~MemoryLearner() override;
  MemoryLearner(const MemoryLearner&) = delete;
  MemoryLearner& operator=(const MemoryLearner&) = delete;

  // One update, whatever `passes` says: the solver decides how often it looks. Throws what propose
  // throws.
  void learn(std::span<const Item> items, int64_t passes, const Reporter& reporter) override;
  LearnerCost cost() const override;

 private:
  LanguageModel& model_;
  AccessLog log_;
  std::vector<EarlierUpdate> earlier_;  // without rows
  std::vector<std::string> names_;
  TeachOptions options_;
  Overlay original_;
  uint64_t updates_ = 0;
  LearnerCost cost_;
};

}  // namespace accrete
