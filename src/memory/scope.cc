#include "memory/scope.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace accrete {

at::Tensor Scope::states(const at::Tensor& h) const {
  return at::mm(h.to(at::kCPU, at::kFloat) - mean, projection);
}

Scope fit_scope(const at::Tensor& h, int64_t width) {
  const at::NoGradGuard no_grad;
  constexpr double kShare = 0.55;
  constexpr int64_t kSample = 512;  // rows whose distances to as many others are looked at
  Scope scope;
  const auto x = h.to(at::kCPU, at::kFloat);
  scope.mean = x.mean(0);
  const auto centred = x - scope.mean;
  const auto covariance = at::mm(centred.t(), centred) / static_cast<double>(x.size(0) - 1);
  // Ascending: the last ones are the first components.
  const auto [variance, vectors] = at::linalg_eigh(covariance.to(at::kDouble));
  const int64_t w = std::min(width, x.size(1)), from = x.size(1) - w;
  const auto scale = variance.narrow(0, from, w).clamp_min(1e-12).pow(-0.25);
  scope.projection = (vectors.narrow(1, from, w) * scale).flip(1).to(at::kFloat).contiguous();
  const auto z = scope.states(x);
  const int64_t step = std::max<int64_t>(1, z.size(0) / (2 * kSample));
  const auto rows = at::arange(0, z.size(0), step, at::kLong);
  const auto even = at::arange(0, rows.size(0) / 2 * 2, 2, at::kLong);
  const auto a = z.index_select(0, rows.index_select(0, even));
  const auto b = z.index_select(0, rows.index_select(0, even + 1));
  scope.radius = kShare * at::cdist(a, b).median().item<double>();
  return scope;
}

}  // namespace accrete
