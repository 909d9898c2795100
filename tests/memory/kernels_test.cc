#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>
#include <vector>

#include "base/rng.h"
#include "memory/kernels/cpu.h"
#include "memory/kernels/search.h"
#include "random_floats.h"

namespace accrete::kernels {
namespace {

// Every test runs on every instruction set that this CPU has.
class Kernels : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { use_target(GetParam()); }
  void TearDown() override { use_target(""); }
};

INSTANTIATE_TEST_SUITE_P(Targets, Kernels, ::testing::ValuesIn(targets()),
                         [](const auto& test) { return test.param; });

// Small integers, so that sums are exact and ties are common.
std::vector<float> small_integers(size_t count, int range, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> out(count);
  for (float& v : out)
    v = static_cast<float>(rng.below(static_cast<uint64_t>(range))) - static_cast<float>(range / 2);
  return out;
}

using testing::normal_floats;

std::vector<int32_t> sorted_positions(const std::vector<float>& row) {
  std::vector<int32_t> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)];
  });
  return order;
}

TEST_P(Kernels, TopKIsTheHeadOfAStableSort) {
  for (const int64_t n : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 256, 511, 1024, 2048})
    for (const int64_t k : {1, 2, 3, 5, 8, 13, 16, 31, 32, 64}) {
      if (k > n) continue;
      for (const int range : {1, 3, 50, 1 << 20}) {
        const auto row = small_integers(static_cast<size_t>(n), range,
                                        static_cast<uint64_t>(n * 1000 + k * 7 + range));
        std::vector<float> values(kMaxTopK, -1);
        std::vector<int32_t> positions(kMaxTopK, -1);
        ASSERT_EQ(top_k(row.data(), n, k, values.data(), positions.data()), k);
        const auto expected = sorted_positions(row);
        for (size_t i = 0; i < static_cast<size_t>(k); ++i) {
          ASSERT_EQ(positions[i], expected[i]) << "n " << n << " k " << k << " range " << range;
          ASSERT_EQ(values[i], row[static_cast<size_t>(expected[i])]);
        }
        for (size_t i = static_cast<size_t>(k); i < kMaxTopK; ++i) ASSERT_EQ(positions[i], -1);
      }
    }
}

TEST_P(Kernels, TopKOfSortedAndInfiniteRows) {
  std::vector<float> up(300), down(300), floor(300, -std::numeric_limits<float>::infinity());
  std::iota(up.begin(), up.end(), 0.0f);
  std::reverse_copy(up.begin(), up.end(), down.begin());
  float values[kMaxTopK];
  int32_t positions[kMaxTopK];
  ASSERT_EQ(top_k(up.data(), 300, 4, values, positions), 4);
  EXPECT_EQ(positions[0], 299);
  EXPECT_EQ(positions[3], 296);
  ASSERT_EQ(top_k(down.data(), 300, 4, values, positions), 4);
  EXPECT_EQ(positions[0], 0);
  EXPECT_EQ(positions[3], 3);
  floor[200] = 1;
  ASSERT_EQ(top_k(floor.data(), 300, 4, values, positions), 4);
  EXPECT_EQ(positions[0], 200);
  EXPECT_EQ(positions[1], 0);
  EXPECT_EQ(positions[3], 2);
}

TEST_P(Kernels, TopKOfNaNsStaysInBounds) {
  const float nan = std::nanf("");
  for (const size_t n : {5u, 8u, 40u, 257u}) {
    std::vector<float> row(n, nan);
    float values[kMaxTopK];
    int32_t positions[kMaxTopK];
    EXPECT_EQ(top_k(row.data(), static_cast<int64_t>(n), 4, values, positions), 0);
    row[n / 2] = 1;
    EXPECT_LE(top_k(row.data(), static_cast<int64_t>(n), 4, values, positions), 1);
  }
}

