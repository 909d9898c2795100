// The transformer's operations between matrix products as single passes over memory
// (kernels/rows.h), for inference in float32 on the CPU; `fused_applies` says where. Elsewhere
// tensor operations do.
//
// Non-goals: gradients (packed_pass.h has its own).
#pragma once

#include <ATen/core/Tensor.h>

namespace accrete {

// Float32 on the CPU, and nothing asks for a gradient with respect to x.
bool fused_applies(const at::Tensor& x);

// As rms_norm; x [..., d] of any strides.
at::Tensor fused_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
// silu(gate) * up, written into `gate`; equal shapes, both contiguous.
at::Tensor fused_swiglu(at::Tensor gate, const at::Tensor& up);
// Rotates x [B, heads, T, D] in place; cos, sin [T, D / 2] or [B, 1, T, D / 2], contiguous.
void fused_rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);
// Attention of one new token: q [B, heads, 1, D] over k, v [B, kv_heads, S, D] (parts of a cache);
// key_mask [B, S] bool or undefined. Returns [B, 1, heads * D].
at::Tensor fused_decode_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const at::Tensor& key_mask);

}  // namespace accrete
