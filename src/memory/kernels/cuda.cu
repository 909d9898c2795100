#include <cuda_runtime.h>

#include <algorithm>

#include "memory/kernels/cuda.h"
#include "memory/kernels/cuda_device.h"

namespace accrete::kernels::cuda {
namespace {

static_assert(kMaxTopK == kListLength);

constexpr int kThreads = 128;  // of a block that sums rows, at most
constexpr int kAhead = 4;      // rows on their way at once; more take registers, and so threads

__global__ void __launch_bounds__(kMaxHeads* kWarp)
    product_top_k_kernel(const float* scores, int64_t tokens, int heads, int n, int k,
                         const bool* keep, int32_t* slots, float* weights, int32_t* bad_tokens) {
  __shared__ HalfLists lists[kMaxHeads];
  __shared__ int bad;
  product_top_k_block(scores, tokens, heads, n, k, keep, slots, weights, bad_tokens, lists, &bad);
}

__global__ void __launch_bounds__(kThreads)
    product_top_k_backward_kernel(const int32_t* __restrict__ slots,
                                  const float* __restrict__ weights,
                                  const float* __restrict__ gradient, int64_t tokens, int heads,
                                  int n, int k, float* __restrict__ out) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= tokens * heads) return;
  const int64_t t = i / heads, h = i % heads, at = i * k;
  float* first = out + (2 * h * tokens + t) * n;
  product_top_k_backward_one(slots + at, weights + at, gradient + at, heads, static_cast<int>(h), n,
                             k, first, first + tokens * n);
}

template <class T, int kVec>
__global__ void __launch_bounds__(kThreads)
    weighted_sums_kernel(const T* __restrict__ table, int64_t d, const int32_t* __restrict__ rows,
                         const float* __restrict__ weights, const int64_t* __restrict__ offsets,
                         int64_t per_token, T* __restrict__ out) {
  __shared__ int32_t kept_rows[kThreads];
  __shared__ float kept_weights[kThreads];
  const int64_t t = blockIdx.x;
  const int64_t begin = offsets != nullptr ? offsets[t] : t * per_token;
  const int64_t end = offsets != nullptr ? offsets[t + 1] : begin + per_token;
  weighted_sum_block<T, kVec, kAhead>(table, d, rows, weights, begin, end, out + t * d, kept_rows,
                                      kept_weights);
}

template <class T, int kVec>
__global__ void __launch_bounds__(kThreads)
    row_dots_kernel(const T* __restrict__ table, int64_t d, const int32_t* __restrict__ rows,
                    const T* __restrict__ grad, int64_t per_token, float* __restrict__ out) {
  row_dots_block<T, kVec>(table, d, rows, grad, per_token, out);
}

template <class T, int kVec>
__global__ void __launch_bounds__(kThreads)
    add_rows_kernel(T* table, int64_t d, const int32_t* __restrict__ rows,
                    const float* __restrict__ delta) {
  add_rows_block<T, kVec>(table, d, rows, delta);
}

// Threads for d columns of kVec each, whole warps; and how many blocks of them a row takes.
struct Columns {
  unsigned threads, blocks;
};
Columns columns(int64_t d, int vec) {
  const int64_t needed = (d + vec - 1) / vec;
  // As few blocks as there have to be, each about as full as the others.
  const int64_t blocks = (needed + kThreads - 1) / kThreads;
  const int64_t threads = ((needed + blocks - 1) / blocks + kWarp - 1) / kWarp * kWarp;
  return {static_cast<unsigned>(threads), static_cast<unsigned>((needed + threads - 1) / threads)};
}

// f<T, kVec>(): 16 bytes an access where rows begin on such a boundary, else one number.
template <class T, class F>
int with_width(int64_t d, const void* a, const void* b, F f) {
  constexpr int kWide = 16 / sizeof(T);
  const auto even = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  if (d % kWide == 0 && even(a) && even(b))
    f(T{}, std::integral_constant<int, kWide>{});
  else
    f(T{}, std::integral_constant<int, 1>{});
  return static_cast<int>(cudaGetLastError());
}

