#include "memory/kernels/cpu.h"

#include <algorithm>
#include <bit>
#include <cstddef>

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

HWY_EXPORT(WeightedSums);
HWY_EXPORT(WeightedSumsBfloat16);
HWY_EXPORT(WeightedSumsCsr);
HWY_EXPORT(RowDots);
HWY_EXPORT(RowDotsBfloat16);
HWY_EXPORT(SquaredDistances);
HWY_EXPORT(MaybeNear);

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
