#include "model/kernels/coded.h"

#include <hwy/cache_control.h>

#include <algorithm>
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

// Values [32 b + i, 32 b + i + lanes) of a row, and those 16 further on.
struct Pair {
  V low, high;
};

class Row4 {
 public:
  static constexpr size_t kBlocksALine = 4;  // blocks of 32 values in a cache line
  Row4(const CodedRows& w, size_t r)
      : codes_(static_cast<const uint8_t*>(w.codes) + r * static_cast<size_t>(w.columns) / 2),
        scales_(w.scales + r * static_cast<size_t>(w.columns) / 32),
        minima_(w.minima + r * static_cast<size_t>(w.columns) / 32) {}
  HWY_INLINE void Fetch(size_t b) const { hwy::Prefetch(codes_ + b * 16 + kAhead); }
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

template <bool kMinima>
class Row8 {
 public:
  static constexpr size_t kBlocksALine = 2;
  Row8(const CodedRows& w, size_t r)
      : codes_(static_cast<const int8_t*>(w.codes) + r * static_cast<size_t>(w.columns)),
        shift_(w.block == 32 ? 5 : 4) {
    const size_t blocks = static_cast<size_t>(w.columns) >> shift_;
    scales_ = w.scales + r * blocks;
    minima_ = kMinima ? w.minima + r * blocks : nullptr;
  }
  HWY_INLINE void Fetch(size_t b) const { hwy::Prefetch(codes_ + b * 32 + kAhead); }
  HWY_INLINE Pair Values(size_t b, size_t i) const {
    return {Value(b * 32 + i), Value(b * 32 + 16 + i)};
  }

 private:
  HWY_INLINE V Value(size_t at) const {
    const Tag d;
    const auto code =
        hn::ConvertTo(d, hn::PromoteTo(Ints(), hn::LoadU(SignedBytes(), codes_ + at)));
    const V scale = hn::Set(d, scales_[at >> shift_]);
    if constexpr (kMinima) return hn::MulAdd(code, scale, hn::Set(d, minima_[at >> shift_]));
    return hn::Mul(code, scale);
  }
  const int8_t* codes_;
  int shift_;
  const float *scales_, *minima_;
};

class RowHalf {
 public:
  static constexpr size_t kBlocksALine = 1;
  RowHalf(const CodedRows& w, size_t r)
      : values_(static_cast<const hwy::bfloat16_t*>(w.codes) + r * static_cast<size_t>(w.columns)) {
  }
  HWY_INLINE void Fetch(size_t b) const { hwy::Prefetch(values_ + b * 32 + kAhead / 2); }
  HWY_INLINE Pair Values(size_t b, size_t i) const {
    const Tag d;
    return {hn::PromoteTo(d, hn::LoadU(Halves(), values_ + b * 32 + i)),
            hn::PromoteTo(d, hn::LoadU(Halves(), values_ + b * 32 + 16 + i))};
  }

