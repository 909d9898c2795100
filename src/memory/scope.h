// The scope of an update: which prompts it answers.
//
// What is written at a subject is said by that subject whatever is asked about it: a new employer
// of X also answers where X was born. An update with a scope keeps the states in which each of its
// answers was predicted, and is *in scope* at a token whose own state lies within `radius` of one
// of those. A state is the base's last one, after the final norm: the output of the network without
// any scoped update, so no update ever moves it. Projected on its 128 first principal components
// over the background and half whitened (each component divided by the fourth root of its
// variance), it tells a question in another wording from another question (docs/algorithm.md). Kin:
// the scope classifier of SERAC (Mitchell et al. 2022).
//
// Non-goals: where a subject is (gate.h), what is heard there (model/answer_pass.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace accrete {

struct Scope {
  at::Tensor mean;        // [d] float32; undefined: the model has none
  at::Tensor projection;  // [d, w] float32
  double radius = 0;

  bool defined() const { return mean.defined(); }
  int64_t width() const { return projection.size(1); }
  // h [n, d], last states after the final norm; returns [n, w] float32.
  at::Tensor states(const at::Tensor& h) const;
};

// From last states of the background, h [n, d] with n >= 2: at most `width` components. The radius
// is 0.55 of the median distance between two of them, by development facts (docs/algorithm.md).
Scope fit_scope(const at::Tensor& h, int64_t width = 128);

}  // namespace accrete
