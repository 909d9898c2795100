#include "memory/kernels/key_codes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "memory/kernels/cpu.h"
#include "memory/kernels/search.h"
#include "random_floats.h"

namespace accrete::kernels {
namespace {

using testing::normal_floats;

std::vector<ByteProducts> instructions() {
  std::vector<ByteProducts> out;
  for (const auto how : {ByteProducts::kAvx2, ByteProducts::kVnni})
    if (how <= best_byte_products()) out.push_back(how);
  return out;
}

float dot(const float* a, const float* b, int64_t width) {
  double sum = 0;
  for (int64_t i = 0; i < width; ++i) sum += static_cast<double>(a[i]) * b[i];
  return static_cast<float>(sum);
}

struct Keys {
  int64_t halves, n, width;
  std::vector<float> keys, bias;

  const float* key(int64_t half, int64_t j) const { return keys.data() + (half * n + j) * width; }
  float score(int64_t half, const float* q, int64_t j) const {
    return dot(q, key(half, j), width) + bias[static_cast<size_t>(half * n + j)];
  }
};

Keys random_coded_keys(int64_t halves, int64_t n, int64_t width, uint64_t seed) {
  return {halves, n, width, normal_floats(static_cast<size_t>(halves * n * width), seed),
          normal_floats(static_cast<size_t>(halves * n), seed + 1)};
}

TEST(KeyCodes, AreOffByNoMoreThanTheMargin) {
  for (const ByteProducts how : instructions())
    for (const int64_t width : {1, 3, 4, 6, 8, 13, 64, 130})
      for (const int64_t n : {1, 15, 16, 33, 256}) {
        Keys of = random_coded_keys(2, n, width, 3);
        of.keys[0] = 1000;  // one far out
        of.bias.back() = -500;
        const int64_t T = 13;
        const auto q = normal_floats(static_cast<size_t>(T * width), 5);
        const auto codes = key_codes(of.keys.data(), of.bias.data(), 2, n, width, how);
        ASSERT_TRUE(codes.defined());
        for (const int64_t half : {0, 1}) {
          std::vector<uint8_t> query_codes(static_cast<size_t>(T * codes.quads * 4));
          std::vector<QueryCode> queries;
          for (int64_t t = 0; t < T; ++t)
            queries.push_back(query_code(codes, half, q.data() + t * width,
                                         query_codes.data() + t * codes.quads * 4));
          std::vector<float> told(static_cast<size_t>(T * codes.stride()));
          told_scores(codes, half, query_codes.data(), queries.data(), T, told.data());
          for (int64_t t = 0; t < T; ++t) {
            const float* row = told.data() + t * codes.stride();
            ASSERT_TRUE(queries[static_cast<size_t>(t)].finite);
            for (int64_t j = 0; j < n; ++j)
              ASSERT_LE(std::abs(row[j] - of.score(half, q.data() + t * width, j)),
                        queries[static_cast<size_t>(t)].margin)
                  << "width " << width << " n " << n;
            for (int64_t j = n; j < codes.groups * KeyCodes::kGroup; ++j)
              ASSERT_EQ(row[j], -std::numeric_limits<float>::infinity());
          }
        }
      }
}

TEST(KeyCodes, TellMuch) {
  for (const ByteProducts how : instructions()) {
    const Keys of = random_coded_keys(1, 1024, 64, 3);
    const auto q = normal_floats(64, 5);
    const auto codes = key_codes(of.keys.data(), of.bias.data(), 1, 1024, 64, how);
    std::vector<uint8_t> query_codes(64);
    const QueryCode query = query_code(codes, 0, q.data(), query_codes.data());
    EXPECT_LT(query.margin, 0.3F * std::sqrt(64.0F));  // of the scores' standard deviation
  }
}

TEST(KeyCodes, RefuseWhatIsNotFinite) {
  Keys of = random_coded_keys(2, 20, 8, 3);
  const auto made = [&] { return key_codes(of.keys.data(), of.bias.data(), 2, 20, 8); };
  EXPECT_EQ(made().defined(), best_byte_products() != ByteProducts::kNone);
  of.keys[77] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(made().defined());
  of.keys[77] = 0;
  of.bias[3] = std::nanf("");
  EXPECT_FALSE(made().defined());
}

// Every case of coded search, on every instruction set that this CPU has.
class CodedSearch : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { use_target(GetParam()); }
  void TearDown() override { use_target(""); }

