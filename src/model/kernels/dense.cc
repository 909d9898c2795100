#include "model/kernels/dense.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <cstddef>

// Highway compiles this file once for each instruction set; the order of its headers matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/kernels/dense.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace accrete::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::ScalableTag<float>;
using V = hn::VFromD<Tag>;

// Rows of x and of w that are multiplied at once: as many as there are registers for their sums.
constexpr size_t kWeights = 4;
constexpr size_t kTokens = HWY_TARGET == HWY_AVX2 || HWY_MAX_BYTES < 32 ? 3 : 6;

struct Matrices {
  const float* x;
  const float* w;
  const float* bias;
  float* y;
  size_t columns, stride;  // stride: from a row of y to the next
};

#if HWY_TARGET != HWY_SCALAR
// A vector of four lanes whose sum is v's.
template <class D>
HWY_INLINE auto Fold(D d, hn::VFromD<D> v) {
  if constexpr (hn::MaxLanes(d) > 4) {
    const hn::Half<D> half;
    return Fold(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  } else {
    return v;
  }
}
#endif

// out[b] = bias[b] + the sum of the lanes of sums[b].
template <size_t N>
HWY_INLINE void StoreSums(const V* sums, const float* bias, float* out) {
  const Tag d;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (N == 4) {
    const hn::CappedTag<float, 4> four;
    const auto a = Fold(d, sums[0]), b = Fold(d, sums[1]);
    const auto e = Fold(d, sums[2]), f = Fold(d, sums[3]);
    const auto ab = hn::Add(hn::InterleaveLower(four, a, b), hn::InterleaveUpper(four, a, b));
    const auto ef = hn::Add(hn::InterleaveLower(four, e, f), hn::InterleaveUpper(four, e, f));
    const auto all =
        hn::Add(hn::ConcatLowerLower(four, ef, ab), hn::ConcatUpperUpper(four, ef, ab));
    hn::StoreU(hn::Add(hn::LoadU(four, bias), all), four, out);
    return;
  }
#endif
  for (size_t b = 0; b < N; ++b) out[b] = bias[b] + hn::GetLane(hn::SumOfLanes(d, sums[b]));
}

// M rows of x from `first` on with N rows of w from `r` on. With kAhead the N rows after those are
// fetched meanwhile: left alone, the hardware does it at a fraction of the speed.
template <size_t M, size_t N, bool kAhead>
HWY_INLINE void Tile(const Matrices& m, size_t first, size_t r) {
  const Tag d;
  const size_t lanes = hn::Lanes(d);
  const float* HWY_RESTRICT x = m.x + first * m.columns;
  const float* HWY_RESTRICT w = m.w + r * m.columns;
  V sums[M][N];
  for (size_t a = 0; a < M; ++a)
    for (size_t b = 0; b < N; ++b) sums[a][b] = hn::Zero(d);
  size_t c = 0;
  for (; c + lanes <= m.columns; c += lanes) {
    V weights[N];
    for (size_t b = 0; b < N; ++b) {
      weights[b] = hn::LoadU(d, w + b * m.columns + c);
      if constexpr (kAhead) hwy::Prefetch(w + (N + b) * m.columns + c);
    }
    for (size_t a = 0; a < M; ++a) {
      const V token = hn::LoadU(d, x + a * m.columns + c);
      for (size_t b = 0; b < N; ++b) sums[a][b] = hn::MulAdd(token, weights[b], sums[a][b]);
    }
  }
  for (size_t a = 0; a < M; ++a) {
    float* out = m.y + (first + a) * m.stride + r;
    StoreSums<N>(sums[a], m.bias + r, out);
    for (size_t i = c; i < m.columns; ++i)
      for (size_t b = 0; b < N; ++b) out[b] += x[a * m.columns + i] * w[b * m.columns + i];
  }
}

// `count` rows of x, from one to kTokens.
template <size_t N, bool kAhead>
void AnyTile(const Matrices& m, size_t count, size_t first, size_t r) {
  switch (count) {
    case 1:
      return Tile<1, N, kAhead>(m, first, r);
    case 2:
      return Tile<2, N, kAhead>(m, first, r);
    case 3:
      return Tile<3, N, kAhead>(m, first, r);
    case 4:
      return Tile<4, N, kAhead>(m, first, r);
    case 5:
      return Tile<5, N, kAhead>(m, first, r);
    default:
      return Tile<6, N, kAhead>(m, first, r);
  }
}

// Rows begin <= i < end of x with N rows of w.
template <size_t N>
void Column(const Matrices& m, size_t begin, size_t end, size_t r) {
  AnyTile<N, true>(m, std::min(kTokens, end - begin), begin, r);
  for (size_t i = begin + kTokens; i < end; i += kTokens)
    AnyTile<N, false>(m, std::min(kTokens, end - i), i, r);
}

void Dense(const float* x, int64_t n, int64_t columns, const float* w, const float* bias,
           int64_t rows, int64_t begin, int64_t end, float* y) {
  const Matrices m = {x, w, bias, y, static_cast<size_t>(columns), static_cast<size_t>(rows)};
  // So many rows of x stay in the second cache while the weights go by.
  constexpr size_t kCached = size_t{1} << 18;
  const size_t block =
      std::max<size_t>(1, kCached / (m.columns * sizeof(float)) / kTokens) * kTokens;
  const auto count = static_cast<size_t>(n), last = static_cast<size_t>(end);
  for (size_t from = 0; from < count; from += block) {
    const size_t to = std::min(count, from + block);
    auto r = static_cast<size_t>(begin);
    for (; r + kWeights <= last; r += kWeights) Column<kWeights>(m, from, to, r);
    for (; r < last; ++r) Column<1>(m, from, to, r);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace accrete::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace accrete::kernels {

HWY_EXPORT(Dense);

void dense_product(const float* x, int64_t n, int64_t columns, const float* w, const float* bias,
                   int64_t rows, int64_t begin, int64_t end, float* y) {
  HWY_DYNAMIC_DISPATCH(Dense)(x, n, columns, w, bias, rows, begin, end, y);
}

}  // namespace accrete::kernels
#endif
