#include "model/kernels/rows.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

// Highway compiles this file once for each instruction set; the order of its headers matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/kernels/rows.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace accrete::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::ScalableTag<float>;
using One = hn::CappedTag<float, 1>;

// Calls f(tag, i) for whole vectors and then for what is left, element by element.
template <class F>
HWY_INLINE void ForEach(size_t n, const F& f) {
  const Tag d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) f(d, i);
  for (; i < n; ++i) f(One(), i);
}

HWY_INLINE float Dot(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, size_t n) {
  const Tag d;
  const size_t lanes = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    s0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s0);
    s1 = hn::MulAdd(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes), s1);
  }
  for (; i + lanes <= n; i += lanes) s0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s0);
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// to += factor * from
HWY_INLINE void AddScaled(float factor, const float* HWY_RESTRICT from, size_t n,
                          float* HWY_RESTRICT to) {
  ForEach(n, [&](auto d, size_t i) {
    hn::StoreU(hn::MulAdd(hn::Set(d, factor), hn::LoadU(d, from + i), hn::LoadU(d, to + i)), d,
               to + i);
  });
}

void RmsNorm(const float* x, const float* weight, int64_t rows, int64_t width, float eps,
             float* out, float* inverse) {
  const auto n = static_cast<size_t>(width);
  for (int64_t r = 0; r < rows; ++r) {
    const float* HWY_RESTRICT row = x + r * width;
    float* HWY_RESTRICT to = out + r * width;
    const float scale = 1.0F / std::sqrt(Dot(row, row, n) / static_cast<float>(width) + eps);
    if (inverse != nullptr) inverse[r] = scale;
    ForEach(n, [&](auto d, size_t i) {
      hn::StoreU(
          hn::Mul(hn::Mul(hn::LoadU(d, row + i), hn::Set(d, scale)), hn::LoadU(d, weight + i)), d,
          to + i);
    });
  }
}

void RmsNormBackward(const float* x, const float* weight, const float* inverse,
                     const float* gradient, int64_t rows, int64_t width, float* dx) {
  const auto n = static_cast<size_t>(width);
  for (int64_t r = 0; r < rows; ++r) {
    const float* HWY_RESTRICT row = x + r * width;
    const float* HWY_RESTRICT g = gradient + r * width;
    float* HWY_RESTRICT to = dx + r * width;
    // sum of g w x
    const Tag d;
    const size_t lanes = hn::Lanes(d);
    auto sums = hn::Zero(d);
    size_t i = 0;
    for (; i + lanes <= n; i += lanes)
      sums = hn::MulAdd(hn::Mul(hn::LoadU(d, g + i), hn::LoadU(d, weight + i)),
                        hn::LoadU(d, row + i), sums);
    float sum = hn::GetLane(hn::SumOfLanes(d, sums));
    for (; i < n; ++i) sum += g[i] * weight[i] * row[i];
    const float s = inverse[r];
    const float along = -sum * s * s * s / static_cast<float>(width);
    ForEach(n, [&](auto t, size_t k) {
      const auto own =
          hn::Mul(hn::Mul(hn::LoadU(t, g + k), hn::LoadU(t, weight + k)), hn::Set(t, s));
      hn::StoreU(
          hn::Add(hn::LoadU(t, to + k), hn::MulAdd(hn::LoadU(t, row + k), hn::Set(t, along), own)),
          t, to + k);
    });
  }
}

template <class D, class V>
HWY_INLINE V Sigmoid(D d, V x) {
  // Exp is defined up to 104 only; beyond 88 the quotient is zero to float's precision anyway.
  const auto one = hn::Set(d, 1.0F);
  return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Min(hn::Neg(x), hn::Set(d, 88.0F)))));
}

void SwiGlu(const float* gate, const float* up, int64_t n, float* out) {
  ForEach(static_cast<size_t>(n), [&](auto d, size_t i) {
    const auto g = hn::LoadU(d, gate + i);
    hn::StoreU(hn::Mul(hn::Mul(g, Sigmoid(d, g)), hn::LoadU(d, up + i)), d, out + i);
  });
}

void SwiGluBackward(const float* gradient, int64_t n, float* gate, float* up) {
  ForEach(static_cast<size_t>(n), [&](auto d, size_t i) {
    const auto g = hn::LoadU(d, gate + i);
    const auto grad = hn::LoadU(d, gradient + i);
    const auto s = Sigmoid(d, g);
    const auto one = hn::Set(d, 1.0F);
    const auto slope = hn::Mul(s, hn::MulAdd(g, hn::Sub(one, s), one));
    hn::StoreU(hn::Mul(hn::Mul(grad, hn::LoadU(d, up + i)), slope), d, gate + i);
    hn::StoreU(hn::Mul(grad, hn::Mul(g, s)), d, up + i);
  });
}

