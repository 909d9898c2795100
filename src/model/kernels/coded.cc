#include "model/kernels/coded.h"

#include <hwy/cache_control.h>

#include <cstddef>

// Highway compiles this file once for each instruction set; the order of its headers matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/kernels/coded.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace accrete::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::CappedTag<float, 16>;  // half a block of 32, or less
using V = hn::VFromD<Tag>;
using Bytes = hn::Rebind<uint8_t, Tag>;
using SignedBytes = hn::Rebind<int8_t, Tag>;
using Ints = hn::Rebind<int32_t, Tag>;
using Halves = hn::Rebind<hwy::bfloat16_t, Tag>;

// Bytes ahead of where codes are read: left alone, the hardware fetches at half the speed.
constexpr size_t kAhead = 1024;

// One row of w against N rows of x. Sums are variables of their own: vectors may have no size that
// the compiler knows.
template <size_t N>
class Sums {
 public:
  Sums(const float* x, size_t columns) : x_(x), columns_(columns) {}
  HWY_INLINE void Add(V w, size_t at) {
    const Tag d;
    s0_ = hn::MulAdd(w, hn::LoadU(d, x_ + at), s0_);
    if constexpr (N > 1) s1_ = hn::MulAdd(w, hn::LoadU(d, x_ + columns_ + at), s1_);
    if constexpr (N > 2) {
      s2_ = hn::MulAdd(w, hn::LoadU(d, x_ + 2 * columns_ + at), s2_);
      s3_ = hn::MulAdd(w, hn::LoadU(d, x_ + 3 * columns_ + at), s3_);
    }
    if constexpr (N > 4) {
      s4_ = hn::MulAdd(w, hn::LoadU(d, x_ + 4 * columns_ + at), s4_);
      s5_ = hn::MulAdd(w, hn::LoadU(d, x_ + 5 * columns_ + at), s5_);
      s6_ = hn::MulAdd(w, hn::LoadU(d, x_ + 6 * columns_ + at), s6_);
      s7_ = hn::MulAdd(w, hn::LoadU(d, x_ + 7 * columns_ + at), s7_);
    }
  }
  // The two halves of a block: a single row has a second chain of sums, or it would wait for the
  // first.
  HWY_INLINE void AddPair(V low, V high, size_t at_low, size_t at_high) {
    Add(low, at_low);
    if constexpr (N == 1)
      s1_ = hn::MulAdd(high, hn::LoadU(Tag(), x_ + at_high), s1_);
    else
      Add(high, at_high);
  }
  HWY_INLINE void Store(float* y, size_t stride) const {
    const Tag d;
    if constexpr (N == 1) {
      y[0] = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0_, s1_)));
      return;
    }
    y[0] = hn::GetLane(hn::SumOfLanes(d, s0_));
    y[stride] = hn::GetLane(hn::SumOfLanes(d, s1_));
    if constexpr (N > 2) {
      y[2 * stride] = hn::GetLane(hn::SumOfLanes(d, s2_));
      y[3 * stride] = hn::GetLane(hn::SumOfLanes(d, s3_));
    }
    if constexpr (N > 4) {
      y[4 * stride] = hn::GetLane(hn::SumOfLanes(d, s4_));
      y[5 * stride] = hn::GetLane(hn::SumOfLanes(d, s5_));
      y[6 * stride] = hn::GetLane(hn::SumOfLanes(d, s6_));
      y[7 * stride] = hn::GetLane(hn::SumOfLanes(d, s7_));
    }
  }

 private:
  const float* HWY_RESTRICT x_;
  size_t columns_;
  V s0_ = hn::Zero(Tag()), s1_ = hn::Zero(Tag()), s2_ = hn::Zero(Tag()), s3_ = hn::Zero(Tag()),
    s4_ = hn::Zero(Tag()), s5_ = hn::Zero(Tag()), s6_ = hn::Zero(Tag()), s7_ = hn::Zero(Tag());
};

