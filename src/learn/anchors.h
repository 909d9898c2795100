// Knowledge anchoring: prompts of what is known, whose representation an update should leave where
// it is.
//
// Before the update the state z_j of every anchor is recorded: the last hidden state, after the
// final norm, at the position that predicts the first token of its answer, scaled to length 1.
// During the update each step also follows
//
//   alpha InfoNCE(z_j, z̄_j) = -alpha log( exp(z_j . z̄_j / tau) / sum_k exp(z_j . z̄_k / tau) )
//
// (van den Oord et al. 2018), with all anchors recorded as the others. What the memory puts out at
// an anchor is held by the access log, which its accesses can join: exactly, and without a loss.
//
// Non-goals: the closed path, which writes at subjects alone: of anchors it sees their accesses.
#pragma once

#include <cstdint>
#include <vector>

#include "base/progress.h"
#include "learn/language_task.h"

namespace accrete {

class Anchors {
 public:
  // Records the states as they are now. `model` must outlive this.
  Anchors(const LanguageModel& model, std::vector<Example> examples, double temperature,
          const Reporter& reporter);

  size_t batches() const { return task_.batches(); }
  size_t size(size_t batch) const { return task_.batch(batch).examples.size(); }
  // A batch of anchors: loss and gradient of InfoNCE, as LanguageTask::run gives them.
  Pass run(size_t batch, const RowChanges& changes);
  const LanguageTask::Frozen& frozen(size_t batch) { return task_.frozen(batch); }
  // Accesses of every token of every anchor.
  Accesses accesses();

 private:
  LanguageTask task_;
  Contrast contrast_;
};

}  // namespace accrete