  // By scoring every half-key.
  static int64_t whole(const Keys& of, const std::vector<float>& q, const ProductShape& shape,
                       const bool* keep, std::vector<int32_t>& slots, std::vector<float>& weights) {
    std::vector<float> scores(static_cast<size_t>(of.halves * shape.tokens * of.n));
    for (int64_t half = 0; half < of.halves; ++half)
      for (int64_t t = 0; t < shape.tokens; ++t)
        for (int64_t j = 0; j < of.n; ++j)
          scores[static_cast<size_t>((half * shape.tokens + t) * of.n + j)] =
              of.score(half, q.data() + (t * of.halves + half) * of.width, j);
    return product_top_k(scores.data(), shape, keep, slots.data(), weights.data());
  }
};

INSTANTIATE_TEST_SUITE_P(Targets, CodedSearch, ::testing::ValuesIn(targets()),
                         [](const auto& test) { return test.param; });

TEST_P(CodedSearch, IsWholeSearch) {
  for (const ByteProducts how : instructions())
    for (const int64_t n : {2, 16, 31, 100, 1024})
      for (const int64_t k : {1, 3, 8, 17, 64})
        for (const bool integers : {false, true}) {
          if (k > n) continue;
          const int64_t heads = 3, T = 21, width = 12;
          Keys of = random_coded_keys(2 * heads, n, width, static_cast<uint64_t>(n + k));
          auto q = normal_floats(static_cast<size_t>(T * 2 * heads * width), 9);
          if (integers)  // exact scores, many of them equal
            for (auto* each : {&of.keys, &of.bias, &q})
              for (float& v : *each) v = std::round(v);
          const ProductShape shape{T, heads, n, k};
          const auto size = static_cast<size_t>(T * heads * k);
          std::vector<int32_t> slots(size), expected(size);
          std::vector<float> weights(size), expected_weights(size);
          const auto codes = key_codes(of.keys.data(), of.bias.data(), of.halves, n, width, how);
          ASSERT_EQ(product_top_k(codes, of.keys.data(), of.bias.data(), q.data(), shape, nullptr,
                                  slots.data(), weights.data()),
                    0);
          ASSERT_EQ(whole(of, q, shape, nullptr, expected, expected_weights), 0);
          size_t apart = 0;
          for (size_t i = 0; i < size; ++i) {
            apart += slots[i] != expected[i] ? 1 : 0;  // near-ties may swap
            ASSERT_NEAR(weights[i], expected_weights[i], 1e-5);
          }
          ASSERT_LE(apart, integers ? 0 : size / 200) << "n " << n << " k " << k;
        }
}

TEST_P(CodedSearch, LeavesOutPaddingAndReportsNaN) {
  const Keys of = random_coded_keys(4, 40, 8, 3);
  const auto codes = key_codes(of.keys.data(), of.bias.data(), 4, 40, 8);
  if (!codes.defined()) GTEST_SKIP() << "no products of bytes";
  const ProductShape shape{5, 2, 40, 4};
  auto q = normal_floats(5 * 4 * 8, 9);
  q[0 * 32 + 30] = std::nanf("");  // token 0 is padding
  q[1 * 32 + 8] = std::nanf("");
  q[2 * 32 + 31] = std::numeric_limits<float>::infinity();
  const bool keep[] = {false, true, true, true, true};
  std::vector<int32_t> slots(40, 7), expected(40);
  std::vector<float> weights(40, 7), expected_weights(40);
  EXPECT_EQ(product_top_k(codes, of.keys.data(), of.bias.data(), q.data(), shape, keep,
                          slots.data(), weights.data()),
            2);
  (void)whole(of, q, shape, keep, expected, expected_weights);
  EXPECT_EQ(slots, expected);
  for (size_t i = 0; i < 24; ++i) EXPECT_EQ(weights[i], 0);
}

// The margin of a score so large overflows: every half-key is scored.
TEST_P(CodedSearch, TakesLargeNumbers) {
  const Keys of = random_coded_keys(2, 40, 8, 3);
  const auto codes = key_codes(of.keys.data(), of.bias.data(), 2, 40, 8);
  if (!codes.defined()) GTEST_SKIP() << "no products of bytes";
  const ProductShape shape{1, 1, 40, 4};
  for (const float scale : {1e-30F, 1e20F, 1e37F}) {
    auto q = normal_floats(16, 9);
    for (float& v : q) v *= scale;
    std::vector<int32_t> slots(4), expected(4);
    std::vector<float> weights(4), expected_weights(4);
    EXPECT_EQ(product_top_k(codes, of.keys.data(), of.bias.data(), q.data(), shape, nullptr,
                            slots.data(), weights.data()),
              0);
    EXPECT_EQ(whole(of, q, shape, nullptr, expected, expected_weights), 0);
    EXPECT_EQ(slots, expected) << scale;
  }
}

}  // namespace
}  // namespace accrete::kernels
