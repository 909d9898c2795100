#include "learn/pretrain/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "learn/pretrain/row_ops.h"
#include "memory/sparse_rows.h"

namespace accrete {

DenseAdamW::DenseAdamW(const std::vector<TrainingNetwork::Parameter>& parameters,
                       double weight_decay, const AdamOptions& options)
    : options_(options), weight_decay_(weight_decay), parameters_(parameters) {
  for (const auto& p : parameters) {
    const auto like = p.value.options().requires_grad(false);
    first_.push_back(at::zeros(p.value.sizes(), like));
    second_.push_back(at::zeros(p.value.sizes(), like));
    steps_.push_back(at::zeros({}, like));
  }
}

void DenseAdamW::set_steps(int64_t steps) {
  for (auto& s : steps_) s.fill_(static_cast<double>(steps));
}

double DenseAdamW::gradient_norm() const {
  std::vector<at::Tensor> gradients;
  for (const auto& p : parameters_) gradients.push_back(p.value.grad());
  return at::stack(at::_foreach_norm(gradients)).norm().item<double>();
}

void DenseAdamW::step(double rate, double address_rate, double scale) {
  const at::NoGradGuard no_grad;
  at::_foreach_add_(steps_, 1);
  for (const auto& [decays, addresses] :
       {std::pair{false, false}, {true, false}, {false, true}, {true, true}}) {
    std::vector<at::Tensor> values, gradients, first, second, steps;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      if (parameters_[i].decays != decays || parameters_[i].addresses != addresses) continue;
      values.push_back(parameters_[i].value);
      gradients.push_back(parameters_[i].value.grad());
      first.push_back(first_[i]);
      second.push_back(second_[i]);
      steps.push_back(steps_[i]);
    }
    if (values.empty()) continue;
    if (scale != 1) at::_foreach_mul_(gradients, scale);
    at::_fused_adamw_(values, gradients, first, second, {}, steps, addresses ? address_rate : rate,
                      options_.beta1, options_.beta2, decays ? weight_decay_ : 0.0,
                      options_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
}

RowGradient row_gradient(const TrainingNetwork::Reads& reads, int64_t size) {
  const auto slots = at::cat(reads.slots);
  const auto read = at::zeros({size}, slots.options().dtype(at::kInt))
                        .index_fill_(0, slots.reshape({-1}).to(at::kLong), 1);
  const auto row_of = at::cumsum(read, 0, at::kInt) - 1;  // of the slots that were read
  RowGradient out;
  out.slots = at::nonzero(read).squeeze(1);
  const auto rows = row_of.index_select(0, slots.reshape({-1})).view(slots.sizes());
  out.rows =
      scatter_rows(at::cat(reads.gradients), rows, at::cat(reads.weights), out.slots.size(0));
  return out;
}

RowAdam::RowAdam(at::Tensor values, const AdamOptions& options)
    : options_(options), values_(std::move(values)) {
  first_ = at::zeros_like(values_);
  second_ = at::zeros_like(values_);
  steps_ = at::zeros({values_.size(0)}, values_.options().dtype(at::kInt));
}

void RowAdam::step(const RowGradient& gradient, double rate, double scale) {
  pretraining::row_adam(gradient.rows, gradient.slots,
                        {rate, options_.beta1, options_.beta2, options_.epsilon, scale}, values_,
                        first_, second_, steps_);
}

}  // namespace accrete