// The definition: every pair's sum, sorted by (sum, slot).
void brute_force(const std::vector<float>& a, const std::vector<float>& b, int64_t k,
                 std::vector<int32_t>& slots, std::vector<float>& scores) {
  std::vector<std::tuple<float, int32_t>> all;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < b.size(); ++j)
      all.emplace_back(-(a[i] + b[j]), static_cast<int32_t>(i * b.size() + j));
  std::sort(all.begin(), all.end());
  slots.clear();
  scores.clear();
  for (size_t i = 0; i < static_cast<size_t>(k); ++i) {
    scores.push_back(-std::get<0>(all[i]));
    slots.push_back(std::get<1>(all[i]));
  }
}

TEST_P(Kernels, ProductTopKIsTheDefinition) {
  const int64_t tokens = 5, heads = 3;
  for (const int64_t n : {2, 5, 16, 33, 100})
    for (const int64_t k : {1, 2, 3, 8, 17, 32}) {
      if (k > n) continue;
      for (const int range : {2, 9, 1000}) {
        const ProductShape shape{tokens, heads, n, k};
        const auto scores = small_integers(static_cast<size_t>(heads * 2 * tokens * n), range,
                                           static_cast<uint64_t>(n * 31 + k * 7 + range));
        std::vector<int32_t> slots(static_cast<size_t>(tokens * heads * k));
        std::vector<float> weights(slots.size());
        ASSERT_EQ(product_top_k(scores.data(), shape, nullptr, slots.data(), weights.data()), 0);
        for (int64_t t = 0; t < tokens; ++t)
          for (int64_t h = 0; h < heads; ++h) {
            const auto half = [&](int64_t s) {
              const auto from = scores.begin() + ((h * 2 + s) * tokens + t) * n;
              return std::vector<float>(from, from + n);
            };
            std::vector<int32_t> expected;
            std::vector<float> sums;
            brute_force(half(0), half(1), k, expected, sums);
            double total = 0;
            for (const float s : sums) total += std::exp(static_cast<double>(s - sums[0]));
            for (int64_t i = 0; i < k; ++i) {
              const auto at = static_cast<size_t>((t * heads + h) * k + i);
              const auto s = static_cast<size_t>(i);
              ASSERT_EQ(slots[at], h * n * n + expected[s]) << "n " << n << " k " << k;
              ASSERT_NEAR(weights[at],
                          std::exp(static_cast<double>(sums[s] - sums[0])) / total / std::sqrt(3.0),
                          1e-6);
            }
          }
      }
    }
}

TEST_P(Kernels, ProductTopKLeavesOutPaddingAndReportsNaN) {
  const ProductShape shape{3, 2, 20, 4};
  auto scores = normal_floats(static_cast<size_t>(2 * 2 * 3 * 20), 5);
  const auto row = [&](int64_t h, int64_t half, int64_t t) {
    return scores.begin() + ((h * 2 + half) * 3 + t) * 20;
  };
  std::fill_n(row(1, 0, 0), 20, std::nanf(""));
  std::fill_n(row(0, 0, 1), 20, std::nanf(""));
  const bool keep[] = {true, false, true};
  std::vector<int32_t> slots(24, 7);
  std::vector<float> weights(24, 7);
  EXPECT_EQ(product_top_k(scores.data(), shape, keep, slots.data(), weights.data()), 1);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(slots[i], -1);
    EXPECT_EQ(weights[i], 0);
  }
  for (size_t i = 16; i < 24; ++i) EXPECT_GE(slots[i], 0);
  *row(1, 1, 2) = std::numeric_limits<float>::infinity();
  EXPECT_EQ(product_top_k(scores.data(), shape, keep, slots.data(), weights.data()), 2);
}

