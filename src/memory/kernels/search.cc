#include "memory/kernels/search.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "memory/kernels/cpu.h"

// Highway compiles this file once for each instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "memory/kernels/search.cc"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace accrete::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
// At most 16 lanes: enough for every x86 and Arm target, and a mask then fits in two bytes.
using Tag = hn::CappedTag<float, 16>;
constexpr size_t kMaxLanes = 16;
HWY_ALIGN constexpr int32_t kIota[kMaxLanes] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                8, 9, 10, 11, 12, 13, 14, 15};

// A lower bound on the k-th largest of row: the k-th largest of the maxima of at least 2k disjoint
// groups, which is seldom further down than the 3/2 k-th. -infinity when n is too small for that.
float Threshold(const float* HWY_RESTRICT row, size_t n, size_t k) {
  const Tag d;
  const size_t lanes = hn::Lanes(d);
  const size_t vectors = (2 * k + lanes - 1) / lanes, stride = vectors * lanes;
  if (n < stride) return -std::numeric_limits<float>::infinity();
  HWY_ALIGN float groups[2 * kMaxTopK + kMaxLanes];
  for (size_t v = 0; v < stride; v += lanes) {
    auto best = hn::LoadU(d, row + v);
    for (size_t i = stride + v; i + lanes <= n; i += stride)
      best = hn::Max(best, hn::LoadU(d, row + i));
    hn::Store(best, d, groups + v);
  }
  float bound = -std::numeric_limits<float>::infinity();
  for (size_t g = 0; g < stride; ++g) {
    const auto at = hn::Set(d, groups[g]);
    size_t above = 0;
    for (size_t v = 0; v < stride; v += lanes)
      above += hn::CountTrue(d, hn::Ge(hn::Load(d, groups + v), at));
    bound = above >= k && groups[g] > bound ? groups[g] : bound;
  }
  return bound;
}

// The k largest of `count` values, descending, equal ones in their order, and their positions. Each
// is put where it belongs by how many are larger: no branch depends on the values. `from` has room
// for a vector more.
size_t Largest(float* HWY_RESTRICT from, const int32_t* HWY_RESTRICT at, size_t count, size_t k,
               float* HWY_RESTRICT values, int32_t* HWY_RESTRICT positions) {
  const Tag d;
  const size_t lanes = hn::Lanes(d);
  std::fill_n(from + count, lanes, -std::numeric_limits<float>::infinity());
  const size_t found = std::min(count, k);
  std::fill_n(positions, found, -1);
  for (size_t i = 0; i < count; ++i) {
    const auto own = hn::Set(d, from[i]);
    size_t rank = 0;
    for (size_t v = 0; v < count; v += lanes)
      rank += hn::CountTrue(d, hn::Gt(hn::LoadU(d, from + v), own));
    while (rank < found && positions[rank] >= 0) ++rank;  // taken by an equal one
    if (rank >= found) continue;
    values[rank] = from[i];
    positions[rank] = at[i];
  }
  return found;
}

// Values that may be among the k largest, and their positions, ascending among equal values.
struct Kept {
  static constexpr size_t kRoom = 128;
  float values[kRoom + 2 * kMaxLanes];
  int32_t positions[kRoom + 2 * kMaxLanes];
  size_t count = 0;

  bool Full() const { return count > kRoom; }

  // Only the k largest stay; returns the least of them.
  float Shrink(size_t k) {
    float best[kMaxTopK];
    int32_t where[kMaxTopK];
    count = Largest(values, positions, count, k, best, where);
    std::copy_n(best, count, values);
    std::copy_n(where, count, positions);
    return values[count - 1];
  }

  // Appends what is at least `least` of the vector at position i.
  template <class V>
  HWY_INLINE void AddAtLeast(V v, V least, size_t i) {
    const Tag d;
    const hn::RebindToSigned<Tag> di;
    const auto hit = hn::Ge(v, least);
    if (HWY_LIKELY(hn::AllFalse(d, hit))) return;
    const auto at = hn::Add(hn::Load(di, kIota), hn::Set(di, static_cast<int32_t>(i)));
    hn::StoreU(hn::Compress(v, hit), d, values + count);
    hn::StoreU(hn::Compress(at, hn::RebindMask(di, hit)), di, positions + count);
    count += hn::CountTrue(d, hit);
  }
};

size_t TopKRow(const float* HWY_RESTRICT row, size_t n, size_t k, float* HWY_RESTRICT values,
               int32_t* HWY_RESTRICT positions) {
  const Tag d;
  const size_t lanes = hn::Lanes(d);
  Kept kept;
  auto least = hn::Set(d, Threshold(row, n, k));
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    kept.AddAtLeast(hn::LoadU(d, row + i), least, i);
    if (HWY_UNLIKELY(kept.Full())) least = hn::Set(d, kept.Shrink(k));
  }
  for (; i < n; ++i) {
    kept.values[kept.count] = row[i];
    kept.positions[kept.count] = static_cast<int32_t>(i);
    kept.count += row[i] >= hn::GetLane(least) ? 1 : 0;
  }
  return Largest(kept.values, kept.positions, kept.count, k, values, positions);
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

