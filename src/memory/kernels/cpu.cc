#include "memory/kernels/cpu.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>

// Highway compiles this file once for each instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "memory/kernels/cpu.cc"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace accrete::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
// At most 16 lanes: enough for every x86 and Arm target, and a mask then fits in two bytes.
using Tag = hn::CappedTag<float, 16>;
using One = hn::CappedTag<float, 1>;
constexpr size_t kMaxLanes = 16;

// A lower bound on the k-th largest of row: every one of at least k disjoint groups has its maximum
// at or above it. NaN or -infinity when it does not help.
float Threshold(const float* HWY_RESTRICT row, size_t n, size_t k) {
  const Tag d;
  const size_t lanes = hn::Lanes(d);
  const size_t vectors = std::max<size_t>(1, (k + lanes - 1) / lanes);
  const size_t stride = vectors * lanes;
  if (n < stride) return -std::numeric_limits<float>::infinity();
  float groups[kMaxTopK + kMaxLanes];
  for (size_t v = 0; v < vectors; ++v) {
    auto best = hn::LoadU(d, row + v * lanes);
    for (size_t i = stride + v * lanes; i + lanes <= n; i += stride)
      best = hn::Max(best, hn::LoadU(d, row + i));
    hn::StoreU(best, d, groups + v * lanes);
  }
  size_t count = stride;
  while (count % 2 == 0 && count / 2 >= k) {
    count /= 2;
    for (size_t i = 0; i < count; ++i) groups[i] = std::max(groups[i], groups[i + count]);
  }
  return *std::min_element(groups, groups + count);
}

struct Best {
  float* HWY_RESTRICT values;
  int32_t* HWY_RESTRICT positions;
  size_t k;
  size_t count = 0;

  // Positions come in ascending order, so that an equal value stays behind those before it.
  HWY_INLINE void Offer(float value, size_t position) {
    if (count == k) {
      if (!(value > values[k - 1])) return;
    } else {
      if (std::isnan(value)) return;
      ++count;
    }
    size_t i = count - 1;
    for (; i > 0 && values[i - 1] < value; --i) {
      values[i] = values[i - 1];
      positions[i] = positions[i - 1];
    }
    values[i] = value;
    positions[i] = static_cast<int32_t>(position);
  }
};

size_t TopKRow(const float* HWY_RESTRICT row, size_t n, size_t k, float* HWY_RESTRICT values,
               int32_t* HWY_RESTRICT positions) {
  const Tag d;
  const size_t lanes = hn::Lanes(d);
  Best best{values, positions, k};
  const float bound = Threshold(row, n, k);
  auto threshold = hn::Set(d, bound);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto hit = hn::Ge(hn::LoadU(d, row + i), threshold);
    if (HWY_LIKELY(hn::AllFalse(d, hit))) continue;
    uint8_t bytes[8] = {};
    hn::StoreMaskBits(d, hit, bytes);
    uint32_t bits = bytes[0] | (uint32_t{bytes[1]} << 8);
    for (; bits != 0; bits &= bits - 1) {
      const size_t at = i + hwy::Num0BitsBelowLS1Bit_Nonzero32(bits);
      best.Offer(row[at], at);
    }
    if (best.count == k) threshold = hn::Set(d, values[k - 1]);
  }
  for (; i < n; ++i) best.Offer(row[i], i);
  return best.count;
}

int64_t TopK(const float* row, int64_t n, int64_t k, float* values, int32_t* positions) {
  return static_cast<int64_t>(
      TopKRow(row, static_cast<size_t>(n), static_cast<size_t>(k), values, positions));
}

// The best k of the k x k sums of two descending lists, by (sum, lower slot). Only pairs with
// (i + 1)(j + 1) <= k can be among them: (i + 1)(j + 1) pairs are at least as good as (i, j).
struct Pairs {
  float score[kMaxTopK];
  int32_t slot[kMaxTopK];
};

void CartesianTopK(const float* a, const int32_t* at_a, const float* b, const int32_t* at_b,
                   size_t k, int32_t n, Pairs& best) {
  size_t count = 0;
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = 0; (i + 1) * (j + 1) <= k; ++j) {
      const float score = a[i] + b[j];
      const int32_t slot = at_a[i] * n + at_b[j];
      const auto beats = [&](size_t other) {
        return score > best.score[other] || (score == best.score[other] && slot < best.slot[other]);
      };
      if (count == k) {
        if (score < best.score[k - 1]) break;  // and so are those after it
        if (!beats(k - 1)) continue;
      } else {
        ++count;
      }
      size_t to = count - 1;
      for (; to > 0 && beats(to - 1); --to) {
        best.score[to] = best.score[to - 1];
        best.slot[to] = best.slot[to - 1];
      }
      best.score[to] = score;
      best.slot[to] = slot;
    }
  }
}