 private:
  const hwy::bfloat16_t* values_;
};

template <size_t N, class Row>
void Rows(const CodedRows& w, size_t begin, size_t end, const float* x, float* y) {
  const size_t lanes = hn::Lanes(Tag()), columns = static_cast<size_t>(w.columns);
  for (size_t r = begin; r < end; ++r) {
    const Row row(w, r);
    Sums<N> sums(x, columns);
    for (size_t b = 0; b < columns / 32; ++b) {
      if (b % Row::kBlocksALine == 0) row.Fetch(b);
      for (size_t i = 0; i < 16; i += lanes) {
        const Pair values = row.Values(b, i);
        sums.AddPair(values.low, values.high, b * 32 + i, b * 32 + 16 + i);
      }
    }
    sums.Store(y + r, static_cast<size_t>(w.rows));
  }
}

template <class Row>
void Product(const CodedRows& w, int64_t begin, int64_t end, const float* x, int64_t n, float* y) {
  const auto from = static_cast<size_t>(begin), to = static_cast<size_t>(end);
  while (n > 0) {
    const int64_t some = n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
    if (some == 8) Rows<8, Row>(w, from, to, x, y);
    if (some == 4) Rows<4, Row>(w, from, to, x, y);
    if (some == 2) Rows<2, Row>(w, from, to, x, y);
    if (some == 1) Rows<1, Row>(w, from, to, x, y);
    n -= some;
    x += some * w.columns;
    y += some * w.rows;
  }
}

// One row of w against N rows of x, each with the two chains of sums that a single row has: the
// result of a row does not depend on N. Written out for the compiler to keep them in registers.
template <size_t N, class Row>
void EachRow(const CodedRows& w, size_t begin, size_t end, const float* x, float* y) {
  const Tag d;
  const size_t lanes = hn::Lanes(d), columns = static_cast<size_t>(w.columns);
  const auto stride = static_cast<size_t>(w.rows);
  const float* HWY_RESTRICT from = x;
  for (size_t r = begin; r < end; ++r) {
    const Row row(w, r);
    V a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0;
    V b0 = a0, b1 = a0, b2 = a0, b3 = a0, b4 = a0, b5 = a0, b6 = a0, b7 = a0;
    for (size_t b = 0; b < columns / 32; ++b) {
      if (b % Row::kBlocksALine == 0) row.Fetch(b);
      for (size_t i = 0; i < 16; i += lanes) {
        const Pair v = row.Values(b, i);
        const float* low = from + b * 32 + i;
        const float* high = low + 16;
        const auto add = [&](size_t k, V& s, V& t) HWY_ATTR {
          s = hn::MulAdd(v.low, hn::LoadU(d, low + k * columns), s);
          t = hn::MulAdd(v.high, hn::LoadU(d, high + k * columns), t);
        };
        add(0, a0, b0);
        if constexpr (N > 1) add(1, a1, b1);
        if constexpr (N > 2) {
          add(2, a2, b2);
          add(3, a3, b3);
        }
        if constexpr (N > 4) {
          add(4, a4, b4);
          add(5, a5, b5);
          add(6, a6, b6);
          add(7, a7, b7);
        }
      }
    }
    const auto store = [&](size_t k, V s, V t) HWY_ATTR {
      y[k * stride + r] = hn::GetLane(hn::SumOfLanes(d, hn::Add(s, t)));
    };
    store(0, a0, b0);
    if constexpr (N > 1) store(1, a1, b1);
    if constexpr (N > 2) {
      store(2, a2, b2);
      store(3, a3, b3);
    }
    if constexpr (N > 4) {
      store(4, a4, b4);
      store(5, a5, b5);
      store(6, a6, b6);
      store(7, a7, b7);
    }
  }
}

// Rows of w that stay in the first cache while the rows of x go by.
constexpr size_t kStay = 16;

template <class Row>
void Products(const CodedRows& w, int64_t begin, int64_t end, const float* x, int64_t n, float* y) {
  // As many rows of x as there are registers for two sums each.
  constexpr int64_t kMost = HWY_MAX_BYTES >= 64 ? 8 : 4;
  for (auto from = static_cast<size_t>(begin); from < static_cast<size_t>(end); from += kStay) {
    const size_t to = std::min(from + kStay, static_cast<size_t>(end));
    const float* in = x;
    float* out = y;
    for (int64_t left = n; left > 0;) {
      const int64_t some = left >= kMost ? kMost : left >= 4 ? 4 : left >= 2 ? 2 : 1;
      if (some == 8) EachRow<8, Row>(w, from, to, in, out);
      if (some == 4) EachRow<4, Row>(w, from, to, in, out);
      if (some == 2) EachRow<2, Row>(w, from, to, in, out);
      if (some == 1) EachRow<1, Row>(w, from, to, in, out);
      left -= some;
      in += some * w.columns;
      out += some * w.rows;
    }
  }
}

// Rows of x that are summed up together, and how many blocks of 32 columns: what stays in the first
// cache, in memory of this thread. Were it summed up in x, where another thread's columns begin in
// the line after these, what the processor fetches ahead would be that thread's.
constexpr size_t kTogether = 8, kBlocksTogether = 16;

// Four rows of w at a time, so that what is summed up is loaded and stored once for four of them.
template <class Row>
void BackProduct(const CodedRows& w, size_t first, size_t last, const float* y, size_t n,
                 float* x) {
  const Tag d;
  const size_t lanes = hn::Lanes(d), width = (last - first) * 32;
  const auto rows = static_cast<size_t>(w.rows), columns = static_cast<size_t>(w.columns);
  HWY_ALIGN float sums[kTogether * kBlocksTogether * 32];
  for (size_t k = 0; k < n * width; ++k) sums[k] = 0;
  size_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const Row row0(w, r), row1(w, r + 1), row2(w, r + 2), row3(w, r + 3);
    for (size_t b = first; b < last; ++b)
      for (size_t j = 0; j < 16; j += lanes) {
        const Pair w0 = row0.Values(b, j), w1 = row1.Values(b, j), w2 = row2.Values(b, j),
                   w3 = row3.Values(b, j);
        float* to = sums + (b - first) * 32 + j;
        for (size_t i = 0; i < n; ++i, to += width) {
          const float* from = y + i * rows + r;
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
        float* to = sums + (b - first) * 32 + j;
        for (size_t i = 0; i < n; ++i, to += width) {
          const V factor = hn::Set(d, y[i * rows + r]);
          hn::StoreU(hn::MulAdd(factor, one.low, hn::LoadU(d, to)), d, to);
          hn::StoreU(hn::MulAdd(factor, one.high, hn::LoadU(d, to + 16)), d, to + 16);
        }
      }
  }
  for (size_t i = 0; i < n; ++i) std::copy_n(sums + i * width, width, x + i * columns + first * 32);
}

template <class Row>
void BackProducts(const CodedRows& w, int64_t begin, int64_t end, const float* y, int64_t n,
                  float* x) {
  const auto all = static_cast<size_t>(n);
  const auto rows = static_cast<size_t>(w.rows), columns = static_cast<size_t>(w.columns);
  const auto first = static_cast<size_t>(begin) / 32, last = static_cast<size_t>(end) / 32;
  const size_t parts = (last - first + kBlocksTogether - 1) / kBlocksTogether;
  for (size_t p = 0; p < parts; ++p)
    for (size_t i = 0; i < all; i += kTogether)
      BackProduct<Row>(w, first + (last - first) * p / parts,
                       first + (last - first) * (p + 1) / parts, y + i * rows,
                       std::min(all - i, kTogether), x + i * columns);
}

template <class Row>
void Decode(const CodedRows& w, int64_t begin, int64_t end, float* values) {
  const Tag d;
  const size_t lanes = hn::Lanes(d), blocks = static_cast<size_t>(w.columns) / 32;
  for (auto r = static_cast<size_t>(begin); r < static_cast<size_t>(end); ++r) {
    const Row row(w, r);
    for (size_t b = 0; b < blocks; ++b, values += 32) {
      if (b % Row::kBlocksALine == 0) row.Fetch(b);
      for (size_t i = 0; i < 16; i += lanes) {
        const Pair pair = row.Values(b, i);
        hn::StoreU(pair.low, d, values + i);
        hn::StoreU(pair.high, d, values + 16 + i);
      }
    }
  }
}

// Calls f with a null pointer to the class that reads rows of this kind.
template <class F>
void WithRow(const CodedRows& w, const F& f) {
  switch (w.kind) {
    case CodedRows::Kind::kCodes4:
      return f(static_cast<Row4*>(nullptr));
    case CodedRows::Kind::kCodes8:
      return w.minima != nullptr ? f(static_cast<Row8<true>*>(nullptr))
                                 : f(static_cast<Row8<false>*>(nullptr));
    case CodedRows::Kind::kBFloat16:
      return f(static_cast<RowHalf*>(nullptr));
  }
}

void Forward(const CodedRows& w, int64_t begin, int64_t end, const float* x, int64_t n, float* y) {
  WithRow(w, [&]<class Row>(Row*) { Product<Row>(w, begin, end, x, n, y); });
}

void ForwardEach(const CodedRows& w, int64_t begin, int64_t end, const float* x, int64_t n,
                 float* y) {
  WithRow(w, [&]<class Row>(Row*) { Products<Row>(w, begin, end, x, n, y); });
}

void Back(const CodedRows& w, int64_t begin, int64_t end, const float* y, int64_t n, float* x) {
  WithRow(w, [&]<class Row>(Row*) { BackProducts<Row>(w, begin, end, y, n, x); });
}

void Values(const CodedRows& w, int64_t begin, int64_t end, float* values) {
  WithRow(w, [&]<class Row>(Row*) { Decode<Row>(w, begin, end, values); });
}

}  // namespace HWY_NAMESPACE
}  // namespace accrete::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace accrete::kernels {

HWY_EXPORT(Forward);

void coded_product(const CodedRows& w, int64_t begin, int64_t end, const float* x, int64_t n,
                   float* y) {
  HWY_DYNAMIC_DISPATCH(Forward)(w, begin, end, x, n, y);
}

HWY_EXPORT(ForwardEach);

void coded_products(const CodedRows& w, int64_t begin, int64_t end, const float* x, int64_t n,
                    float* y) {
  HWY_DYNAMIC_DISPATCH(ForwardEach)(w, begin, end, x, n, y);
}

HWY_EXPORT(Back);

void coded_back_product(const CodedRows& w, int64_t begin, int64_t end, const float* y, int64_t n,
                        float* x) {
  HWY_DYNAMIC_DISPATCH(Back)(w, begin, end, y, n, x);
}

HWY_EXPORT(Values);

void coded_values(const CodedRows& w, int64_t begin, int64_t end, float* values) {
  HWY_DYNAMIC_DISPATCH(Values)(w, begin, end, values);
}

}  // namespace accrete::kernels
#endif
