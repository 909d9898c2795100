// Sparse memory finetuning as it was published (Lin et al. 2025): of every batch the slots are
// ranked, by default by tf-idf against the background, and the gradient step of that batch writes
// the value rows of the best t and no others. No preconditioner, no gate, no neighbours, no value
// vectors: what accrete adds is left out, to be compared with.
//
// Non-goals: a good learner (teach.h).
#pragma once

#include <memory>

#include "bench/baselines/learner.h"
#include "learn/ranking.h"
#include "memory/access_log.h"
#include "model/language_model.h"

namespace accrete {

struct SparseStepsOptions {
  Ranking ranking = Ranking::kTfidf;
  int64_t slots = 500;  // t: rows of every memory layer that a step writes
  double rate = 1000;   // of plain SGD on the batch's mean loss
  int64_t batch_tokens = 512;
  uint64_t seed = 0;
  bool raw = true;
  bool low_precision = false;  // products in bfloat16 (low_precision.h)
};

class SparseSteps : public Learner {
 public:
  // `model`, whose overlay changes, and `background` must outlive this.
  SparseSteps(LanguageModel& model, const AccessLog& background, const SparseStepsOptions& options);
  ~SparseSteps() override;
  SparseSteps(const SparseSteps&) = delete;
  SparseSteps& operator=(const SparseSteps&) = delete;

  // Throws kInvalidArgument when the model has no memory layers.
  void learn(std::span<const Item> items, int64_t passes, const Reporter& reporter) override;
  LearnerCost cost() const override;

 private:
  LanguageModel& model_;
  const AccessLog& background_;
  SparseStepsOptions options_;
  Overlay original_;
  Rng order_;
  LearnerCost cost_;
};

}  // namespace accrete