int64_t ProductTopK(const float* scores, const ProductShape& shape, const bool* keep,
                    int32_t* slots, float* weights) {
  const size_t n = static_cast<size_t>(shape.n), k = static_cast<size_t>(shape.top_k);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.heads));
  float value[2][kMaxTopK];
  int32_t position[2][kMaxTopK];
  Pairs best;
  int64_t bad_tokens = 0;
  for (int64_t t = 0; t < shape.tokens; ++t) {
    int32_t* token_slots = slots + t * shape.heads * shape.top_k;
    float* token_weights = weights + t * shape.heads * shape.top_k;
    bool have = keep == nullptr || keep[t];
    for (int64_t h = 0; have && h < shape.heads; ++h) {
      bool finite = true;
      for (int64_t half = 0; half < 2; ++half) {
        const float* row = scores + ((h * 2 + half) * shape.tokens + t) * shape.n;
        finite = TopKRow(row, n, k, value[half], position[half]) == k &&
                 std::isfinite(value[half][0]) && std::isfinite(value[half][k - 1]) && finite;
      }
      if (!finite) {
        ++bad_tokens;
        have = false;
        break;
      }
      CartesianTopK(value[0], position[0], value[1], position[1], k, static_cast<int32_t>(n), best);
      int32_t* out_slots = token_slots + h * shape.top_k;
      float* out_weights = token_weights + h * shape.top_k;
      float sum = 0;
      for (size_t i = 0; i < k; ++i) {
        out_weights[i] = std::exp(best.score[i] - best.score[0]);
        sum += out_weights[i];
      }
      const int32_t first = static_cast<int32_t>(h * shape.n * shape.n);
      for (size_t i = 0; i < k; ++i) {
        out_slots[i] = first + best.slot[i];
        out_weights[i] *= scale / sum;
      }
    }
    if (!have) {
      std::fill_n(token_slots, shape.heads * shape.top_k, -1);
      std::fill_n(token_weights, shape.heads * shape.top_k, 0.0f);
    }
  }
  return bad_tokens;
}

template <class D>
HWY_INLINE hn::Vec<D> LoadRow(D d, const float* HWY_RESTRICT from) {
  return hn::LoadU(d, from);
}
template <class D>
HWY_INLINE hn::Vec<D> LoadRow(D d, const Bfloat16* HWY_RESTRICT from) {
  const hn::Rebind<hwy::bfloat16_t, D> half;
  return hn::PromoteTo(d, hn::LoadU(half, reinterpret_cast<const hwy::bfloat16_t*>(from)));
}

// out (+)= the sum of kRows weighted rows, element by element in their order. A sum over several
// rows at once reads and writes `out` once for all of them.
template <size_t kRows, bool kFirst, class D, class T>
HWY_INLINE void AddRowsAt(D d, const T* const* HWY_RESTRICT row, const float* weight, size_t i,
                          float* HWY_RESTRICT out) {
  auto sum = kFirst
                 ? hn::Mul(hn::Set(d, weight[0]), LoadRow(d, row[0] + i))
                 : hn::MulAdd(hn::Set(d, weight[0]), LoadRow(d, row[0] + i), hn::LoadU(d, out + i));
  for (size_t r = 1; r < kRows; ++r)
    sum = hn::MulAdd(hn::Set(d, weight[r]), LoadRow(d, row[r] + i), sum);
  hn::StoreU(sum, d, out + i);
}

template <size_t kRows, bool kFirst, class T>
HWY_INLINE void AddRows(const T* const* row, const float* weight, size_t width, float* out) {
  const Tag d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= width; i += lanes) AddRowsAt<kRows, kFirst>(d, row, weight, i, out);
  for (; i < width; ++i) AddRowsAt<kRows, kFirst>(One(), row, weight, i, out);
}

