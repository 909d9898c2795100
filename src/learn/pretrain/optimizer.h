// The optimisers of pretraining: AdamW (Loshchilov & Hutter 2019) for dense weights, and Adam by
// rows for the memory's value table.
//
// The table's optimiser touches the rows that a step read and no others, neither their values nor
// their moments; bias correction counts a row's own steps. So each row moves exactly as dense Adam
// would move it, were the steps that did not read it left out.
//
// Non-goals: schedules (config.h), the baselines' optimisers (bench/baselines/optimizer.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "learn/pretrain/network.h"

namespace accrete {

struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.98, epsilon = 1e-8;
};

class DenseAdamW {
 public:
  // `parameters` must outlive it.
  DenseAdamW(const std::vector<TrainingNetwork::Parameter>& parameters, double weight_decay,
             const AdamOptions& options = {});
  // One step along the parameters' gradients, which are scaled by `scale` first.
  void step(double rate, double address_rate, double scale);
  // Euclidean norm of all gradients.
  double gradient_norm() const;

  // The moments of each parameter, and the steps taken: what a checkpoint holds.
  const std::vector<at::Tensor>& first() const { return first_; }
  const std::vector<at::Tensor>& second() const { return second_; }
  void set_steps(int64_t steps);

 private:
  AdamOptions options_;
  double weight_decay_;
  const std::vector<TrainingNetwork::Parameter>& parameters_;
  std::vector<at::Tensor> first_, second_, steps_;
};

// The gradient of the rows that were read: ascending slots, and a row for each.
struct RowGradient {
  at::Tensor slots;  // [R] int64
  at::Tensor rows;   // [R, d]
};
// Of a table of `size` rows, from all passes of a step.
RowGradient row_gradient(const TrainingNetwork::Reads& reads, int64_t size);

class RowAdam {
 public:
  // `values` [N, d] float32 is changed in place by step().
  explicit RowAdam(at::Tensor values, const AdamOptions& options = {});
  void step(const RowGradient& gradient, double rate, double scale);

  const at::Tensor& first() const { return first_; }    // [N, d]
  const at::Tensor& second() const { return second_; }  // [N, d]
  const at::Tensor& steps() const { return steps_; }    // [N] int32

 private:
  AdamOptions options_;
  at::Tensor values_, first_, second_, steps_;
};

}  // namespace accrete
