// Dense optimisers for the baselines: AdamW (Loshchilov & Hutter 2019) and SGD with momentum, with
// the update rules and the gradient clipping of PyTorch, on which the published figures rest.
//
// Non-goals: the memory's own steps (value_solver.h, row_solver.h), schedules.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace accrete {

struct OptimizerOptions {
  enum class Kind { kAdamW, kSgd };
  Kind kind = Kind::kAdamW;
  double rate = 1e-5;
  double weight_decay = 0;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  // AdamW
  double momentum = 0;                                // SGD
  double clip = 1;  // gradients longer than this, over all parameters, are scaled to it; 0: never
};

class Optimizer {
 public:
  // `parameters` are changed in place by step(); float32.
  Optimizer(std::vector<at::Tensor> parameters, const OptimizerOptions& options);

  // One step; `gradients` in the order of the parameters, which it may overwrite. Returns their
  // norm before clipping. Throws kRefused when that is not finite, and changes nothing then.
  double step(std::vector<at::Tensor> gradients);

 private:
  OptimizerOptions options_;
  std::vector<at::Tensor> parameters_, first_, second_, steps_;
};

}  // namespace accrete
