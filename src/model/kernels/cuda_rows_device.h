// A transformer's work on rows between its matrix products, as CUDA device code: the operators of
// rows.h that training needs. Launched by cuda_rows.cu; the tests run it on the CPU
// (tests/memory/cuda_on_cpu.h).
//
// Sums are made in an order that depends on the shapes alone: a run repeats bit for bit.
//
// Non-goals: launching, attention (libtorch's), matrix products, argument checks.
#pragma once

#include "memory/kernels/cuda_device.h"

namespace accrete::kernels::cuda {

// rms_norm_rows of rows.h for one row, by a warp.
template <class T>
__device__ void rms_norm_warp(const float* x, const float* weight, int d, float eps, T* out,
                              float* inverse) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float squares = 0;
  for (int i = lane; i < d; i += kWarp) squares = fmaf(x[i], x[i], squares);
  const float scale = 1.0f / sqrtf(sum_of_warp(squares) / static_cast<float>(d) + eps);
  for (int i = lane; i < d; i += kWarp) from_float(x[i] * scale * weight[i], &out[i]);
  if (lane == 0) *inverse = scale;
}

// Its gradient with respect to x, by a warp: dx is written.
template <class T>
__device__ void rms_norm_backward_warp(const float* x, const float* weight, float inverse,
                                       const T* gradient, int d, float* dx) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float dot = 0;
  for (int i = lane; i < d; i += kWarp) dot = fmaf(to_float(gradient[i]) * weight[i], x[i], dot);
  const float share = sum_of_warp(dot) * inverse * inverse * inverse / static_cast<float>(d);
  for (int i = lane; i < d; i += kWarp)
    dx[i] = to_float(gradient[i]) * weight[i] * inverse - share * x[i];
}

// silu(gate) * up of one element.
__device__ inline float swiglu_one(float gate, float up) {
  return gate / (1.0f + expf(-gate)) * up;
}
__device__ inline void swiglu_backward_one(float gate, float up, float gradient, float* dgate,
                                           float* dup) {
  const float share = 1.0f / (1.0f + expf(-gate));
  *dgate = gradient * up * share * (1.0f + gate * (1.0f - share));
  *dup = gradient * gate * share;
}

// One pair (i, i + half) of a head, i = `pair` in [0, half): out = x turned by the position's
// angle; direction -1 takes a rotation back. out may be x.
template <class T>
__device__ void rotate_pair(const T* x, float cos, float sin, float direction, int half, int pair,
                            T* out) {
  const float a = to_float(x[pair]), b = to_float(x[pair + half]), s = direction * sin;
  from_float(a * cos - b * s, &out[pair]);
  from_float(b * cos + a * s, &out[pair + half]);
}

// cross_entropy of rows.h: a block a row. `shared` [2 * warps].
template <class T>
__device__ void cross_entropy_block(T* logits, int n, int64_t label, float share, float* loss,
                                    float* shared) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int lane = thread % kWarp, warp = thread / kWarp, warps = threads / kWarp;
  float top = -INFINITY;
  for (int i = thread; i < n; i += threads) top = fmaxf(top, to_float(logits[i]));
  for (int step = kWarp / 2; step > 0; step /= 2)
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, step));
  if (lane == 0) shared[warp] = top;
  __syncthreads();
  for (int w = 0; w < warps; ++w) top = fmaxf(top, shared[w]);
  float sum = 0;
  for (int i = thread; i < n; i += threads) sum += expf(to_float(logits[i]) - top);
  sum = sum_of_warp(sum);
  if (lane == 0) shared[warps + warp] = sum;
  const float at_label = to_float(logits[label]);
  __syncthreads();  // before anything is written over
  sum = 0;
  for (int w = 0; w < warps; ++w) sum += shared[warps + w];
  const float scale = share / sum;
  for (int i = thread; i < n; i += threads) {
    const float p = expf(to_float(logits[i]) - top) * scale;
    from_float(i == label ? p - share : p, &logits[i]);
  }
  if (thread == 0) *loss = logf(sum) + top - at_label;
}

// Adam for one row that was read: values, moments [d] and the row's own count of steps change. A
// block a row.
struct RowAdamOptions {
  double rate, beta1, beta2;
  float epsilon, scale;
};
__device__ inline void row_adam_block(const float* gradient, int d, const RowAdamOptions& o,
                                      int steps, float* values, float* first, float* second) {
  const auto size = static_cast<float>(o.rate / (1 - pow(o.beta1, static_cast<double>(steps))));
  const auto root = static_cast<float>(1 / sqrt(1 - pow(o.beta2, static_cast<double>(steps))));
  const auto b1 = static_cast<float>(o.beta1), b2 = static_cast<float>(o.beta2);
  for (int i = static_cast<int>(threadIdx.x); i < d; i += static_cast<int>(blockDim.x)) {
    const float g = o.scale * gradient[i];
    first[i] = b1 * first[i] + (1 - b1) * g;
    second[i] = b2 * second[i] + (1 - b2) * g * g;
    values[i] -= size * first[i] / (sqrtf(second[i]) * root + o.epsilon);
  }
}

}  // namespace accrete::kernels::cuda
