// Stepwise solver: interference-preconditioned steps on the selected rows, through the real lookup.
//
//   m <- mu m + grad,   delta <- delta - eta (1 - mu) lambda (G_SS + lambda I)^-1 m
//
// for each memory layer, with dropout on accesses. Directions that the background leans on hardly
// move.
//
// Non-goals: choosing slots (ranking.h); closed forms (deposit.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "base/progress.h"
#include "base/rng.h"
#include "learn/anchors.h"
#include "learn/language_task.h"
#include "learn/plasticity.h"

namespace accrete {

struct RowSolverOptions {
  int64_t epochs = 10;
  double rate = 4000;     // eta
  double momentum = 0.8;  // mu
  double lambda = 1e-5;
  double dropout = 0.1;  // of a token's accesses
  double target = 0.03;  // mean loss at which it stops
  Plasticity plasticity = Plasticity::kFull;
  // Where a slot's gradient from the teach set works against the one from the anchors, its step is
  // halved, down to 1/16, and recovers by a tenth where not. Needs anchors.
  bool adapt = false;
  double anchor_weight = 0;         // alpha (anchors.h); 0: none
  double anchor_temperature = 0.1;  // tau
  // Whether a state may be kept; asked after a step, as often as `check_share` of the time allows:
  // never where a run is too short. When it says no, the run ends with the last state it agreed to.
  std::function<bool(const RowChanges&)> holds = nullptr;
  double check_share = 0.1;
  double check_tokens = 0;  // that a check passes, which tells its price before the first
};

// Where the rows will speak: anchors (memory/gate.h), and the gate of every token of each batch of
// the task, [B T]. Without anchors: everywhere.
struct RowGate {
  at::Tensor anchors;
  std::vector<at::Tensor> of_batch;
};

struct RowSolverResult {
  RowChanges changes;
  double loss = 0;
  int64_t tokens = 0;
  int64_t checks = 0;
  double check_seconds = 0, seconds = 0;
  bool stopped = false;  // by `holds`: the changes are those of an earlier step
};

// `anchors` may be null: a batch of them is passed through at every step. `selected` [t] ascending
// slots, `gram` G_SS [t, t], `blocks` that are written, `width` d. Throws kRefused when the loss
// becomes not finite.
RowSolverResult solve_rows(LanguageTask& task, const std::vector<int64_t>& selected,
                           const at::Tensor& gram, const std::vector<int64_t>& blocks,
                           int64_t width, const RowSolverOptions& options, Rng rng,
                           const Reporter& reporter, Anchors* anchors = nullptr,
                           const RowGate& gate = {});

}  // namespace accrete
