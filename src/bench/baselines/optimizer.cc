#include "bench/baselines/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "base/error.h"

namespace accrete {

Optimizer::Optimizer(std::vector<at::Tensor> parameters, const OptimizerOptions& options)
    : options_(options), parameters_(std::move(parameters)) {
  if (!(options.rate > 0))
    throw Error(ErrorCode::kInvalidArgument, "the rate of an optimiser must be above 0");
  const bool adam = options.kind == OptimizerOptions::Kind::kAdamW;
  for (const auto& p : parameters_) {
    const auto zeros = [&] { return at::zeros(p.sizes(), p.options().requires_grad(false)); };
    if (adam || options.momentum > 0) first_.push_back(zeros());
    if (!adam) continue;
    second_.push_back(zeros());
    steps_.push_back(at::zeros({}, p.options().dtype(at::kFloat).requires_grad(false)));
  }
}

double Optimizer::step(std::vector<at::Tensor> gradients) {
  const at::NoGradGuard no_grad;
  const double norm = at::stack(at::_foreach_norm(gradients)).norm().item<double>();
  if (!std::isfinite(norm))
    throw Error(ErrorCode::kRefused, "the gradient is no longer finite", "lower the rate");
  if (options_.clip > 0 && norm > options_.clip)
    at::_foreach_mul_(gradients, options_.clip / (norm + 1e-6));
  if (options_.kind == OptimizerOptions::Kind::kAdamW) {
    at::_foreach_add_(steps_, 1);
    at::_fused_adamw_(parameters_, gradients, first_, second_, {}, steps_, options_.rate,
                      options_.beta1, options_.beta2, options_.weight_decay, options_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
    return norm;
  }
  if (options_.weight_decay > 0) at::_foreach_add_(gradients, parameters_, options_.weight_decay);
  if (options_.momentum > 0) {
    at::_foreach_mul_(first_, options_.momentum);
    at::_foreach_add_(first_, gradients);
    at::_foreach_add_(parameters_, first_, -options_.rate);
  } else {
    at::_foreach_add_(parameters_, gradients, -options_.rate);
  }
  return norm;
}

}  // namespace accrete