void RotateRow(float* x, int64_t heads, int64_t head_dim, const float* cos, const float* sin,
               float direction) {
  const auto half = static_cast<size_t>(head_dim / 2);
  for (int64_t h = 0; h < heads; ++h) {
    float* a = x + h * head_dim;
    float* b = a + half;
    ForEach(half, [&](auto d, size_t i) {
      const auto p = hn::LoadU(d, a + i), q = hn::LoadU(d, b + i);
      const auto c = hn::LoadU(d, cos + i);
      const auto s = hn::Mul(hn::LoadU(d, sin + i), hn::Set(d, direction));
      hn::StoreU(hn::NegMulAdd(q, s, hn::Mul(p, c)), d, a + i);
      hn::StoreU(hn::MulAdd(p, s, hn::Mul(q, c)), d, b + i);
    });
  }
}

// p[0, n) becomes its softmax.
void Softmax(float* HWY_RESTRICT p, size_t n) {
  float most = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < n; ++i) most = std::max(most, p[i]);
  if (std::isinf(most)) {  // nothing is seen
    std::fill_n(p, n, 0.0F);
    return;
  }
  ForEach(n, [&](auto d, size_t i) {
    hn::StoreU(hn::Exp(d, hn::Sub(hn::LoadU(d, p + i), hn::Set(d, most))), d, p + i);
  });
  float sum = 0;
  for (size_t i = 0; i < n; ++i) sum += p[i];
  const float scale = 1.0F / sum;
  for (size_t i = 0; i < n; ++i) p[i] *= scale;
}

