#include <cuda_runtime.h>

#include "model/kernels/cuda_rows.h"
#include "model/kernels/cuda_rows_device.h"

namespace accrete::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

template <class T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(const float* __restrict__ x, const float* __restrict__ weight, int64_t rows,
                    int d, float eps, T* __restrict__ out, float* __restrict__ inverse) {
  const int64_t r = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (r < rows) rms_norm_warp(x + r * d, weight, d, eps, out + r * d, inverse + r);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_backward_kernel(const float* __restrict__ x, const float* __restrict__ weight,
                             const float* __restrict__ inverse, const T* __restrict__ gradient,
                             int64_t rows, int d, float* __restrict__ dx) {
  const int64_t r = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (r < rows)
    rms_norm_backward_warp(x + r * d, weight, inverse[r], gradient + r * d, d, dx + r * d);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    swiglu_kernel(const T* __restrict__ gate_up, int64_t count, int f, T* __restrict__ out) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const T* row = gate_up + i / f * 2 * f;
  from_float(swiglu_one(to_float(row[i % f]), to_float(row[f + i % f])), &out[i]);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    swiglu_backward_kernel(const T* __restrict__ gate_up, const T* __restrict__ gradient,
                           int64_t count, int f, T* __restrict__ out) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t at = i / f * 2 * f + i % f;
  float gate, up;
  swiglu_backward_one(to_float(gate_up[at]), to_float(gate_up[at + f]), to_float(gradient[i]),
                      &gate, &up);
  from_float(gate, &out[at]);
  from_float(up, &out[at + f]);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    rotate_kernel(const T* x, int64_t x_stride, int64_t count, int heads, int half,
                  const float* __restrict__ cos, const float* __restrict__ sin, int64_t positions,
                  float direction, T* out, int64_t out_stride) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int pair = static_cast<int>(i % half);
  const int64_t head = i / half % heads, r = i / half / heads;
  const int64_t angle = r % positions * half + pair;
  rotate_pair(x + r * x_stride + head * 2 * half, cos[angle], sin[angle], direction, half, pair,
              out + r * out_stride + head * 2 * half);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(T* logits, int n, const int64_t* __restrict__ labels, float share,
                         float* __restrict__ losses) {
  __shared__ float shared[2 * kWarps];
  const int64_t r = blockIdx.x;
  cross_entropy_block(logits + r * n, n, labels[r], share, losses + r, shared);
}

__global__ void __launch_bounds__(kThreads)
    row_adam_kernel(const float* __restrict__ gradients, const int64_t* __restrict__ slots, int d,
                    RowAdamOptions options, float* values, float* first, float* second,
                    int32_t* steps) {
  const int64_t slot = slots[blockIdx.x];
  const int taken = steps[slot] + 1;
  __syncthreads();  // every thread has read the count before one changes it
  if (threadIdx.x == 0) steps[slot] = taken;
  row_adam_block(gradients + int64_t{blockIdx.x} * d, d, options, taken, values + slot * d,
                 first + slot * d, second + slot * d);
}

cudaStream_t on(Stream stream) {
  return static_cast<cudaStream_t>(stream);
}
unsigned blocks(int64_t count, int64_t of) {
  return static_cast<unsigned>((count + of - 1) / of);
}
int result() {
  return static_cast<int>(cudaGetLastError());
}

// f(T{}), T being what `type` names.
template <class F>
int with_type(Type type, F f) {
  if (type == Type::kFloat)
    f(float{});
  else
    f(Bfloat16{});
  return result();
}

}  // namespace

int rms_norm_rows(Type type, const float* x, const float* weight, int64_t rows, int64_t d,
                  float eps, void* out, float* inverse, Stream stream) {
  if (rows == 0) return 0;
  return with_type(type, [&](auto of) {
    rms_norm_kernel<<<blocks(rows, kWarps), kThreads, 0, on(stream)>>>(
        x, weight, rows, static_cast<int>(d), eps, static_cast<decltype(of)*>(out), inverse);
  });
}

int rms_norm_rows_backward(Type type, const float* x, const float* weight, const float* inverse,
                           const void* gradient, int64_t rows, int64_t d, float* dx,
                           Stream stream) {
  if (rows == 0) return 0;
  return with_type(type, [&](auto of) {
    rms_norm_backward_kernel<<<blocks(rows, kWarps), kThreads, 0, on(stream)>>>(
        x, weight, inverse, static_cast<const decltype(of)*>(gradient), rows, static_cast<int>(d),
        dx);
  });
}

int swiglu_rows(Type type, const void* gate_up, int64_t rows, int64_t f, void* out, Stream stream) {
  if (rows * f == 0) return 0;
  return with_type(type, [&](auto of) {
    using T = decltype(of);
    swiglu_kernel<<<blocks(rows * f, kThreads), kThreads, 0, on(stream)>>>(
        static_cast<const T*>(gate_up), rows * f, static_cast<int>(f), static_cast<T*>(out));
  });
}

int swiglu_rows_backward(Type type, const void* gate_up, const void* gradient, int64_t rows,
                         int64_t f, void* out, Stream stream) {
  if (rows * f == 0) return 0;
  return with_type(type, [&](auto of) {
    using T = decltype(of);
    swiglu_backward_kernel<<<blocks(rows * f, kThreads), kThreads, 0, on(stream)>>>(
        static_cast<const T*>(gate_up), static_cast<const T*>(gradient), rows * f,
        static_cast<int>(f), static_cast<T*>(out));
  });
}

int rotate_rows(Type type, const void* x, int64_t x_stride, int64_t rows, int64_t heads,
                int64_t head_dim, const float* cos, const float* sin, int64_t positions,
                float direction, void* out, int64_t out_stride, Stream stream) {
  const int64_t count = rows * heads * (head_dim / 2);
  if (count == 0) return 0;
  return with_type(type, [&](auto of) {
    using T = decltype(of);
    rotate_kernel<<<blocks(count, kThreads), kThreads, 0, on(stream)>>>(
        static_cast<const T*>(x), x_stride, count, static_cast<int>(heads),
        static_cast<int>(head_dim / 2), cos, sin, positions, direction, static_cast<T*>(out),
        out_stride);
  });
}

int cross_entropy_rows(Type type, void* logits, int64_t rows, int64_t n, const int64_t* labels,
                       float share, float* losses, Stream stream) {
  if (rows == 0) return 0;
  return with_type(type, [&](auto of) {
    cross_entropy_kernel<<<static_cast<unsigned>(rows), kThreads, 0, on(stream)>>>(
        static_cast<decltype(of)*>(logits), static_cast<int>(n), labels, share, losses);
  });
}

int row_adam(const float* gradients, const int64_t* slots, int64_t count, int64_t d, double rate,
             double beta1, double beta2, float epsilon, float scale, float* values, float* first,
             float* second, int32_t* steps, Stream stream) {
  if (count == 0) return 0;
  row_adam_kernel<<<static_cast<unsigned>(count), kThreads, 0, on(stream)>>>(
      gradients, slots, static_cast<int>(d), {rate, beta1, beta2, epsilon, scale}, values, first,
      second, steps);
  return result();
}

}  // namespace accrete::kernels::cuda
