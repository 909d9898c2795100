#include "memory/product_keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "memory_testing.h"

namespace accrete {
namespace {

using testing::normals;
using testing::same_bytes;
using testing::Threads;

struct LookupShape {
  int64_t d, heads, n, k, width, T;
};

ProductKeys random_keys(const LookupShape& s, uint64_t seed) {
  const ProductKeyOptions options{
      .heads = s.heads, .half_keys = s.n, .top_k = s.k, .query_width = s.width};
  return ProductKeys::from_tensors(
      options, normals({s.d}, seed), normals({s.d, s.heads * s.width}, seed + 1),
      normals({s.heads, 2, s.n, s.width / 2}, seed + 2), normals({s.heads, 2, s.n}, seed + 3));
}

class Lookup : public ::testing::TestWithParam<LookupShape> {};

INSTANTIATE_TEST_SUITE_P(
    Shapes, Lookup,
    ::testing::Values(LookupShape{7, 1, 2, 1, 2, 1}, LookupShape{33, 3, 5, 5, 6, 17},
                      LookupShape{64, 4, 33, 8, 16, 65}, LookupShape{576, 4, 256, 8, 128, 200},
                      LookupShape{31, 2, 100, 32, 10, 130}, LookupShape{16, 8, 17, 3, 4, 64},
                      LookupShape{20, 1, 2048, 8, 8, 3}, LookupShape{12, 2, 9, 4, 4, 0}),
    [](const auto& test) {
      const LookupShape& s = test.param;
      return accrete::format("d{}h{}n{}k{}w{}T{}", s.d, s.heads, s.n, s.k, s.width, s.T);
    });

TEST_P(Lookup, AgreesWithTheReference) {
  const LookupShape s = GetParam();
  const ProductKeys keys = random_keys(s, 1);
  const auto x = normals({s.T, s.d}, 9);
  const auto a = keys.lookup(x), b = keys.lookup_reference(x);
  ASSERT_EQ(a.slots.scalar_type(), at::kInt);
  ASSERT_EQ(a.slots.sizes(), (at::IntArrayRef{s.T, s.heads * s.k}));
  // Scores are rounded differently, so near-ties may swap; the weights may not care.
  const auto same = (a.slots == b.slots).to(at::kDouble).mean();
  if (s.T > 0) {
    EXPECT_GT(same.item<double>(), 0.98);
  }
  EXPECT_TRUE(at::allclose(a.weights, b.weights, 1e-2, 1e-3));
  const auto heads = a.weights.view({s.T, s.heads, s.k});
  EXPECT_TRUE(at::allclose(heads.sum(-1),
                           at::full({s.T, s.heads}, 1 / std::sqrt(static_cast<double>(s.heads)))));
  // Every head keeps to its slots, and no slot comes twice.
  const int32_t* slot = a.slots.const_data_ptr<int32_t>();
  for (int64_t t = 0; t < s.T; ++t) {
    std::set<int32_t> seen;
    for (int64_t i = 0; i < s.heads * s.k; ++i) {
      const int32_t at = slot[t * s.heads * s.k + i];
      ASSERT_EQ(at / (s.n * s.n), i / s.k);
      ASSERT_TRUE(seen.insert(at).second);
    }
  }
}

TEST_P(Lookup, DoesNotDependOnTheThreads) {
  const LookupShape s = GetParam();
  const ProductKeys keys = random_keys(s, 1);
  const auto x = normals({s.T, s.d}, 9);
  const auto with = [&](int threads) {
    const Threads guard(threads);
    return keys.lookup(x);
  };
  const auto one = with(1), two = with(2);
  EXPECT_TRUE(same_bytes(one.slots, two.slots));
  EXPECT_TRUE(same_bytes(one.weights, two.weights));
}

// Keys of small integers: the scores are exact, so the two paths must agree in every tie.
TEST(LookupTies, GoToTheLowerSlot) {
  for (const int64_t k : {1, 2, 7, 16}) {
    const LookupShape s{6, 2, 21, k, 6, 90};
    const ProductKeyOptions options{.heads = 2, .half_keys = 21, .top_k = k, .query_width = 6};
    const auto keys =
        ProductKeys::from_tensors(options, at::zeros({6}), at::eye(6).repeat({1, 2}),
                                  normals({2, 2, 21, 3}, 4).sign(), at::zeros({2, 2, 21}));
    const auto x = normals({s.T, s.d}, 3).sign();
    const auto a = keys.lookup(x), b = keys.lookup_reference(x);
    EXPECT_TRUE(at::equal(a.slots, b.slots)) << k;
    EXPECT_TRUE(at::allclose(a.weights, b.weights));
  }
  // All keys alike: the first slots win.
  const ProductKeyOptions options{.heads = 1, .half_keys = 50, .top_k = 4, .query_width = 2};
  const auto keys = ProductKeys::from_tensors(options, at::zeros({2}), at::eye(2),
                                              at::ones({1, 2, 50, 1}), at::zeros({1, 2, 50}));
  const auto found = keys.lookup(at::ones({1, 2}));
  EXPECT_TRUE(at::equal(found.slots, at::tensor({0, 1, 2, 3}, at::kInt).view({1, 4})));
}

TEST(Lookup, PaddingHasNoAccesses) {
  const LookupShape s{33, 3, 20, 5, 6, 100};
  const ProductKeys keys = random_keys(s, 1);
  auto x = normals({s.T, s.d}, 9);
  const auto all = keys.lookup(x);
  auto mask = at::ones({s.T}, at::kBool);
  for (const int64_t t : {0, 1, 63, 64, 99}) {
    mask[t] = false;
    x[t].fill_(std::numeric_limits<float>::quiet_NaN());  // whatever is there is not read
  }
  const auto some = keys.lookup(x, mask), reference = keys.lookup_reference(x, mask);
  const auto expected = at::where(mask.unsqueeze(1), all.slots, -1);
  EXPECT_TRUE(at::equal(some.slots, expected));
  EXPECT_TRUE(at::equal(some.weights, at::where(mask.unsqueeze(1), all.weights, 0.0)));
  EXPECT_TRUE(at::equal(reference.slots < 0, expected < 0));
  EXPECT_TRUE(at::isfinite(reference.weights).all().item<bool>());
}

TEST(Lookup, TakesOtherTypesViewsAndGradients) {
  const LookupShape s{32, 2, 20, 4, 8, 70};
  const ProductKeys keys = random_keys(s, 1);
  const auto x = normals({s.T, s.d}, 9).to(at::kBFloat16);
  const auto a = keys.lookup(x.to(at::kFloat));
  EXPECT_TRUE(at::equal(keys.lookup(x).slots, a.slots));
  EXPECT_TRUE(at::equal(keys.lookup(x.to(at::kDouble)).slots, a.slots));
  const auto leaf = x.to(at::kFloat).requires_grad_(true);
  const auto b = keys.lookup(leaf);
  EXPECT_FALSE(b.weights.requires_grad());
  EXPECT_TRUE(at::equal(b.slots, a.slots));
  EXPECT_TRUE(at::equal(keys.lookup(x.to(at::kFloat).t().contiguous().t()).slots, a.slots));
}

TEST(Lookup, RefusesWhatDoesNotFit) {
  const LookupShape s{32, 2, 20, 4, 8, 70};
  const ProductKeys keys = random_keys(s, 1);
  auto x = normals({s.T, s.d}, 9);
  EXPECT_THROW(keys.lookup(x.narrow(1, 0, 31)), Error);
  EXPECT_THROW(keys.lookup(x[0]), Error);
  EXPECT_THROW(keys.lookup(x.to(at::kInt)), Error);
  EXPECT_THROW(keys.lookup(x, at::ones({69}, at::kBool)), Error);
  EXPECT_THROW(keys.lookup(x, at::ones({70}, at::kInt)), Error);
  x[66][3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(keys.lookup(x), Error);
  x[66][3] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(keys.lookup(x), Error);
}

TEST(ProductKeys, RefuseTensorsOfAnotherShape) {
  const ProductKeyOptions options{.heads = 2, .half_keys = 20, .top_k = 4, .query_width = 8};
  const auto build = [&](const ProductKeyOptions& o, at::IntArrayRef mean,
                         at::IntArrayRef projection, at::IntArrayRef keys, at::IntArrayRef bias) {
    try {
      (void)ProductKeys::from_tensors(o, at::zeros(mean), at::zeros(projection), at::zeros(keys),
                                      at::zeros(bias));
    } catch (const Error& e) {
      return e.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(build(options, {9}, {9, 16}, {2, 2, 20, 4}, {2, 2, 20}), ErrorCode::kInternal);
  EXPECT_EQ(build(options, {9}, {8, 16}, {2, 2, 20, 4}, {2, 2, 20}), ErrorCode::kFormat);
  EXPECT_EQ(build(options, {9}, {9, 8}, {2, 2, 20, 4}, {2, 2, 20}), ErrorCode::kFormat);
  EXPECT_EQ(build(options, {9}, {9, 16}, {2, 2, 19, 4}, {2, 2, 20}), ErrorCode::kFormat);
  EXPECT_EQ(build(options, {9}, {9, 16}, {2, 2, 20, 4}, {2, 20}), ErrorCode::kFormat);
  EXPECT_EQ(build(options, {9, 1}, {9, 16}, {2, 2, 20, 4}, {2, 2, 20}), ErrorCode::kFormat);
  auto bad = options;
  bad.top_k = 21;
  EXPECT_EQ(build(bad, {9}, {9, 16}, {2, 2, 20, 4}, {2, 2, 20}), ErrorCode::kFormat);
  bad = options;
  bad.half_keys = 1 << 16;
  EXPECT_EQ(build(bad, {9}, {9, 16}, {2, 2, 20, 4}, {2, 2, 20}), ErrorCode::kFormat);
}

TEST(ProductKeys, TensorsRoundTrip) {
  const LookupShape s{32, 2, 20, 4, 8, 70};
  const ProductKeys keys = random_keys(s, 1);
  const auto t = keys.tensors();
  ASSERT_EQ(t.size(), 4u);
  EXPECT_EQ(t[0].name, "mean");
  EXPECT_EQ(t[3].name, "bias");
  const auto again =
      ProductKeys::from_tensors(keys.options(), t[0].tensor, t[1].tensor, t[2].tensor, t[3].tensor);
  const auto x = normals({s.T, s.d}, 9);
  EXPECT_TRUE(at::equal(again.lookup(x).slots, keys.lookup(x).slots));
  EXPECT_TRUE(at::equal(again.lookup(x).weights, keys.to(at::kCPU).lookup(x).weights));
  EXPECT_EQ(keys.slots(), 800);
  EXPECT_EQ(keys.accesses_per_token(), 8);
  EXPECT_EQ(keys.width(), 32);
}

TEST(ProductKeys, FourMillionSlotsAreFewTensors) {
  const LookupShape s{64, 4, 1024, 8, 32, 10};
  const ProductKeys keys = random_keys(s, 1);
  EXPECT_EQ(keys.slots(), int64_t{1} << 22);
  size_t bytes = 0;
  for (const auto& [name, tensor] : keys.tensors()) bytes += tensor.nbytes();
  EXPECT_LT(bytes, size_t{2} << 20);
  const auto found = keys.lookup(normals({s.T, s.d}, 2));
  EXPECT_LT(found.slots.max().item<int>(), 1 << 22);
}

}  // namespace
}  // namespace accrete
