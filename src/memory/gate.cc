#include "memory/gate.h"

#include <ATen/ATen.h>

#include <vector>

namespace accrete {

at::Tensor nearest_distance(const at::Tensor& q, const at::Tensor& anchors) {
  const at::NoGradGuard no_grad;
  // |q - a|^2 = |q|^2 - 2 q.a + |a|^2; the smallest over a needs only the last two terms.
  const auto cross = at::addmm(anchors.square().sum(1).unsqueeze(0), q, anchors.t(), 1, -2);
  return (cross.amin(1) + q.square().sum(1)).clamp_min(0).sqrt();
}

at::Tensor Gate::operator()(const at::Tensor& q, const at::Tensor& anchors) const {
  if (!anchors.defined() || anchors.size(0) == 0) return at::zeros({q.size(0)}, at::kFloat);
  return ((radius - nearest_distance(q, anchors)) / softness).clamp(0, 1);
}

at::Tensor thin_anchors(const at::Tensor& q, double spacing) {
  std::vector<int64_t> kept;
  at::Tensor anchors;
  for (int64_t i = 0; i < q.size(0); ++i) {
    const auto row = q.narrow(0, i, 1);
    if (anchors.defined() && nearest_distance(row, anchors).item<float>() <= spacing) continue;
    kept.push_back(i);
    anchors = q.index_select(0, at::tensor(kept, at::kLong));
  }
  return anchors.defined() ? anchors : q;
}

}  // namespace accrete