template <class T>
HWY_INLINE void WeightedSum(const T* table, size_t width, const int32_t* rows, const float* weights,
                            size_t count, float* out) {
  constexpr size_t kGroup = 4;
  const T* row[kGroup];
  float weight[kGroup];
  size_t m = 0;
  bool first = true;
  for (size_t k = 0; k < count; ++k) {
    if (rows[k] < 0) continue;
    row[m] = table + static_cast<size_t>(rows[k]) * width;
    weight[m] = weights[k];
    if (++m < kGroup) continue;
    if (first)
      AddRows<kGroup, true>(row, weight, width, out);
    else
      AddRows<kGroup, false>(row, weight, width, out);
    first = false;
    m = 0;
  }
  for (size_t r = 0; r < m; ++r) {
    if (first)
      AddRows<1, true>(row + r, weight + r, width, out);
    else
      AddRows<1, false>(row + r, weight + r, width, out);
    first = false;
  }
  if (first) std::fill_n(out, width, 0.0f);
}

template <class T>
HWY_INLINE void WeightedSumsOf(const T* table, int64_t d, const int32_t* rows, const float* weights,
                               int64_t tokens, int64_t per_token, float* out) {
  for (int64_t t = 0; t < tokens; ++t)
    WeightedSum(table, static_cast<size_t>(d), rows + t * per_token, weights + t * per_token,
                static_cast<size_t>(per_token), out + t * d);
}

void WeightedSums(const float* table, int64_t d, const int32_t* rows, const float* weights,
                  int64_t tokens, int64_t per_token, float* out) {
  WeightedSumsOf(table, d, rows, weights, tokens, per_token, out);
}
void WeightedSumsBfloat16(const Bfloat16* table, int64_t d, const int32_t* rows,
                          const float* weights, int64_t tokens, int64_t per_token, float* out) {
  WeightedSumsOf(table, d, rows, weights, tokens, per_token, out);
}

void WeightedSumsCsr(const float* table, int64_t d, const int64_t* offsets, const int32_t* rows,
                     const float* weights, int64_t begin, int64_t end, float* out) {
  for (int64_t i = begin; i < end; ++i)
    WeightedSum(table, static_cast<size_t>(d), rows + offsets[i], weights + offsets[i],
                static_cast<size_t>(offsets[i + 1] - offsets[i]), out + i * d);
}

float ToFloat(float value) {
  return value;
}
float ToFloat(Bfloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

// kRows dot products at once: the memory then works on as many rows, and their sums do not wait for
// one another. Each is summed in the same order, whatever kRows is.
template <size_t kRows, class T>
HWY_INLINE void Dots(const T* const* row, const float* HWY_RESTRICT grad, size_t width,
                     float* sum) {
  const Tag d;
  const size_t lanes = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  size_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    const auto g = hn::LoadU(d, grad + i);
    s0 = hn::MulAdd(g, LoadRow(d, row[0] + i), s0);
    if constexpr (kRows == 4) {
      s1 = hn::MulAdd(g, LoadRow(d, row[1] + i), s1);
      s2 = hn::MulAdd(g, LoadRow(d, row[2] + i), s2);
      s3 = hn::MulAdd(g, LoadRow(d, row[3] + i), s3);
    }
  }
  sum[0] = hn::GetLane(hn::SumOfLanes(d, s0));
  if constexpr (kRows == 4) {
    sum[1] = hn::GetLane(hn::SumOfLanes(d, s1));
    sum[2] = hn::GetLane(hn::SumOfLanes(d, s2));
    sum[3] = hn::GetLane(hn::SumOfLanes(d, s3));
  }
  for (; i < width; ++i)
    for (size_t r = 0; r < kRows; ++r) sum[r] += grad[i] * ToFloat(row[r][i]);
}

template <class T>
HWY_INLINE void RowDotsOf(const T* table, int64_t d, const int32_t* rows, const float* grad,
                          int64_t tokens, int64_t per_token, float* out) {
  constexpr size_t kGroup = 4;
  const size_t width = static_cast<size_t>(d);
  const T* row[kGroup];
  int64_t entry[kGroup];
  float sum[kGroup];
  for (int64_t t = 0; t < tokens; ++t) {
    const float* g = grad + t * d;
    size_t m = 0;
    for (int64_t k = t * per_token; k < (t + 1) * per_token; ++k) {
      out[k] = 0;
      if (rows[k] < 0) continue;
      row[m] = table + static_cast<size_t>(rows[k]) * width;
      entry[m] = k;
      if (++m < kGroup) continue;
      Dots<kGroup>(row, g, width, sum);
      for (size_t r = 0; r < kGroup; ++r) out[entry[r]] = sum[r];
      m = 0;
    }
    for (size_t r = 0; r < m; ++r) Dots<1>(row + r, g, width, &out[entry[r]]);
  }
}