// The best half-keys of one half.
struct List {
  const float* values;
  const int32_t* positions;
};

// A head's lists to its accesses.
void WriteAccesses(const List& a, const List& b, const ProductShape& shape, int64_t head,
                   Pairs& best, int32_t* slots, float* weights) {
  const size_t k = static_cast<size_t>(shape.top_k);
  CartesianTopK(a.values, a.positions, b.values, b.positions, k, static_cast<int32_t>(shape.n),
                best);
  float sum = 0;
  for (size_t i = 0; i < k; ++i) {
    weights[i] = std::exp(best.score[i] - best.score[0]);
    sum += weights[i];
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.heads));
  const int32_t first = static_cast<int32_t>(head * shape.n * shape.n);
  for (size_t i = 0; i < k; ++i) {
    slots[i] = first + best.slot[i];
    weights[i] *= scale / sum;
  }
}

bool Complete(const float* values, size_t found, size_t k) {
  return found == k && std::isfinite(values[0]) && std::isfinite(values[k - 1]);
}

void NoAccesses(const ProductShape& shape, int64_t t, int32_t* slots, float* weights) {
  const int64_t K = shape.heads * shape.top_k;
  std::fill_n(slots + t * K, K, -1);
  std::fill_n(weights + t * K, K, 0.0f);
}

int64_t ProductTopK(const float* scores, const ProductShape& shape, const bool* keep,
                    int32_t* slots, float* weights) {
  const size_t n = static_cast<size_t>(shape.n), k = static_cast<size_t>(shape.top_k);
  const int64_t K = shape.heads * shape.top_k;
  float value[2][kMaxTopK];
  int32_t position[2][kMaxTopK];
  Pairs best;
  int64_t bad_tokens = 0;
  for (int64_t t = 0; t < shape.tokens; ++t) {
    bool have = keep == nullptr || keep[t];
    for (int64_t h = 0; have && h < shape.heads; ++h) {
      for (int64_t half = 0; half < 2; ++half) {
        const float* row = scores + ((h * 2 + half) * shape.tokens + t) * shape.n;
        have = Complete(value[half], TopKRow(row, n, k, value[half], position[half]), k) && have;
      }
      if (have) {
        const int64_t at = t * K + h * shape.top_k;
        WriteAccesses({value[0], position[0]}, {value[1], position[1]}, shape, h, best, slots + at,
                      weights + at);
      } else {
        ++bad_tokens;
      }
    }
    if (!have) NoAccesses(shape, t, slots, weights);
  }
  return bad_tokens;
}

// One half-query's k best of the half-keys that the told scores do not rule out.
struct Rescored {
  const float* HWY_RESTRICT keys;  // [n, width]
  const float* HWY_RESTRICT bias;
  size_t n, width;
  int32_t* HWY_RESTRICT candidates;  // room for n and a vector
  float* HWY_RESTRICT scores;        // of the candidates; room for n

  size_t Candidates(const float* HWY_RESTRICT told, size_t padded, size_t k, float margin) const {
    const Tag d;
    const hn::RebindToSigned<Tag> di;
    const size_t lanes = hn::Lanes(d);
    const float limit = Threshold(told, padded, k) - 2 * margin;
    size_t count = 0;
    // Sums of large numbers may overflow: all are candidates then.
    if (!std::isfinite(limit)) {
      for (; count < n; ++count) candidates[count] = static_cast<int32_t>(count);
      return count;
    }
    const auto least = hn::Set(d, limit);
    for (size_t i = 0; i < padded; i += lanes) {
      const auto hit = hn::Ge(hn::LoadU(d, told + i), least);
      if (HWY_LIKELY(hn::AllFalse(d, hit))) continue;
      const auto at = hn::Add(hn::Load(di, kIota), hn::Set(di, static_cast<int32_t>(i)));
      hn::StoreU(hn::Compress(at, hn::RebindMask(di, hit)), di, candidates + count);
      count += hn::CountTrue(d, hit);
    }
    return count;
  }

  size_t TopK(const float* HWY_RESTRICT q, size_t count, size_t k, float* values,
              int32_t* positions) const {
    row_dots(keys, static_cast<int64_t>(width), candidates, q, 1, static_cast<int64_t>(count),
             scores);
    for (size_t c = 0; c < count; ++c) scores[c] += bias[candidates[c]];
    const size_t found = TopKRow(scores, count, k, values, positions);
    for (size_t i = 0; i < found; ++i) positions[i] = candidates[positions[i]];
    return found;
  }
};

