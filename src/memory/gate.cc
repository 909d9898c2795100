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

at::Tensor Gate::shut(const at::Tensor& q) const {
  if (!shut_at.defined()) return at::zeros({q.size(0)}, at::kBool);
  return nearest_distance(q, shut_at.unsqueeze(0)) < shut_radius;
}

at::Tensor Gate::operator()(const at::Tensor& q, const at::Tensor& anchors) const {
  if (!anchors.defined() || anchors.size(0) == 0) return at::zeros({q.size(0)}, at::kFloat);
  const auto g = ((radius - nearest_distance(q, anchors)) / softness).clamp(0, 1);
  return shut_at.defined() ? g.masked_fill(shut(q), 0) : g;
}

void shut_around(Gate& gate, const at::Tensor& first) {
  const auto centre = first.mean(0);
  // The median, since a few tokens are unlike the others; all but half a percent lie within 2.5 of
  // it (measured on SmolLM2). It must be well inside the reach of an anchor.
  const double reach = 2.5 * nearest_distance(first, centre.unsqueeze(0)).median().item<double>();
  if (reach >= 0.5 * gate.radius) return;
  gate.shut_at = centre;
  gate.shut_radius = reach;
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
