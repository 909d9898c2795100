// The lookup with learned keys, differentiable: what trains them, and what lets a gradient pass.
//
// Which slots a token reads is a constant of the backward pass; through the weights of those slots
// gradients reach scores, queries and keys (Lample et al. 2019). Slots and weights are those of
// ProductKeys (product_keys.h), which serves once the keys are settled.
//
// Non-goals: value rows (sparse_rows.h), optimisation (learn/pretrain).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "memory/accesses.h"

namespace accrete {

// Queries q [T, heads * w], keys [heads, 2, n, w / 2], bias [heads, 2, n] (undefined: none) to
// accesses; the weights are differentiable in all three. float32 on the CPU; anything else takes
// the reference path. Throws kInvalidArgument on shapes that do not fit, and on NaN or infinity.
Accesses learned_lookup(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& bias,
                        int64_t top_k);
// The same in plain tensor operations, of any float type.
Accesses learned_lookup_reference(const at::Tensor& q, const at::Tensor& keys,
                                  const at::Tensor& bias, int64_t top_k);

}  // namespace accrete