TEST_P(Kernels, MaybeNearMissesNoneThatIs) {
  int64_t told = 0, near = 0, pairs = 0;
  for (const int64_t d : {1, 3, 8, 17, 128, 300})
    for (const int64_t n : {1, 7, 16})
      for (const int64_t T : {1, 4, 9}) {
        const auto table = normal_floats(static_cast<size_t>(n * d), 1);
        auto q = normal_floats(static_cast<size_t>(T * d), 2);
        for (int64_t i = 0; i < d; ++i)  // the last of each is the same
          q[static_cast<size_t>((T - 1) * d + i)] = table[static_cast<size_t>((n - 1) * d + i)];
        const float limit = 0.15F * static_cast<float>(d);
        std::vector<uint16_t> maybe(static_cast<size_t>(T), 0xffff);
        maybe_near(q.data(), T, table.data(), d, n, limit, maybe.data());
        for (int64_t t = 0; t < T; ++t) {
          EXPECT_EQ(maybe[static_cast<size_t>(t)] >> n, 0);
          for (int64_t r = 0; r < n; ++r) {
            float square = 0;
            squared_distances(q.data() + t * d, table.data() + r * d, d, 1,
                              std::numeric_limits<float>::infinity(), &square);
            const bool said = (maybe[static_cast<size_t>(t)] >> r & 1) != 0;
            EXPECT_TRUE(said || square >= limit);
            told += d >= 128 && said ? 1 : 0;
            near += d >= 128 && square < limit ? 1 : 0;
            pairs += d >= 128 ? 1 : 0;
          }
        }
      }
  EXPECT_GE(near, 18);
  EXPECT_LT(told - near, pairs / 20);  // and of many coordinates names few others
}

TEST_P(Kernels, SquaredDistances) {
  for (const int64_t d : {1, 3, 8, 15, 16, 17, 64, 128, 131})
    for (const int64_t n : {1, 2, 5}) {
      const auto q = normal_floats(static_cast<size_t>(d), 1);
      const auto table = normal_floats(static_cast<size_t>(n * d), 2);
      std::vector<float> got(static_cast<size_t>(n), std::nanf(""));
      const float far = std::numeric_limits<float>::infinity();
      squared_distances(q.data(), table.data(), d, n, far, got.data());
      // The same bits below a limit; above it anything that is.
      const float limit = got[0] + 1e-3F * got[0] + 1e-6F;
      std::vector<float> near(static_cast<size_t>(n), std::nanf(""));
      squared_distances(q.data(), table.data(), d, n, limit, near.data());
      for (size_t r = 0; r < near.size(); ++r) {
        if (got[r] < limit)
          EXPECT_EQ(near[r], got[r]);
        else
          EXPECT_GE(near[r], limit);
      }
      for (int64_t r = 0; r < n; ++r) {
        double expected = 0;
        for (int64_t c = 0; c < d; ++c) {
          const double apart = static_cast<double>(q[static_cast<size_t>(c)]) -
                               table[static_cast<size_t>(r * d + c)];
          expected += apart * apart;
        }
        ASSERT_NEAR(got[static_cast<size_t>(r)], expected, 1e-6 * expected + 1e-6);
      }
    }
}