template <size_t N>
void Codes4(const CodedRows& w, size_t begin, size_t end, const float* x, float* y) {
  const Tag d;
  const Ints di;
  const size_t lanes = hn::Lanes(d), columns = static_cast<size_t>(w.columns);
  const size_t blocks = columns / 32;
  for (size_t r = begin; r < end; ++r) {
    const auto* codes = static_cast<const uint8_t*>(w.codes) + r * columns / 2;
    const float* scales = w.scales + r * blocks;
    const float* minima = w.minima + r * blocks;
    Sums<N> sums(x, columns);
    for (size_t b = 0; b < blocks; ++b) {
      if (b % 4 == 0) hwy::Prefetch(codes + b * 16 + kAhead);
      const V scale = hn::Set(d, scales[b]), minimum = hn::Set(d, minima[b]);
      for (size_t i = 0; i < 16; i += lanes) {
        const auto bytes = hn::PromoteTo(di, hn::LoadU(Bytes(), codes + b * 16 + i));
        const auto low = hn::ConvertTo(d, hn::And(bytes, hn::Set(di, 15)));
        const auto high = hn::ConvertTo(d, hn::ShiftRight<4>(bytes));
        sums.AddPair(hn::MulAdd(low, scale, minimum), hn::MulAdd(high, scale, minimum), b * 32 + i,
                     b * 32 + 16 + i);
      }
    }
    sums.Store(y + r, static_cast<size_t>(w.rows));
  }
}

template <size_t N, bool kMinima>
void Codes8(const CodedRows& w, size_t begin, size_t end, const float* x, float* y) {
  const Tag d;
  const Ints di;
  const size_t lanes = hn::Lanes(d), columns = static_cast<size_t>(w.columns);
  const size_t blocks = columns / static_cast<size_t>(w.block);
  const int shift = w.block == 32 ? 5 : 4;
  for (size_t r = begin; r < end; ++r) {
    const int8_t* codes = static_cast<const int8_t*>(w.codes) + r * columns;
    const float* scales = w.scales + r * blocks;
    const float* minima = kMinima ? w.minima + r * blocks : nullptr;
    const auto value = [&](size_t at) HWY_ATTR {
      const size_t b = at >> shift;
      const auto code = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(SignedBytes(), codes + at)));
      const V scale = hn::Set(d, scales[b]);
      if constexpr (kMinima) return hn::MulAdd(code, scale, hn::Set(d, minima[b]));
      return hn::Mul(code, scale);
    };
    Sums<N> sums(x, columns);
    for (size_t at = 0; at < columns; at += 32) {
      if (at % 64 == 0) hwy::Prefetch(codes + at + kAhead);
      for (size_t i = 0; i < 16; i += lanes) {
        const size_t low = at + i, high = at + 16 + i;
        sums.AddPair(value(low), value(high), low, high);
      }
    }
    sums.Store(y + r, static_cast<size_t>(w.rows));
  }
}

template <size_t N>
void BFloat16(const CodedRows& w, size_t begin, size_t end, const float* x, float* y) {
  const Tag d;
  const size_t lanes = hn::Lanes(d), columns = static_cast<size_t>(w.columns);
  for (size_t r = begin; r < end; ++r) {
    const auto* values = static_cast<const hwy::bfloat16_t*>(w.codes) + r * columns;
    Sums<N> sums(x, columns);
    for (size_t at = 0; at < columns; at += 32) {
      hwy::Prefetch(values + at + kAhead / 2);
      for (size_t i = 0; i < 16; i += lanes)
        sums.AddPair(hn::PromoteTo(d, hn::LoadU(Halves(), values + at + i)),
                     hn::PromoteTo(d, hn::LoadU(Halves(), values + at + 16 + i)), at + i,
                     at + 16 + i);
    }
    sums.Store(y + r, static_cast<size_t>(w.rows));
  }
}

template <size_t N>
void Rows(const CodedRows& w, size_t begin, size_t end, const float* x, float* y) {
  switch (w.kind) {
    case CodedRows::Kind::kCodes4:
      return Codes4<N>(w, begin, end, x, y);
    case CodedRows::Kind::kCodes8:
      return w.minima != nullptr ? Codes8<N, true>(w, begin, end, x, y)
                                 : Codes8<N, false>(w, begin, end, x, y);
    case CodedRows::Kind::kBFloat16:
      return BFloat16<N>(w, begin, end, x, y);
  }
}

void Product(const CodedRows& w, int64_t begin, int64_t end, const float* x, int64_t n, float* y) {
  const auto from = static_cast<size_t>(begin), to = static_cast<size_t>(end);
  while (n > 0) {
    const int64_t some = n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
    if (some == 8) Rows<8>(w, from, to, x, y);
    if (some == 4) Rows<4>(w, from, to, x, y);
    if (some == 2) Rows<2>(w, from, to, x, y);
    if (some == 1) Rows<1>(w, from, to, x, y);
    n -= some;
    x += some * w.columns;
    y += some * w.rows;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace accrete::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace accrete::kernels {

HWY_EXPORT(Product);

void coded_product(const CodedRows& w, int64_t begin, int64_t end, const float* x, int64_t n,
                   float* y) {
  HWY_DYNAMIC_DISPATCH(Product)(w, begin, end, x, n, y);
}

}  // namespace accrete::kernels
#endif
