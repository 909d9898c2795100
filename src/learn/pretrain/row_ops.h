// The training network's work on rows, on the CPU or a CUDA device, without autograd: what
// functions.h and the optimiser are made of.
//
// float32, contiguous; on a CUDA device, which needs a build with CUDA, what lies between matrix
// products may be bfloat16.
//
// Non-goals: autograd (functions.h), argument checks.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace accrete::pretraining {

// a b in float32, whatever they are of: on a CUDA device sums are never rounded to bfloat16.
at::Tensor product(const at::Tensor& a, const at::Tensor& b);

struct Normed {
  at::Tensor out, inverse;  // [T, d], [T]
};
// x float32; `half`: out in bfloat16. The gradient is of the type of out, dx float32.
Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool half);
at::Tensor rms_norm_backward(const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& inverse, const at::Tensor& gradient);

// gate_up [T, 2 f] to [T, f], and back.
at::Tensor swiglu_rows(const at::Tensor& gate_up);
at::Tensor swiglu_rows_backward(const at::Tensor& gate_up, const at::Tensor& gradient);

// The heads of every row of x [T, heads head_dim] rotated, to `out`: row r by the angles of r %
// positions; cos, sin [positions, head_dim / 2]; direction -1 takes it back. Both may be columns of
// a wider tensor.
void rotate_rows(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, float direction,
                 const at::Tensor& out);

// logits [T, V] float32 (on CUDA bfloat16 as well) become the gradient of `share` times the summed
// loss; returns the losses, [T] float32. labels [T] int64.
at::Tensor cross_entropy_rows(const at::Tensor& logits, const at::Tensor& labels, float share);

// One step of Adam for the rows `slots` [R] int64 of values, first, second [N, d]; steps [N] int32
// counts each row's own. gradients [R, d] are scaled first.
struct RowAdamStep {
  double rate = 0, beta1 = 0, beta2 = 0, epsilon = 0, scale = 1;
};
void row_adam(const at::Tensor& gradients, const at::Tensor& slots, const RowAdamStep& step,
              const at::Tensor& values, const at::Tensor& first, const at::Tensor& second,
              const at::Tensor& steps);

}  // namespace accrete::pretraining