void RowDots(const float* table, int64_t d, const int32_t* rows, const float* grad, int64_t tokens,
             int64_t per_token, float* out) {
  RowDotsOf(table, d, rows, grad, tokens, per_token, out);
}
void RowDotsBfloat16(const Bfloat16* table, int64_t d, const int32_t* rows, const float* grad,
                     int64_t tokens, int64_t per_token, float* out) {
  RowDotsOf(table, d, rows, grad, tokens, per_token, out);
}

void SquaredDistances(const float* HWY_RESTRICT q, const float* HWY_RESTRICT table, int64_t d,
                      int64_t n, float limit, float* HWY_RESTRICT out) {
  const Tag tag;
  const size_t lanes = hn::Lanes(tag), width = static_cast<size_t>(d);
  // Where most rows are far: a sum of squares only grows, in every lane.
  const size_t first = width / 4 / lanes * lanes;
  for (size_t r = 0; r < static_cast<size_t>(n); ++r) {
    const float* row = table + r * width;
    auto s = hn::Zero(tag);
    size_t i = 0;
    for (; i < first; i += lanes) {
      const auto apart = hn::Sub(hn::LoadU(tag, q + i), hn::LoadU(tag, row + i));
      s = hn::MulAdd(apart, apart, s);
    }
    if (first > 0 && (out[r] = hn::GetLane(hn::SumOfLanes(tag, s))) >= limit) continue;
    for (; i + lanes <= width; i += lanes) {
      const auto apart = hn::Sub(hn::LoadU(tag, q + i), hn::LoadU(tag, row + i));
      s = hn::MulAdd(apart, apart, s);
    }
    float sum = hn::GetLane(hn::SumOfLanes(tag, s));
    for (; i < width; ++i) sum += (q[i] - row[i]) * (q[i] - row[i]);
    out[r] = sum;
  }
}

// The lanes of `s` below `far`, as bits.
template <class D, class V>
HWY_INLINE uint32_t LanesBelow(D tag, V s, V far) {
  const auto near = hn::Lt(s, far);
  if (HWY_LIKELY(hn::AllFalse(tag, near))) return 0;
  uint8_t bytes[8] = {};
  hn::StoreMaskBits(tag, near, bytes);
  const uint32_t all = bytes[0] | static_cast<uint32_t>(bytes[1]) << 8;
  return all & ((uint32_t{1} << hn::Lanes(tag)) - 1);
}