float CrossEntropy(float* HWY_RESTRICT logits, int64_t n, int64_t label, float share) {
  const Tag d;
  const size_t lanes = hn::Lanes(d), count = static_cast<size_t>(n);
  auto most_of = hn::Set(d, -std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) most_of = hn::Max(most_of, hn::LoadU(d, logits + i));
  float most = hn::GetLane(hn::MaxOfLanes(d, most_of));
  for (; i < count; ++i) most = std::max(most, logits[i]);
  const float at_label = logits[label];
  auto sums = hn::Zero(d);
  const auto shift = hn::Set(d, most);
  for (i = 0; i + lanes <= count; i += lanes) {
    const auto e = hn::Exp(d, hn::Sub(hn::LoadU(d, logits + i), shift));
    sums = hn::Add(sums, e);
    hn::StoreU(e, d, logits + i);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (; i < count; ++i) sum += logits[i] = std::exp(logits[i] - most);
  const float scale = share / sum;
  ForEach(count, [&](auto t, size_t k) {
    hn::StoreU(hn::Mul(hn::LoadU(t, logits + k), hn::Set(t, scale)), t, logits + k);
  });
  logits[label] -= share;
  return most + std::log(sum) - at_label;
}

int64_t KeyCount(const AttentionShape& shape, const KeySegment* segments) {
  int64_t keys = 0;
  for (int64_t s = 0; s < shape.segments; ++s) keys += segments[s].tokens;
  return keys;
}

void Attend(const AttentionShape& shape, const float* q, const KeySegment* segments,
            const bool* keep, float* probabilities, float* out) {
  const int64_t S = KeyCount(shape, segments);
  const auto D = static_cast<size_t>(shape.head_dim);
  const float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  for (int64_t t = 0; t < shape.tokens; ++t) {
    const int64_t seen = S - shape.tokens + t + 1;
    for (int64_t g = 0; g < shape.group; ++g) {
      const float* query = q + t * shape.q_stride + g * shape.head_dim;
      float* p = probabilities + (t * shape.group + g) * S;
      int64_t j = 0;
      for (int64_t s = 0; s < shape.segments && j < seen; ++s) {
        const int64_t n = std::min(segments[s].tokens, seen - j);
        const float* k = segments[s].k;
        for (int64_t i = 0; i < n; ++i, ++j)
          p[j] = keep != nullptr && !keep[j] ? -std::numeric_limits<float>::infinity()
                                             : scale * Dot(query, k + i * segments[s].stride, D);
      }
      Softmax(p, static_cast<size_t>(seen));
      std::fill(p + seen, p + S, 0.0F);
      float* to = out + t * shape.out_stride + g * shape.head_dim;
      std::fill_n(to, D, 0.0F);
      j = 0;
      for (int64_t s = 0; s < shape.segments && j < seen; ++s) {
        const int64_t n = std::min(segments[s].tokens, seen - j);
        for (int64_t i = 0; i < n; ++i, ++j)
          AddScaled(p[j], segments[s].v + i * segments[s].stride, D, to);
      }
    }
  }
}

void AttendBackward(const AttentionShape& shape, const float* q, const KeySegment* segments,
                    const float* probabilities, const float* gradient, int64_t own_stride,
                    float* dq, float* dk, float* dv) {
  const int64_t S = KeyCount(shape, segments), past = S - shape.tokens;
  const auto D = static_cast<size_t>(shape.head_dim);
  const float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  std::vector<float> dp(static_cast<size_t>(S));
  for (int64_t t = 0; t < shape.tokens; ++t) {
    std::fill_n(dk + t * own_stride, D, 0.0F);
    std::fill_n(dv + t * own_stride, D, 0.0F);
  }
  for (int64_t t = 0; t < shape.tokens; ++t) {
    const int64_t seen = past + t + 1;
    for (int64_t g = 0; g < shape.group; ++g) {
      const int64_t at = g * shape.head_dim;
      const float* query = q + t * shape.q_stride + at;
      const float* grad = gradient + t * shape.out_stride + at;
      const float* p = probabilities + (t * shape.group + g) * S;
      float* to = dq + t * shape.q_stride + at;
      std::fill_n(to, D, 0.0F);
      // The gradient of p_j is grad . v_j; what all of them have in common is left out.
      float common = 0;
      int64_t j = 0;
      for (int64_t s = 0; s < shape.segments && j < seen; ++s) {
        const int64_t n = std::min(segments[s].tokens, seen - j);
        for (int64_t i = 0; i < n; ++i, ++j) {
          dp[static_cast<size_t>(j)] = Dot(grad, segments[s].v + i * segments[s].stride, D);
          common += p[j] * dp[static_cast<size_t>(j)];
        }
      }
      j = 0;
      for (int64_t s = 0; s < shape.segments && j < seen; ++s) {
        const int64_t n = std::min(segments[s].tokens, seen - j);
        for (int64_t i = 0; i < n; ++i, ++j) {
          const float ds = scale * p[j] * (dp[static_cast<size_t>(j)] - common);
          AddScaled(ds, segments[s].k + i * segments[s].stride, D, to);
          if (j < past) continue;
          AddScaled(ds, query, D, dk + (j - past) * own_stride);
          AddScaled(p[j], grad, D, dv + (j - past) * own_stride);
        }
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace accrete::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace accrete::kernels {

HWY_EXPORT(RmsNorm);
HWY_EXPORT(RmsNormBackward);
HWY_EXPORT(SwiGlu);
HWY_EXPORT(SwiGluBackward);
HWY_EXPORT(RotateRow);
HWY_EXPORT(Attend);
HWY_EXPORT(AttendBackward);
HWY_EXPORT(CrossEntropy);

void rms_norm_rows(const float* x, const float* weight, int64_t rows, int64_t d, float eps,
                   float* out, float* inverse) {
  HWY_DYNAMIC_DISPATCH(RmsNorm)(x, weight, rows, d, eps, out, inverse);
}

void rms_norm_rows_backward(const float* x, const float* weight, const float* inverse,
                            const float* gradient, int64_t rows, int64_t d, float* dx) {
  HWY_DYNAMIC_DISPATCH(RmsNormBackward)(x, weight, inverse, gradient, rows, d, dx);
}

void swiglu(const float* gate, const float* up, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(SwiGlu)(gate, up, n, out);
}

void swiglu_backward(const float* gradient, int64_t n, float* gate, float* up) {
  HWY_DYNAMIC_DISPATCH(SwiGluBackward)(gradient, n, gate, up);
}

void rotate_row(float* x, int64_t heads, int64_t head_dim, const float* cos, const float* sin,
                float direction) {
  HWY_DYNAMIC_DISPATCH(RotateRow)(x, heads, head_dim, cos, sin, direction);
}

void attend(const AttentionShape& shape, const float* q, const KeySegment* segments,
            const bool* keep, float* probabilities, float* out) {
  HWY_DYNAMIC_DISPATCH(Attend)(shape, q, segments, keep, probabilities, out);
}

void attend_backward(const AttentionShape& shape, const float* q, const KeySegment* segments,
                     const float* probabilities, const float* gradient, int64_t own_stride,
                     float* dq, float* dk, float* dv) {
  HWY_DYNAMIC_DISPATCH(AttendBackward)
  (shape, q, segments, probabilities, gradient, own_stride, dq, dk, dv);
}

float cross_entropy(float* logits, int64_t n, int64_t label, float share) {
  return HWY_DYNAMIC_DISPATCH(CrossEntropy)(logits, n, label, share);
}

}  // namespace accrete::kernels
#endif  // HWY_ONCE
