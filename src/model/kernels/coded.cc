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

// Values [32 b + i, 32 b + i + lanes) of a row, and those 16 further on.
struct Pair {
  V low, high;
};

class Row4 {
 public:
  Row4(const CodedRows& w, size_t r)
      : codes_(static_cast<const uint8_t*>(w.codes) + r * static_cast<size_t>(w.columns) / 2),
        scales_(w.scales + r * static_cast<size_t>(w.columns) / 32),
        minima_(w.minima + r * static_cast<size_t>(w.columns) / 32) {}
  HWY_INLINE Pair Values(size_t b, size_t i) const {
    const Tag d;
    const Ints di;
    const V scale = hn::Set(d, scales_[b]), minimum = hn::Set(d, minima_[b]);
    const auto bytes = hn::PromoteTo(di, hn::LoadU(Bytes(), codes_ + b * 16 + i));
    return {hn::MulAdd(hn::ConvertTo(d, hn::And(bytes, hn::Set(di, 15))), scale, minimum),
            hn::MulAdd(hn::ConvertTo(d, hn::ShiftRight<4>(bytes)), scale, minimum)};
  }

 private:
  const uint8_t* codes_;
  const float *scales_, *minima_;
};

class Row8 {
 public:
  Row8(const CodedRows& w, size_t r)
      : codes_(static_cast<const int8_t*>(w.codes) + r * static_cast<size_t>(w.columns)),
        shift_(w.block == 32 ? 5 : 4) {
    const size_t blocks = static_cast<size_t>(w.columns) >> shift_;
    scales_ = w.scales + r * blocks;
    minima_ = w.minima != nullptr ? w.minima + r * blocks : nullptr;
  }
  HWY_INLINE Pair Values(size_t b, size_t i) const {
    return {Value(b * 32 + i), Value(b * 32 + 16 + i)};
  }

 private:
  HWY_INLINE V Value(size_t at) const {
    const Tag d;
    const auto code = hn::PromoteTo(Ints(), hn::LoadU(SignedBytes(), codes_ + at));
    const V minimum = minima_ != nullptr ? hn::Set(d, minima_[at >> shift_]) : hn::Zero(d);
    return hn::MulAdd(hn::ConvertTo(d, code), hn::Set(d, scales_[at >> shift_]), minimum);
  }
  const int8_t* codes_;
  int shift_;
  const float *scales_, *minima_;
};

class RowHalf {
 public:
  RowHalf(const CodedRows& w, size_t r)
      : values_(static_cast<const hwy::bfloat16_t*>(w.codes) + r * static_cast<size_t>(w.columns)) {
  }
  HWY_INLINE Pair Values(size_t b, size_t i) const {
    const Tag d;
    return {hn::PromoteTo(d, hn::LoadU(Halves(), values_ + b * 32 + i)),
            hn::PromoteTo(d, hn::LoadU(Halves(), values_ + b * 32 + 16 + i))};
  }

 private:
  const hwy::bfloat16_t* values_;
};

// Four rows of w at a time, so that what is summed up is loaded and stored once for four of them.
template <class Row>
void BackProduct(const CodedRows& w, size_t first, size_t last, const float* y, size_t n,
                 float* x) {
  const Tag d;
  const size_t lanes = hn::Lanes(d);
  const auto rows = static_cast<size_t>(w.rows), columns = static_cast<size_t>(w.columns);
  for (size_t i = 0; i < n; ++i)
    for (size_t c = first * 32; c < last * 32; ++c) x[i * columns + c] = 0;
  size_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const Row row0(w, r), row1(w, r + 1), row2(w, r + 2), row3(w, r + 3);
    for (size_t b = first; b < last; ++b)
      for (size_t j = 0; j < 16; j += lanes) {
        const Pair w0 = row0.Values(b, j), w1 = row1.Values(b, j), w2 = row2.Values(b, j),
                   w3 = row3.Values(b, j);
        for (size_t i = 0; i < n; ++i) {
          const float* from = y + i * rows + r;
          float* to = x + i * columns + b * 32 + j;
          const V y0 = hn::Set(d, from[0]), y1 = hn::Set(d, from[1]), y2 = hn::Set(d, from[2]),
                  y3 = hn::Set(d, from[3]);
          V low = hn::MulAdd(y0, w0.low, hn::LoadU(d, to));
          V high = hn::MulAdd(y0, w0.high, hn::LoadU(d, to + 16));
          low = hn::MulAdd(y1, w1.low, low);
          high = hn::MulAdd(y1, w1.high, high);
          low = hn::MulAdd(y2, w2.low, low);
          high = hn::MulAdd(y2, w2.high, high);
          hn::StoreU(hn::MulAdd(y3, w3.low, low), d, to);
          hn::StoreU(hn::MulAdd(y3, w3.high, high), d, to + 16);
        }
      }
  }
  for (; r < rows; ++r) {
    const Row row(w, r);
    for (size_t b = first; b < last; ++b)
      for (size_t j = 0; j < 16; j += lanes) {
        const Pair one = row.Values(b, j);
        for (size_t i = 0; i < n; ++i) {
          float* to = x + i * columns + b * 32 + j;
          const V factor = hn::Set(d, y[i * rows + r]);
          hn::StoreU(hn::MulAdd(factor, one.low, hn::LoadU(d, to)), d, to);
          hn::StoreU(hn::MulAdd(factor, one.high, hn::LoadU(d, to + 16)), d, to + 16);
        }
      }
  }
}

void BackProducts(const CodedRows& w, int64_t begin, int64_t end, const float* y, int64_t n,
                  float* x) {
  const auto first = static_cast<size_t>(begin) / 32, last = static_cast<size_t>(end) / 32;
  // As many rows of x as stay in the first cache.
  constexpr int64_t kTogether = 8;
  for (; n > 0; n -= kTogether, y += kTogether * w.rows, x += kTogether * w.columns) {
    const auto some = static_cast<size_t>(n < kTogether ? n : kTogether);
    switch (w.kind) {
      case CodedRows::Kind::kCodes4:
        BackProduct<Row4>(w, first, last, y, some, x);
        break;
      case CodedRows::Kind::kCodes8:
        BackProduct<Row8>(w, first, last, y, some, x);
        break;
      case CodedRows::Kind::kBFloat16:
        BackProduct<RowHalf>(w, first, last, y, some, x);
        break;
    }
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

HWY_EXPORT(BackProducts);

void coded_back_product(const CodedRows& w, int64_t begin, int64_t end, const float* y, int64_t n,
                        float* x) {
  HWY_DYNAMIC_DISPATCH(BackProducts)(w, begin, end, y, n, x);
}

}  // namespace accrete::kernels
#endif
