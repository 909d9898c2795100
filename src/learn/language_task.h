// A teach set as something that can be differentiated with respect to the memory layers' outputs.
//
// The network below the address block is frozen, so the hidden states there and all
// accesses are computed once per batch and reused in every pass. No weight gradient
// exists anywhere; the backward pass stops at the lowest memory layer.
//
// Non-goals: choosing slots (ranking.h), steps (teach.h), tasks other than language.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "memory/accesses.h"
#include "memory/sparse_rows.h"
#include "model/examples.h"
#include "model/language_model.h"

namespace accrete {

// A tentative change: t rows added to the tables of the memory blocks, through the lookup.
struct RowChanges {
  std::vector<int64_t> slots;  // [t] strictly ascending
  SlotIndex index;
  std::map<int64_t, at::Tensor> delta;  // by block [t, d] float32
  at::Tensor anchors;  // [m, query_width]: they speak near these; undefined: everywhere
};

// A loss on states instead of labels (anchors.h): InfoNCE of each example's state with those of all
// examples of the task.
struct Contrast {
  at::Tensor anchors;  // [examples, d] of length 1
  double temperature = 0.1;
};

// What one pass over one batch gives.
struct Pass {
  double loss = 0;                     // mean over examples of the mean NLL of their labels
  std::vector<double> example_loss;    // [B] mean NLL of the example's labels
  std::vector<uint8_t> example_exact;  // [B] every label is the argmax
  // d (sum of example losses) / d memory output by block, [B T, d] on the CPU; of a pass with value
  // vectors d / d those instead, [F, d]: all that is asked of it, and little to bring from a
  // device.
  std::map<int64_t, at::Tensor> output_gradient;
  std::map<int64_t, at::Tensor> value_gradient;
  at::Tensor states;  // [B, d], length 1, after the final norm, where the first label is predicted
};

struct PassOptions {
  bool gradient = false;
  // Value vectors added straight to the memory outputs, before they live in any slot: by block [F,
  // d], and for each token of the batch the vector it receives, [B T, 1] int32, -1: none. May be
  // null.
  const std::map<int64_t, at::Tensor>* values = nullptr;
  at::Tensor sites;
  // Rows read through the lookup; `keep` [B T] float32 multiplies a token's weights (dropout). May
  // be null.
  const RowChanges* changes = nullptr;
  at::Tensor keep;
  bool states = false;                 // fill Pass::states
  const Contrast* contrast = nullptr;  // this loss instead of the labels'
};

class LanguageTask {
 public:
  // `model` must outlive the task; its overlay is part of the frozen network. Batches of at most
  // `batch_tokens` padded tokens.
  LanguageTask(const LanguageModel& model, std::vector<Example> examples, int64_t batch_tokens);

  size_t batches() const { return batches_.size(); }
  const Batch& batch(size_t i) const { return batches_[i]; }
  const std::vector<Example>& examples() const { return examples_; }
  int64_t tokens() const;  // real input tokens over all batches

  Pass run(size_t batch, const PassOptions& options);

  // What does not depend on what is taught: computed at the first use.
  struct Frozen {
    at::Tensor h;        // [B, T, d] at the address block, where the network computes
    Accesses accesses;   // of every token; none of padding
    at::Tensor queries;  // [B T, query_width]
    Gates gate;          // of the model's own overlay; undefined when it is not gated
  };
  const Frozen& frozen(size_t batch);

  // A pass over any of the examples together, padded to the longest; what is frozen is computed for
  // all of them at the first call and put together from there.
  struct Selection {
    Batch batch;
    Frozen frozen;  // without queries
  };
  Selection select(std::span<const int64_t> examples);
  Pass run(const Selection& selection, const PassOptions& options) const;

 private:
  Pass run(const Batch& batch, const Frozen& frozen, const PassOptions& options) const;

  const LanguageModel& model_;
  std::vector<Example> examples_;
  std::vector<Batch> batches_;
  std::vector<Frozen> frozen_;
  std::vector<std::pair<size_t, int64_t>> place_;  // of each example: its batch, its row there
  Frozen all_;                                     // of all batches one after the other, flat
  std::vector<int64_t> first_token_;               // in it, of each batch
};

}  // namespace accrete