int64_t CodedProductTopK(const KeyCodes& codes, const float* keys, const float* bias,
                         const float* q, const ProductShape& shape, const bool* keep,
                         int32_t* slots, float* weights) {
  constexpr int64_t kTogether = 8;  // tokens; their told scores stay in the nearest cache
  const size_t k = static_cast<size_t>(shape.top_k), n = static_cast<size_t>(shape.n);
  const int64_t K = shape.heads * shape.top_k, width = codes.width, T = shape.tokens;
  const int64_t padded = codes.groups * KeyCodes::kGroup, bytes = codes.quads * 4;
  std::vector<float> told(static_cast<size_t>(kTogether * codes.stride()));
  std::vector<uint8_t> query_codes(static_cast<size_t>(kTogether * bytes));
  std::vector<int32_t> candidates(n + kMaxLanes);
  std::vector<float> scores(n);
  std::vector<float> values(static_cast<size_t>(2 * T) * k);  // [2, T, k]
  std::vector<int32_t> positions(values.size());
  enum class State : uint8_t { kHave, kPadding, kBad };
  std::vector<State> state(static_cast<size_t>(T), State::kHave);
  for (int64_t t = 0; keep != nullptr && t < T; ++t)
    if (!keep[t]) state[static_cast<size_t>(t)] = State::kPadding;
  QueryCode queries[kTogether];
  Pairs best;
  const int64_t stride = shape.heads * 2 * width;
  for (int64_t h = 0; h < shape.heads; ++h) {
    // All tokens with one half, so that its keys are read from a near cache.
    for (int64_t of = 2 * h; of < 2 * h + 2; ++of) {
      const Rescored rescored{keys + of * shape.n * width, bias + of * shape.n, n,
                              static_cast<size_t>(width),  candidates.data(),   scores.data()};
      for (int64_t first = 0; first < T; first += kTogether) {
        const int64_t here = std::min(kTogether, T - first);
        const float* from = q + first * stride + of * width;
        for (int64_t t = 0; t < here; ++t)
          queries[t] = query_code(codes, of, from + t * stride, query_codes.data() + t * bytes);
        told_scores(codes, of, query_codes.data(), queries, here, told.data());
        for (int64_t t = 0; t < here; ++t) {
          State& of_token = state[static_cast<size_t>(first + t)];
          if (of_token != State::kHave) continue;
          const size_t list = static_cast<size_t>((of % 2) * T + first + t) * k;
          const size_t count = rescored.Candidates(
              told.data() + t * codes.stride(), static_cast<size_t>(padded), k, queries[t].margin);
          const size_t found = rescored.TopK(from + t * stride, count, k, values.data() + list,
                                             positions.data() + list);
          if (!queries[t].finite || !Complete(values.data() + list, found, k))
            of_token = State::kBad;
        }
      }
    }
    for (int64_t t = 0; t < T; ++t) {
      if (state[static_cast<size_t>(t)] != State::kHave) continue;
      const size_t one = static_cast<size_t>(t) * k, other = static_cast<size_t>(T + t) * k;
      const int64_t at = t * K + h * shape.top_k;
      WriteAccesses({values.data() + one, positions.data() + one},
                    {values.data() + other, positions.data() + other}, shape, h, best, slots + at,
                    weights + at);
    }
  }
  int64_t bad_tokens = 0;
  for (int64_t t = 0; t < T; ++t) {
    if (state[static_cast<size_t>(t)] == State::kHave) continue;
    NoAccesses(shape, t, slots, weights);
    bad_tokens += state[static_cast<size_t>(t)] == State::kBad ? 1 : 0;
  }
  return bad_tokens;
}

}  // namespace HWY_NAMESPACE
}  // namespace accrete::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace accrete::kernels {

HWY_EXPORT(TopK);
HWY_EXPORT(ProductTopK);
HWY_EXPORT(CodedProductTopK);

int64_t top_k(const float* row, int64_t n, int64_t k, float* values, int32_t* positions) {
  return HWY_DYNAMIC_DISPATCH(TopK)(row, n, k, values, positions);
}

int64_t product_top_k(const float* scores, const ProductShape& shape, const bool* keep,
                      int32_t* slots, float* weights) {
  return HWY_DYNAMIC_DISPATCH(ProductTopK)(scores, shape, keep, slots, weights);
}

int64_t product_top_k(const KeyCodes& codes, const float* keys, const float* bias, const float* q,
                      const ProductShape& shape, const bool* keep, int32_t* slots, float* weights) {
  return HWY_DYNAMIC_DISPATCH(CodedProductTopK)(codes, keys, bias, q, shape, keep, slots, weights);
}

}  // namespace accrete::kernels
#endif  // HWY_ONCE