TEST_P(Kernels, WeightedSumsAndDots) {
  Rng rng(3);
  for (const int64_t d : {1, 3, 4, 7, 8, 15, 16, 17, 33, 64, 576, 577})
    for (const int64_t per_token : {1, 2, 3, 4, 5, 8, 31, 32}) {
      const int64_t tokens = 4, R = 9;
      auto table = normal_floats(static_cast<size_t>(R * d), static_cast<uint64_t>(d));
      // Row R - 1 is never named: it must not be read into any sum.
      std::fill_n(table.end() - d, d, std::nanf(""));
      const auto grad =
          normal_floats(static_cast<size_t>(tokens * d), static_cast<uint64_t>(d + 1));
      std::vector<int32_t> rows(static_cast<size_t>(tokens * per_token));
      auto weights = normal_floats(rows.size(), static_cast<uint64_t>(d + 2));
      for (int32_t& r : rows) r = static_cast<int32_t>(rng.below(R)) - 1;
      for (size_t k = 0; k < static_cast<size_t>(per_token); ++k) rows[k] = -1;
      std::vector<float> sums(static_cast<size_t>(tokens * d), std::nanf("")), csr = sums;
      std::vector<float> dots(rows.size(), std::nanf(""));
      weighted_sums(table.data(), d, rows.data(), weights.data(), tokens, per_token, sums.data());
      row_dots(table.data(), d, rows.data(), grad.data(), tokens, per_token, dots.data());
      std::vector<int64_t> offsets;
      for (int64_t t = 0; t <= tokens; ++t) offsets.push_back(t * per_token);
      weighted_sums_csr(table.data(), d, offsets.data(), rows.data(), weights.data(), 1, tokens,
                        csr.data());
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t c = 0; c < d; ++c) {
          double expected = 0;
          for (int64_t k = t * per_token; k < (t + 1) * per_token; ++k)
            if (rows[static_cast<size_t>(k)] >= 0)
              expected += static_cast<double>(weights[static_cast<size_t>(k)]) *
                          table[static_cast<size_t>(rows[static_cast<size_t>(k)] * d + c)];
          const auto at = static_cast<size_t>(t * d + c);
          ASSERT_NEAR(sums[at], expected, 2e-5) << "d " << d << " K " << per_token;
          if (t > 0) {
            ASSERT_EQ(csr[at], sums[at]);
          } else {
            ASSERT_TRUE(std::isnan(csr[at]));
          }
        }
        for (int64_t k = t * per_token; k < (t + 1) * per_token; ++k) {
          double expected = 0;
          const int32_t row = rows[static_cast<size_t>(k)];
          for (int64_t c = 0; row >= 0 && c < d; ++c)
            expected += static_cast<double>(grad[static_cast<size_t>(t * d + c)]) *
                        table[static_cast<size_t>(row * d + c)];
          ASSERT_NEAR(dots[static_cast<size_t>(k)], expected, 2e-4);
        }
      }
    }
}

// What a table in bfloat16 gives is what its values in float32 do, bit for bit.
TEST_P(Kernels, TablesInBfloat16) {
  Rng rng(5);
  for (const int64_t d : {1, 7, 8, 16, 17, 33, 576, 577})
    for (const int64_t per_token : {1, 3, 4, 32}) {
      const int64_t tokens = 3, R = 9;
      auto table = normal_floats(static_cast<size_t>(R * d), static_cast<uint64_t>(d));
      std::vector<Bfloat16> stored;
      for (float& value : table) {
        stored.push_back(static_cast<Bfloat16>(std::bit_cast<uint32_t>(value) >> 16));
        value = std::bit_cast<float>(static_cast<uint32_t>(stored.back()) << 16);
      }
      const auto grad =
          normal_floats(static_cast<size_t>(tokens * d), static_cast<uint64_t>(d + 1));
      std::vector<int32_t> rows(static_cast<size_t>(tokens * per_token));
      const auto weights = normal_floats(rows.size(), static_cast<uint64_t>(d + 2));
      for (int32_t& r : rows) r = static_cast<int32_t>(rng.below(R + 1)) - 1;
      std::vector<float> sums(static_cast<size_t>(tokens * d), std::nanf("")), same_sums = sums;
      std::vector<float> dots(rows.size(), std::nanf("")), same_dots = dots;
      weighted_sums(table.data(), d, rows.data(), weights.data(), tokens, per_token, sums.data());
      weighted_sums(stored.data(), d, rows.data(), weights.data(), tokens, per_token,
                    same_sums.data());
      row_dots(table.data(), d, rows.data(), grad.data(), tokens, per_token, dots.data());
      row_dots(stored.data(), d, rows.data(), grad.data(), tokens, per_token, same_dots.data());
      ASSERT_EQ(same_sums, sums) << "d " << d << " K " << per_token;
      ASSERT_EQ(same_dots, dots) << "d " << d << " K " << per_token;
    }
}

TEST(KernelTargets, IncludeTheFallbackThatEveryCpuHas) {
  const auto names = targets();
  ASSERT_FALSE(names.empty());
  use_target(names.back());
  use_target("");
  EXPECT_EQ(targets(), names);
}

}  // namespace
}  // namespace accrete::kernels
