// Slot rankings: which slots a teach set should write.
//
// Every ranking is a score per slot that the teach set accesses; the top t are selected, ties by
// lower slot id.
//
// Non-goals: the size of the step (preconditioner.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/rng.h"
#include "memory/access_log.h"
#include "memory/accesses.h"

namespace accrete {

enum class Ranking {
  kInterference,  // |dL/dV_i| / sqrt(G_ii + lambda)
  kTfidf,         // c_i / sum c * log((|B| + 1) / (df_i + 1))   (Lin et al. 2025, sparse memory
                  // finetuning)
  kGradient,      // |dL/dV_i|
  kFisher,        // E |dL/dV_i|^2 over batches
  kKl,            // p_i log(p_i / q_i): what slot i adds to the divergence of the teach set's
                  // distribution of accesses, p, from the background's, q
  kTf,            // c_i: a control
  kRandom,        // a control
  kAll,           // every accessed slot: a control
};

// Throws kInvalidArgument with the names that exist.
Ranking parse_ranking(const std::string& name);
std::string ranking_name(Ranking ranking);

// What a teach set does to one layer's slots, summed over its batches.
class SlotStatistics {
 public:
  // Adds a batch: its accesses and, where known, the gradient of the loss at the layer's output,
  // [T, d]. `where` [T] float32 (optional) weights tokens: 0 leaves a token out.
  void add(const Accesses& accesses, const at::Tensor& output_gradient,
           const at::Tensor& where = {});

  // Ascending distinct slots seen so far.
  const std::vector<int64_t>& slots() const { return slots_; }
  const std::vector<double>& counts() const {
    return counts_;
  }  // c_i: access weight as a count of accesses
  std::vector<double> gradient_norms() const;  // |sum of gradients|
  const std::vector<double>& squared_gradients() const {
    return squared_;
  }  // sum over batches of |gradient|^2

 private:
  std::vector<int64_t> slots_;
  std::vector<double> counts_, squared_;
  at::Tensor gradient_;  // [slots, d]
};

// The selected slots, ascending; at most `t`. `rng` is used by kRandom only.
std::vector<int64_t> select_slots(const SlotStatistics& statistics, const AccessLog& log,
                                  Ranking ranking, int64_t t, double lambda, Rng rng);

}  // namespace accrete
