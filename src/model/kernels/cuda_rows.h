// A transformer's work on rows between its matrix products, on CUDA devices: what training needs
// of rows.h, over device pointers.
//
// A call puts its work on a stream and returns; it neither waits nor allocates. Every call returns
// a cudaError_t as int: 0 is success. Shapes and meaning are those of rows.h.
//
// Non-goals: tensors, argument checks, memory.
#pragma once

#include <cstdint>

#include "memory/kernels/cuda.h"

namespace accrete::kernels::cuda {

// x float32, out of `type`.
int rms_norm_rows(Type type, const float* x, const float* weight, int64_t rows, int64_t d,
                  float eps, void* out, float* inverse, Stream stream);
// gradient of `type`; dx [rows, d] float32 is written, not added to.
int rms_norm_rows_backward(Type type, const float* x, const float* weight, const float* inverse,
                           const void* gradient, int64_t rows, int64_t d, float* dx, Stream stream);

// gate_up [rows, 2 f], gate before up, to out [rows, f]; and the gradient of gate_up. All of
// `type`.
int swiglu_rows(Type type, const void* gate_up, int64_t rows, int64_t f, void* out, Stream stream);
int swiglu_rows_backward(Type type, const void* gate_up, const void* gradient, int64_t rows,
                         int64_t f, void* out, Stream stream);

// Rows of `heads` heads at x + r * x_stride to out + r * out_stride, rotated as row r % positions
// of cos, sin [positions, head_dim / 2] says; x, of `type`, may be out.
int rotate_rows(Type type, const void* x, int64_t x_stride, int64_t rows, int64_t heads,
                int64_t head_dim, const float* cos, const float* sin, int64_t positions,
                float direction, void* out, int64_t out_stride, Stream stream);

// logits [rows, n] become the gradient of share times the summed loss; losses [rows].
int cross_entropy_rows(Type type, void* logits, int64_t rows, int64_t n, const int64_t* labels,
                       float share, float* losses, Stream stream);

// Adam for the rows `slots` [count] of values, first, second [N, d]; steps [N] counts each row's
// own. gradients [count, d] are scaled first.
int row_adam(const float* gradients, const int64_t* slots, int64_t count, int64_t d, double rate,
             double beta1, double beta2, float epsilon, float scale, float* values, float* first,
             float* second, int32_t* steps, Stream stream);

}  // namespace accrete::kernels::cuda
