#include "learn/pretrain/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "memory/sparse_rows.h"

namespace accrete {

DenseAdamW::DenseAdamW(const std::vector<TrainingNetwork::Parameter>& parameters,
                       double weight_decay, const AdamOptions& options)
    : options_(options), weight_decay_(weight_decay), parameters_(parameters) {
  for (const auto& p : parameters) {
    first_.push_back(at::zeros(p.value.sizes(), at::kFloat));
    second_.push_back(at::zeros(p.value.sizes(), at::kFloat));
    steps_.push_back(at::zeros({}, at::kFloat));
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
  std::vector<int32_t> row_of(static_cast<size_t>(size), -1);
  const int32_t* slot = slots.const_data_ptr<int32_t>();
  for (int64_t i = 0; i < slots.numel(); ++i) row_of[static_cast<size_t>(slot[i])] = 0;
  RowGradient out;
  for (int64_t s = 0; s < size; ++s)
    if (row_of[static_cast<size_t>(s)] == 0) {
      row_of[static_cast<size_t>(s)] = static_cast<int32_t>(out.slots.size());
      out.slots.push_back(s);
    }
  auto rows = at::empty_like(slots);
  int32_t* row = rows.mutable_data_ptr<int32_t>();
  for (int64_t i = 0; i < slots.numel(); ++i) row[i] = row_of[static_cast<size_t>(slot[i])];
  out.rows = scatter_rows(at::cat(reads.gradients), rows, at::cat(reads.weights),
                          static_cast<int64_t>(out.slots.size()));
  return out;
}

RowAdam::RowAdam(at::Tensor values, const AdamOptions& options)
    : options_(options), values_(std::move(values)) {
  first_ = at::zeros(values_.sizes(), at::kFloat);
  second_ = at::zeros(values_.sizes(), at::kFloat);
  steps_ = at::zeros({values_.size(0)}, at::kInt);
}

void RowAdam::step(const RowGradient& gradient, double rate, double scale) {
  const int64_t d = values_.size(1), R = static_cast<int64_t>(gradient.slots.size());
  float *values = values_.mutable_data_ptr<float>(), *first = first_.mutable_data_ptr<float>(),
        *second = second_.mutable_data_ptr<float>();
  int32_t* steps = steps_.mutable_data_ptr<int32_t>();
  const float* gradients = gradient.rows.const_data_ptr<float>();
  const auto b1 = static_cast<float>(options_.beta1), b2 = static_cast<float>(options_.beta2);
  const auto factor = static_cast<float>(scale), epsilon = static_cast<float>(options_.epsilon);
  at::parallel_for(0, R, std::max<int64_t>(1, (1 << 14) / d), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t slot = gradient.slots[static_cast<size_t>(r)];
      const auto t = static_cast<double>(++steps[slot]);
      const auto size = static_cast<float>(rate / (1 - std::pow(options_.beta1, t)));
      const auto root = static_cast<float>(1 / std::sqrt(1 - std::pow(options_.beta2, t)));
      const float* g = gradients + r * d;
      float *v = values + slot * d, *m = first + slot * d, *s = second + slot * d;
      for (int64_t i = 0; i < d; ++i) {
        const float gi = factor * g[i];
        m[i] = b1 * m[i] + (1 - b1) * gi;
        s[i] = b2 * s[i] + (1 - b2) * gi * gi;
        v[i] -= size * m[i] / (std::sqrt(s[i]) * root + epsilon);
      }
    }
  });
}

}  // namespace accrete
