// A transformer's work on rows between its matrix products, on the CPU: vectorised with Highway,
// the instruction set chosen at run time.
//
// Plain pointers, one thread, float32: callers split the work and check the arguments. Each of
// these would be 3 to 12 tensor operations, with as many passes over memory.
//
// Non-goals: matrix products, tensors, threads, other types.
#pragma once

#include <cstdint>

namespace accrete::kernels {

// out[r] = x[r] * inverse[r] * weight with inverse[r] = 1 / sqrt(mean(x[r]^2) + eps), rows of `d`.
// `inverse` may be null.
void rms_norm_rows(const float* x, const float* weight, int64_t rows, int64_t d, float eps,
                   float* out, float* inverse);
// Adds to dx the gradient of the above with respect to x, given that of its output.
void rms_norm_rows_backward(const float* x, const float* weight, const float* inverse,
                            const float* gradient, int64_t rows, int64_t d, float* dx);

// out = gate / (1 + exp(-gate)) * up, for n elements; out may be `gate` or `up`.
void swiglu(const float* gate, const float* up, int64_t n, float* out);
// gate and up become the gradients with respect to them, given that of the output.
void swiglu_backward(const float* gradient, int64_t n, float* gate, float* up);

// Rotates the pairs (x_i, x_{i + D/2}) of each of `heads` heads of one row, in place; cos, sin
// [D/2]. `direction` -1 takes a rotation back (its gradient).
void rotate_row(float* x, int64_t heads, int64_t head_dim, const float* cos, const float* sin,
                float direction);

// Keys and values of consecutive tokens for one key/value head: row j at k + j * stride.
struct KeySegment {
  const float* k = nullptr;
  const float* v = nullptr;
  int64_t tokens = 0;
  int64_t stride = 0;
};

// Attention of `tokens` new tokens of one sequence, for the `group` query heads of one key/value
// head. The keys are those of all segments in order, S in all; new token t sees the first
// S - tokens + t + 1. Query head g of token t is at q + t * q_stride + g * head_dim, its output at
// the same place of `out`. keep [S] or null: false is a key that nobody sees. probabilities
// [tokens, group, S] is written, with 0 for what is not seen.
struct AttentionShape {
  int64_t tokens = 0;
  int64_t group = 1;
  int64_t head_dim = 0;
  int64_t segments = 0;
  int64_t q_stride = 0;
  int64_t out_stride = 0;
};
void attend(const AttentionShape& shape, const float* q, const KeySegment* segments,
            const bool* keep, float* probabilities, float* out);
// Given the gradient of `out`: dq (strides as q) is written; dk and dv (rows of `own_stride`) of
// the last segment, which holds the new tokens' own keys, are written. Keys of the past have no
// gradient.
void attend_backward(const AttentionShape& shape, const float* q, const KeySegment* segments,
                     const float* probabilities, const float* gradient, int64_t own_stride,
                     float* dq, float* dk, float* dv);

// logits [n] of one row become share * (softmax - one at `label`), the gradient of share times the
// result: -log softmax at `label`.
float cross_entropy(float* logits, int64_t n, int64_t label, float share);

}  // namespace accrete::kernels
