// A teach set as something that can be differentiated with respect to the memory layers' outputs.
//
// The network below the lowest memory layer is frozen, so the hidden states there and that layer's
// accesses are computed once per batch and reused in every pass (design §7). No weight gradient
// exists anywhere; the backward pass stops at the lowest memory layer.
//
// Non-goals: choosing slots (ranking.h), steps (teach.h), tasks other than language.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

#include "memory/accesses.h"
#include "memory/sparse_rows.h"
#include "model/examples.h"
#include "model/language_model.h"

namespace accrete {

// A tentative change: for each memory layer t rows added to its table.
struct RowChange {
  std::vector<int64_t> slots;  // [t] strictly ascending
  SlotIndex index;
  at::Tensor delta;  // [t, d] float32
};
using RowChanges = std::map<int64_t, RowChange>;  // by block

// What one pass over one batch gives.
struct Pass {
  double loss = 0;                     // mean over examples of the mean NLL of their labels
  std::vector<double> example_loss;    // [B] mean NLL of the example's labels
  std::vector<double> example_worst;   // [B] largest NLL of a label
  std::vector<uint8_t> example_exact;  // [B] every label is the argmax
  std::map<int64_t, at::Tensor>
      output_gradient;  // by block [B T, d]: d loss_sum / d memory output; only with gradients
  std::map<int64_t, Accesses> accesses;  // by block, of this pass
};

struct PassOptions {
  bool gradient = false;
  // Value vectors added straight to the memory outputs, before they live in any slot: by block [F,
  // d], and for each token of the batch the vector it receives, [B T, 1] int32, -1: none. May be
  // null.
  const std::map<int64_t, at::Tensor>* values = nullptr;
  at::Tensor sites;
  // Per block [B T] float32: multiplies a token's access weights of the change (dropout, where to
  // write); undefined: 1 everywhere.
  std::map<int64_t, at::Tensor> keep;
};

class LanguageTask {
 public:
  // `model` must outlive the task; its overlay is part of the frozen network. Batches of at most
  // `batch_tokens` padded tokens.
  LanguageTask(const LanguageModel& model, std::vector<Example> examples, int64_t batch_tokens);
  // With batches of the caller's: lists of example indices.
  LanguageTask(const LanguageModel& model, std::vector<Example> examples,
               std::vector<Batch> batches);

  size_t batches() const { return batches_.size(); }
  const Batch& batch(size_t i) const { return batches_[i]; }
  const std::vector<Example>& examples() const { return examples_; }
  int64_t tokens() const;  // real input tokens over all batches

  // `changes` may be null: the model as it is.
  Pass run(size_t batch, const RowChanges* changes, const PassOptions& options);

 private:
  struct Frozen {
    at::Tensor h;     // [B, T, d] at the lowest memory block
    Accesses lowest;  // its accesses; filled at the first pass
  };
  const LanguageModel& model_;
  std::vector<Example> examples_;
  std::vector<Batch> batches_;
  std::vector<Frozen> frozen_;
  int64_t lowest_ = 0;
};

}  // namespace accrete
