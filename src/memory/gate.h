// The gate: an update speaks where its subject is, and is silent elsewhere.
//
// Each gated update brings anchors, the queries of the tokens it was written at. A token's gate is
//   g(q) = clamp((radius - min_j |q - anchor_j|) / softness, 0, 1)
// in the whitened query space, where a subject lies at 3.1 (median) from the nearest of its anchors
// in wordings that begin otherwise, and about 11 from the nearest other subject
// (docs/algorithm.md). Kin: the deferral radius of GRACE (Hartvigsen et al. 2023).
//
// Each update is a *part* with anchors of its own, and several may be open at one token: at a
// subject that two updates are about, both. Where one part's anchors are much nearer than another's
// the other is silent, or names that look alike would answer for each other:
//   g_p(q) = g(q; anchors of p) clamp((d + radius / 2 - d_p) / (softness / 2), 0, 1)
// with d_p the distance to the nearest anchor of p and d the smallest of all.
//
// Non-goals: fitting radii per anchor.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace accrete {

// The parts that speak at each of T tokens, and how loud; P is the most at one token.
struct Gates {
  at::Tensor part;    // [T, P] int64, ascending from the left; then -1: none
  at::Tensor weight;  // [T, P] float32 in [0, 1]; 0 where there is none

  // T tokens at which nothing speaks.
  static Gates none(int64_t T);
  bool defined() const { return part.defined(); }
  Gates narrow(int64_t begin, int64_t n) const;  // tokens begin .. begin + n
};
// Of the tokens of all, one after the other; undefined when there are none.
Gates concat(std::span<const Gates> parts);

// The state of a text's first token is an outlier, nearly the same whatever the token; an anchor
// near it would open the gate at the first token of everything. But it depends on that token alone,
// so the same token is at distance 0. Within `first_radius` of `first_at`, therefore, distances
// count 1 / (kFirstReach first_radius) times the radius: there an anchor stands for its own token
// only. What is inside and what is outside do not hear each other.
struct Gate {
  double radius = 6;
  double softness = 2;
  at::Tensor first_at;  // [w] float32, where first tokens lie; undefined: nowhere
  double first_radius = 0;
  // SmolLM2: first tokens lie 1.0 from first_at (median) and 0.64 from the nearest other token, 1 %
  // of them nearer than 0.34; with first_radius 1.94 the gate is shut from 0.29 on.
  static constexpr double kFirstReach = 0.15;

  // q [T, w]; returns [T] bool: they are states of first tokens.
  at::Tensor first(const at::Tensor& q) const;
  // The distance of each q [T, w] to the nearest of `anchors` [M, w], [T] float32, as the gate
  // counts it; infinite where there is none to hear.
  at::Tensor distance(const at::Tensor& q, const at::Tensor& anchors) const;

  // q [T, w], anchors [M, w], float32; returns [T] float32 in [0, 1]. All 0 for no anchors.
  at::Tensor operator()(const at::Tensor& q, const at::Tensor& anchors) const;

  // The same with `part` [M] int64, ascending: the part that each anchor is of. `squares` [M] are
  // the anchors' squared lengths, for who asks again and again; undefined: they are computed.
  Gates by_part(const at::Tensor& q, const at::Tensor& anchors, const at::Tensor& part,
                const at::Tensor& squares = {}) const;
  // The same for tokens that are near these anchors.
  struct Near {
    int64_t anchor;
    double distance;  // as the gate counts it
  };
  Gates by_part(std::span<const std::vector<Near>> around, const at::Tensor& part) const;
  // What distances inside count more than outside.
  double stretch() const { return radius / (kFirstReach * first_radius); }
  // The anchors that each of q [T, w] is within the radius of, ascending. `squares` as for by_part.
  // Where q is on a device the distances are taken there, and only what is near comes back.
  std::vector<std::vector<Near>> near(const at::Tensor& q, const at::Tensor& anchors,
                                      const at::Tensor& squares = {}) const;
  // How near an anchor of another part must be for that part to be heard at an anchor.
  double heard_within() const { return radius / 2; }

 private:
  std::vector<std::vector<Near>> near_on_device(const at::Tensor& q, const at::Tensor& anchors,
                                                const at::Tensor& squares) const;
};

// Tells `gate` where the queries of first tokens, `first` [n, w], lie, unless they are so far apart
// that they are no outlier: then it is left as it is.
void find_first(Gate& gate, const at::Tensor& first);

// The smallest distance of each row of q [T, w] to a row of anchors [M, w], [T] float32; M >= 1.
at::Tensor nearest_distance(const at::Tensor& q, const at::Tensor& anchors);

// Rows of `q` that are farther than `spacing`, as `gate` counts, from every row kept before them:
// what is needed to cover them all.
at::Tensor thin_anchors(const Gate& gate, const at::Tensor& q, double spacing);

}  // namespace accrete
