// The differentiable pieces of the training network (network.h): each one pass over memory where
// tensor operations would take several, with a backward pass of its own. float32 on the CPU; on
// CUDA devices swiglu and rotate_split take bfloat16 as well.
//
// Non-goals: second derivatives.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace accrete::pretraining {

// x [T, in] times w^T, w [out, in]. Where `half` is defined (w in bfloat16), the products of both
// passes take bfloat16 and give float32, with `half_out` bfloat16; x may be bfloat16 then, and has
// a gradient of its type.
at::Tensor multiply(const at::Tensor& x, const at::Tensor& w, const at::Tensor& half,
                    bool half_out = false);

// x [T, d]: x / sqrt(mean(x^2) + eps) * weight. `half`, on CUDA devices: to bfloat16.
at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool half = false);

// gate_up [T, 2 f], gate before up: silu(gate) * up, [T, f].
at::Tensor swiglu(const at::Tensor& gate_up);

// Heads of queries, keys and values side by side, [B T, (heads + 2 kv_heads) head_dim], to three
// tensors, queries and keys rotated by their positions. cos, sin [T, head_dim / 2].
struct Attended {
  at::Tensor q, k, v;  // [B T, heads head_dim], [B T, kv_heads head_dim] twice
};
Attended rotate_split(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                      int64_t heads, int64_t kv_heads);

}  // namespace accrete::pretraining
