// The memory layer's inner loops as CUDA device code: what cuda.cu launches, and what the tests run
// thread by thread on the CPU (tests/memory/cuda_on_cpu.h), so that a machine without a GPU can
// still tell right from wrong.
//
// Every sum is made in an order that depends on the shapes alone and no result is added up by
// atomics, so a run repeats bit for bit on the same device. Between the CPU and the GPU the last
// bits may differ: sums are split over a warp's lanes here.
//
// Non-goals: launching (cuda.cu), tensors, argument checks.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define ACCRETE_UNROLL _Pragma("unroll")
#else
#define ACCRETE_UNROLL
#endif

namespace accrete::kernels::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr int kMaxHeads = 8;     // warps of a lookup's block; more heads take turns
inline constexpr int kListLength = 64;  // kMaxTopK of search.h
inline constexpr int kNoPosition = 0x7fffffff;

// bfloat16 is kept as its 16 bits: the upper half of a float.
struct Bfloat16 {
  uint16_t bits;
};
__device__ inline float to_float(float v) {
  return v;
}
__device__ inline float to_float(Bfloat16 v) {
  const uint32_t bits = static_cast<uint32_t>(v.bits) << 16;
  float out;
  memcpy(&out, &bits, sizeof out);
  return out;
}
__device__ inline void from_float(float v, float* out) {
  *out = v;
}
__device__ inline void from_float(float v, Bfloat16* out) {  // to nearest, ties to even
  uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  out->bits = isnan(v) ? uint16_t{0x7fc0}
                       : static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// kVec numbers of a row in one access of up to 16 bytes.
template <class T, int kVec>
struct alignas(sizeof(T) * kVec) Pack {
  T v[kVec];
};

__device__ inline float sum_of_warp(float v) {
  for (int step = kWarp / 2; step > 0; step /= 2) v += __shfl_xor_sync(kAllLanes, v, step);
  return v;
}

// ---- lookup ----

// A candidate of a top-k: larger values come first, equal ones by position.
struct Candidate {
  float value;
  int position;  // kNoPosition: none

  __device__ bool before(const Candidate& other) const {
    if (other.position == kNoPosition) return position != kNoPosition;
    if (position == kNoPosition) return false;
    return value > other.value || (value == other.value && position < other.position);
  }
};

__device__ inline Candidate best_of_warp(Candidate mine) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    Candidate other;
    other.value = __shfl_xor_sync(kAllLanes, mine.value, step);
    other.position = __shfl_xor_sync(kAllLanes, mine.position, step);
    if (other.before(mine)) mine = other;
  }
  return mine;
}

// The k best of what the lanes hold, one after another. scan(last) is a lane's best candidate that
// comes after `last` (of all, when last has no position); only the lane whose candidate was taken
// has to look again. take(i, candidate) is called by every lane. Returns how many there were.
template <class Scan, class Take>
__device__ int warp_top_k(int k, Scan scan, Take take) {
  Candidate mine = scan(Candidate{0, kNoPosition});
  for (int i = 0; i < k; ++i) {
    const Candidate best = best_of_warp(mine);
    if (best.position == kNoPosition) return i;
    take(i, best);
    if (mine.position == best.position) mine = scan(best);
  }
  return k;
}

__device__ inline bool comes_after(const Candidate& c, const Candidate& last) {
  return last.position == kNoPosition || last.before(c);
}

// What one warp keeps of a head's two halves.
struct HalfLists {
  float value[2][kListLength];
  int32_t position[2][kListLength];
};

// product_top_k of search.h: a block a token, a warp a head. `lists` [warps] and `bad` are shared.
__device__ inline void product_top_k_block(const float* scores, int64_t tokens, int heads, int n,
                                           int k, const bool* keep, int32_t* slots, float* weights,
                                           int32_t* bad_tokens, HalfLists* lists, int* bad) {
  const int64_t t = blockIdx.x;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  if (threadIdx.x == 0) *bad = 0;
  __syncthreads();
  const bool have = keep == nullptr || keep[t];
  int32_t* token_slots = slots + t * heads * k;
  float* token_weights = weights + t * heads * k;
  HalfLists& list = lists[warp];
  for (int h = warp; have && h < heads; h += warps) {
    bool finite = true;
    for (int half = 0; half < 2; ++half) {
      const float* row = scores + ((int64_t{h} * 2 + half) * tokens + t) * n;
      const auto scan = [&](const Candidate& last) {
        Candidate best{0, kNoPosition};
        for (int i = lane; i < n; i += kWarp) {
          const Candidate c{row[i], i};
          if (!isnan(c.value) && comes_after(c, last) && c.before(best)) best = c;
        }
        return best;
      };
      const int found = warp_top_k(k, scan, [&](int i, const Candidate& c) {
        if (lane != 0) return;
        list.value[half][i] = c.value;
        list.position[half][i] = c.position;
      });
      __syncwarp();
      finite = finite && found == k && isfinite(list.value[half][0]) &&
               isfinite(list.value[half][k - 1]);
    }
    if (!finite) {
      if (lane == 0) *bad = 1;
      __syncwarp();
      continue;
    }
    // Only pairs with (i + 1)(j + 1) <= k can be among the best k: (i + 1)(j + 1) pairs are at
    // least as good as (i, j).
    const auto scan = [&](const Candidate& last) {
      Candidate best{0, kNoPosition};
      for (int i = lane; i < k; i += kWarp)
        for (int j = 0; (i + 1) * (j + 1) <= k; ++j) {
          const Candidate c{list.value[0][i] + list.value[1][j],
                            list.position[0][i] * n + list.position[1][j]};
          if (comes_after(c, last) && c.before(best)) best = c;
        }
      return best;
    };
    float top = 0, sum = 0;
    float own[kListLength / kWarp] = {0, 0};
    warp_top_k(k, scan, [&](int i, const Candidate& c) {
      if (i == 0) top = c.value;
      const float share = expf(c.value - top);
      sum += share;
      if (i % kWarp != lane) return;
      own[i / kWarp] = share;
      token_slots[h * k + i] = h * n * n + c.position;
    });
    const float scale = 1.0f / sqrtf(static_cast<float>(heads)) / sum;
    for (int i = lane; i < k; i += kWarp) token_weights[h * k + i] = own[i / kWarp] * scale;
    __syncwarp();
  }
  __syncthreads();
  if (have && *bad == 0) return;
  for (int i = static_cast<int>(threadIdx.x); i < heads * k; i += static_cast<int>(blockDim.x)) {
    token_slots[i] = -1;
    token_weights[i] = 0;
  }
  if (have && threadIdx.x == 0) atomicAdd(bad_tokens, 1);
}