template <class F>
int with_type(Type type, int64_t d, const void* a, const void* b, F f) {
  return type == Type::kFloat ? with_width<float>(d, a, b, f) : with_width<Bfloat16>(d, a, b, f);
}

int sums(Type type, const void* table, int64_t d, const int64_t* offsets, const int32_t* rows,
         const float* weights, int64_t count, int64_t per_token, void* out, Stream stream) {
  if (count == 0 || d == 0) return 0;
  return with_type(type, d, table, out, [&](auto zero, auto vec) {
    using T = decltype(zero);
    constexpr int kVec = decltype(vec)::value;
    const Columns c = columns(d, kVec);
    weighted_sums_kernel<T, kVec><<<dim3(static_cast<unsigned>(count), c.blocks), c.threads, 0,
                                    static_cast<cudaStream_t>(stream)>>>(
        static_cast<const T*>(table), d, rows, weights, offsets, per_token, static_cast<T*>(out));
  });
}

}  // namespace

int product_top_k(const float* scores, const ProductShape& shape, const bool* keep, int32_t* slots,
                  float* weights, int32_t* bad_tokens, Stream stream) {
  if (shape.tokens == 0) return 0;
  const auto warps = static_cast<unsigned>(std::min<int64_t>(shape.heads, kMaxHeads));
  product_top_k_kernel<<<static_cast<unsigned>(shape.tokens), warps * kWarp, 0,
                         static_cast<cudaStream_t>(stream)>>>(
      scores, shape.tokens, static_cast<int>(shape.heads), static_cast<int>(shape.n),
      static_cast<int>(shape.top_k), keep, slots, weights, bad_tokens);
  return static_cast<int>(cudaGetLastError());
}

int product_top_k_backward(const int32_t* slots, const float* weights, const float* gradient,
                           const ProductShape& shape, float* out, Stream stream) {
  const int64_t count = shape.tokens * shape.heads;
  if (count == 0) return 0;
  product_top_k_backward_kernel<<<static_cast<unsigned>((count + kThreads - 1) / kThreads),
                                  kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      slots, weights, gradient, shape.tokens, static_cast<int>(shape.heads),
      static_cast<int>(shape.n), static_cast<int>(shape.top_k), out);
  return static_cast<int>(cudaGetLastError());
}

int weighted_sums(Type type, const void* table, int64_t d, const int32_t* rows,
                  const float* weights, int64_t tokens, int64_t per_token, void* out,
                  Stream stream) {
  return sums(type, table, d, nullptr, rows, weights, tokens, per_token, out, stream);
}

int weighted_sums_csr(Type type, const void* table, int64_t d, const int64_t* offsets,
                      const int32_t* rows, const float* weights, int64_t count, void* out,
                      Stream stream) {
  return sums(type, table, d, offsets, rows, weights, count, 0, out, stream);
}

int row_dots(Type type, const void* table, int64_t d, const int32_t* rows, const void* grad,
             int64_t tokens, int64_t per_token, float* out, Stream stream) {
  if (tokens == 0) return 0;
  return with_type(type, d, table, grad, [&](auto zero, auto vec) {
    using T = decltype(zero);
    constexpr int kVec = decltype(vec)::value;
    row_dots_kernel<T, kVec>
        <<<static_cast<unsigned>(tokens), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
            static_cast<const T*>(table), d, rows, static_cast<const T*>(grad), per_token, out);
  });
}

int add_rows(Type type, void* table, int64_t d, const int32_t* rows, const float* delta,
             int64_t count, Stream stream) {
  if (count == 0 || d == 0) return 0;
  return with_type(type, d, table, table, [&](auto zero, auto vec) {
    using T = decltype(zero);
    constexpr int kVec = decltype(vec)::value;
    const Columns c = columns(d, kVec);
    add_rows_kernel<T, kVec>
        <<<dim3(static_cast<unsigned>(count), c.blocks), c.threads, 0,
           static_cast<cudaStream_t>(stream)>>>(static_cast<T*>(table), d, rows, delta);
  });
}

}  // namespace accrete::kernels::cuda
