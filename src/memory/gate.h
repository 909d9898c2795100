// The gate: an update speaks where its subject is, and is silent elsewhere.
//
// Each gated update brings anchors, the queries of the tokens it was written at. A token's gate is
//   g(q) = clamp((radius - min_j |q - anchor_j|) / softness, 0, 1)
// in the whitened query space, where a subject lies about 0.5 from itself in other wordings and
// about 12 from the nearest other subject (docs/algorithm.md). Kin: the deferral radius of GRACE
// (Hartvigsen et al. 2023).
//
// Non-goals: fitting radii per anchor.
#pragma once

#include <ATen/core/Tensor.h>

namespace accrete {

struct Gate {
  double radius = 6;
  double softness = 2;

  // q [T, w], anchors [M, w], float32; returns [T] float32 in [0, 1]. All 0 for no anchors.
  at::Tensor operator()(const at::Tensor& q, const at::Tensor& anchors) const;
};

// The smallest distance of each row of q [T, w] to a row of anchors [M, w], [T] float32; M >= 1.
at::Tensor nearest_distance(const at::Tensor& q, const at::Tensor& anchors);

// Rows of `q` that are farther than `spacing` from every row kept before them: what is needed to
// cover them all.
at::Tensor thin_anchors(const at::Tensor& q, double spacing);

}  // namespace accrete