// The gradient of one head of one token: ds, zero before, [2, n] at first and second, from the
// weights' gradient. w = p / sqrt(heads), p a softmax: ds_c = w_c (g_c - sum_j p_j g_j). One
// thread, in order of c: slots can share a half-key.
__device__ inline void product_top_k_backward_one(const int32_t* slots, const float* weights,
                                                  const float* gradient, int heads, int head, int n,
                                                  int k, float* first, float* second) {
  float mean = 0;
  for (int c = 0; c < k; ++c) mean = fmaf(weights[c], gradient[c], mean);
  mean *= sqrtf(static_cast<float>(heads));
  for (int c = 0; c < k; ++c) {
    const float ds = weights[c] * (gradient[c] - mean);
    const int pair = slots[c] - head * n * n;
    first[pair / n] += ds;
    second[pair % n] += ds;
  }
}

// ---- value rows ----

// out = sum of weights[i] table[rows[i]] for i in [begin, end), in order of i; rows < 0 add
// nothing. A thread has kVec columns; kAhead rows are on their way at once. `kept_rows` and
// `kept_weights` [blockDim.x] are shared.
template <class T, int kVec, int kAhead>
__device__ void weighted_sum_block(const T* table, int64_t d, const int32_t* rows,
                                   const float* weights, int64_t begin, int64_t end, T* out,
                                   int32_t* kept_rows, float* kept_weights) {
  const int64_t column = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kVec;
  const bool mine = column < d;
  float sum[kVec] = {};
  for (int64_t at = begin; at < end; at += blockDim.x) {
    __syncthreads();
    if (at + threadIdx.x < end) {
      kept_rows[threadIdx.x] = rows[at + threadIdx.x];
      kept_weights[threadIdx.x] = weights[at + threadIdx.x];
    }
    __syncthreads();
    const int count = static_cast<int>(end - at < blockDim.x ? end - at : blockDim.x);
    if (!mine) continue;
    for (int i = 0; i < count; i += kAhead) {
      Pack<T, kVec> row[kAhead];
      float weight[kAhead];
      ACCRETE_UNROLL
      for (int a = 0; a < kAhead; ++a) {
        const bool there = i + a < count && kept_rows[i + a] >= 0;
        weight[a] = there ? kept_weights[i + a] : 0;
        if (there)
          row[a] = *reinterpret_cast<const Pack<T, kVec>*>(table + kept_rows[i + a] * d + column);
        else
          row[a] = Pack<T, kVec>{};
      }
      ACCRETE_UNROLL
      for (int a = 0; a < kAhead; ++a) ACCRETE_UNROLL
      for (int v = 0; v < kVec; ++v) sum[v] = fmaf(weight[a], to_float(row[a].v[v]), sum[v]);
    }
  }
  if (!mine) return;
  Pack<T, kVec> result;
  for (int v = 0; v < kVec; ++v) from_float(sum[v], &result.v[v]);
  *reinterpret_cast<Pack<T, kVec>*>(out + column) = result;
}

// out[t, k] = grad[t] . table[rows[t, k]]: a block a token, a warp a row at a time.
template <class T, int kVec>
__device__ void row_dots_block(const T* table, int64_t d, const int32_t* rows, const T* grad,
                               int64_t per_token, float* out) {
  const int64_t t = blockIdx.x;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  for (int64_t k = warp; k < per_token; k += warps) {
    const int64_t row = rows[t * per_token + k];
    float sum = 0;
    if (row >= 0)
      for (int64_t i = int64_t{lane} * kVec; i < d; i += kWarp * kVec) {
        const auto a = *reinterpret_cast<const Pack<T, kVec>*>(table + row * d + i);
        const auto b = *reinterpret_cast<const Pack<T, kVec>*>(grad + t * d + i);
        for (int v = 0; v < kVec; ++v) sum = fmaf(to_float(a.v[v]), to_float(b.v[v]), sum);
      }
    sum = sum_of_warp(sum);
    if (lane == 0) out[t * per_token + k] = sum;
  }
}

// table[rows[i]] += delta[i]: the row update; rows are distinct. A block a row.
template <class T, int kVec>
__device__ void add_rows_block(T* table, int64_t d, const int32_t* rows, const float* delta) {
  const int64_t i = blockIdx.x, row = rows[i];
  if (row < 0) return;
  const int64_t column = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kVec;
  if (column >= d) return;
  auto* to = reinterpret_cast<Pack<T, kVec>*>(table + row * d + column);
  Pack<T, kVec> value = *to;
  for (int v = 0; v < kVec; ++v)
    from_float(to_float(value.v[v]) + delta[i * d + column + v], &value.v[v]);
  *to = value;
}

}  // namespace accrete::kernels::cuda

#undef ACCRETE_UNROLL
