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

// The state of a text's first token is an outlier, nearly the same whatever the token. An anchor
// near it would open the gate at the first token of everything; so within `shut_radius` of
// `shut_at` the gate is shut, whatever the anchors.
struct Gate {
  double radius = 6;
  double softness = 2;
  at::Tensor shut_at;  // [w] float32; undefined: nowhere
  double shut_radius = 0;

  // q [T, w]; returns [T] bool: the gate is shut there for good.
  at::Tensor shut(const at::Tensor& q) const;

  // q [T, w], anchors [M, w], float32; returns [T] float32 in [0, 1]. All 0 for no anchors.
  at::Tensor operator()(const at::Tensor& q, const at::Tensor& anchors) const;
};

// Shuts `gate` around the queries of first tokens, `first` [n, w], unless they lie so far apart
// that they are no outlier: then it is left as it is.
void shut_around(Gate& gate, const at::Tensor& first);

// The smallest distance of each row of q [T, w] to a row of anchors [M, w], [T] float32; M >= 1.
at::Tensor nearest_distance(const at::Tensor& q, const at::Tensor& anchors);

// Rows of `q` that are farther than `spacing` from every row kept before them: what is needed to
// cover them all.
at::Tensor thin_anchors(const at::Tensor& q, double spacing);

}  // namespace accrete