// Sixteen rows are the lanes of a vector or two: their first coordinates are laid side by side.
void MaybeNear(const float* HWY_RESTRICT q, int64_t T, const float* HWY_RESTRICT table, int64_t d,
               int64_t n, float limit, uint16_t* HWY_RESTRICT maybe) {
  constexpr size_t kRows = 16, kMost = 64, kTogether = 4;
  const hn::CappedTag<float, kRows> tag;
  using V = hn::Vec<decltype(tag)>;
  const size_t lanes = hn::Lanes(tag), width = static_cast<size_t>(d),
               rows = static_cast<size_t>(n);
  // Of so many coordinates few that are far seem near.
  const size_t some = (3 * width + 7) / 8, first = some < kMost ? some : kMost;
  HWY_ALIGN float columns[kMost * kRows];
  for (size_t i = 0; i < first; ++i)
    for (size_t r = 0; r < kRows; ++r) columns[i * kRows + r] = r < rows ? table[r * width + i] : 0;
  // Sums in another order differ in their last bits.
  const V far = hn::Set(tag, limit * 1.0001F);
  const auto real = static_cast<uint32_t>((1U << rows) - 1);
  for (size_t t = 0; t < static_cast<size_t>(T); t += kTogether) {
    const size_t here =
        static_cast<size_t>(T) - t < kTogether ? static_cast<size_t>(T) - t : kTogether;
    const float* at[kTogether];
    for (size_t k = 0; k < kTogether; ++k) at[k] = q + (t + (k < here ? k : 0)) * width;
    uint32_t bits[kTogether] = {};
    for (size_t g = 0; g < kRows; g += lanes) {
      V s0 = hn::Zero(tag), s1 = s0, s2 = s0, s3 = s0;
      for (size_t i = 0; i < first; ++i) {
        const V row = hn::Load(tag, columns + i * kRows + g);
        const V d0 = hn::Sub(hn::Set(tag, at[0][i]), row),
                d1 = hn::Sub(hn::Set(tag, at[1][i]), row);
        const V d2 = hn::Sub(hn::Set(tag, at[2][i]), row),
                d3 = hn::Sub(hn::Set(tag, at[3][i]), row);
        s0 = hn::MulAdd(d0, d0, s0);
        s1 = hn::MulAdd(d1, d1, s1);
        s2 = hn::MulAdd(d2, d2, s2);
        s3 = hn::MulAdd(d3, d3, s3);
      }
      bits[0] |= LanesBelow(tag, s0, far) << g;
      bits[1] |= LanesBelow(tag, s1, far) << g;
      bits[2] |= LanesBelow(tag, s2, far) << g;
      bits[3] |= LanesBelow(tag, s3, far) << g;
    }
    for (size_t k = 0; k < here; ++k) maybe[t + k] = static_cast<uint16_t>(bits[k] & real);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace accrete::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace accrete::kernels {

HWY_EXPORT(TopK);
HWY_EXPORT(ProductTopK);
HWY_EXPORT(WeightedSums);
HWY_EXPORT(WeightedSumsBfloat16);
HWY_EXPORT(WeightedSumsCsr);
HWY_EXPORT(RowDots);
HWY_EXPORT(RowDotsBfloat16);
HWY_EXPORT(SquaredDistances);
HWY_EXPORT(MaybeNear);

int64_t top_k(const float* row, int64_t n, int64_t k, float* values, int32_t* positions) {
  return HWY_DYNAMIC_DISPATCH(TopK)(row, n, k, values, positions);
}

int64_t product_top_k(const float* scores, const ProductShape& shape, const bool* keep,
                      int32_t* slots, float* weights) {
  return HWY_DYNAMIC_DISPATCH(ProductTopK)(scores, shape, keep, slots, weights);
}

void weighted_sums(const float* table, int64_t d, const int32_t* rows, const float* weights,
                   int64_t tokens, int64_t per_token, float* out) {
  HWY_DYNAMIC_DISPATCH(WeightedSums)(table, d, rows, weights, tokens, per_token, out);
}

void weighted_sums(const Bfloat16* table, int64_t d, const int32_t* rows, const float* weights,
                   int64_t tokens, int64_t per_token, float* out) {
  HWY_DYNAMIC_DISPATCH(WeightedSumsBfloat16)(table, d, rows, weights, tokens, per_token, out);
}

void weighted_sums_csr(const float* table, int64_t d, const int64_t* offsets, const int32_t* rows,
                       const float* weights, int64_t begin, int64_t end, float* out) {
  HWY_DYNAMIC_DISPATCH(WeightedSumsCsr)(table, d, offsets, rows, weights, begin, end, out);
}

void row_dots(const float* table, int64_t d, const int32_t* rows, const float* grad, int64_t tokens,
              int64_t per_token, float* out) {
  HWY_DYNAMIC_DISPATCH(RowDots)(table, d, rows, grad, tokens, per_token, out);
}

void row_dots(const Bfloat16* table, int64_t d, const int32_t* rows, const float* grad,
              int64_t tokens, int64_t per_token, float* out) {
  HWY_DYNAMIC_DISPATCH(RowDotsBfloat16)(table, d, rows, grad, tokens, per_token, out);
}

void squared_distances(const float* q, const float* table, int64_t d, int64_t n, float limit,
                       float* out) {
  HWY_DYNAMIC_DISPATCH(SquaredDistances)(q, table, d, n, limit, out);
}

void maybe_near(const float* q, int64_t T, const float* table, int64_t d, int64_t n, float limit,
                uint16_t* maybe) {
  HWY_DYNAMIC_DISPATCH(MaybeNear)(q, T, table, d, n, limit, maybe);
}

std::vector<std::string> targets() {
  std::vector<std::string> names;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets())
    names.emplace_back(hwy::TargetName(target));
  return names;
}

void use_target(const std::string& name) {
  hwy::SetSupportedTargetsForTest(0);
  for (const int64_t target : hwy::SupportedAndGeneratedTargets())
    if (name == hwy::TargetName(target)) hwy::SetSupportedTargetsForTest(target);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace accrete::kernels
#endif  // HWY_ONCE
