#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "base/error.h"
#include "memory/product_keys.h"
#include "memory_testing.h"

namespace accrete {
namespace {

using testing::normals;
using testing::same_bytes;
using testing::Threads;

constexpr ProductKeyOptions kOptions{.heads = 2, .half_keys = 16, .top_k = 4, .query_width = 8};

// Tokens around `count` random points, cluster after cluster.
at::Tensor clusters(int64_t count, int64_t each, int64_t d, double noise, uint64_t seed) {
  const auto centres = normals({count, 1, d}, seed) * 3;
  return (centres + normals({count, each, d}, seed + 1) * noise).reshape({count * each, d});
}

at::Tensor tensor(const ProductKeys& keys, const std::string& name) {
  for (const auto& [n, t] : keys.tensors())
    if (n == name) return t;
  return {};
}

TEST(Fit, IsDeterministicOnAnyThreads) {
  const auto x = clusters(30, 100, 24, 0.5, 1);
  const auto with = [&](int threads, uint64_t seed) {
    const Threads guard(threads);
    return ProductKeys::fit(x, kOptions, Rng(seed));
  };
  const auto one = with(1, 5), two = with(2, 5), other = with(1, 6);
  for (const char* name : {"mean", "projection", "keys", "bias"})
    EXPECT_TRUE(same_bytes(tensor(one, name), tensor(two, name))) << name;
  EXPECT_FALSE(same_bytes(tensor(one, "keys"), tensor(other, "keys")));
}

TEST(Fit, GivesEveryClusterItsOwnSlots) {
  const int64_t count = 12, each = 80;
  const auto x = clusters(count, each, 24, 0.05, 1);
  const auto keys = ProductKeys::fit(x, kOptions, Rng(1));
  const auto top = keys.lookup(x).slots.view({count, each, 2, 4}).select(3, 0);  // the nearest
  for (int64_t h = 0; h < 2; ++h) {
    std::set<int32_t> winners;
    for (int64_t c = 0; c < count; ++c) {
      const auto head = top[c].select(1, h).contiguous();
      std::set<int32_t> mine(head.const_data_ptr<int32_t>(), head.const_data_ptr<int32_t>() + each);
      EXPECT_LE(mine.size(), 6u) << "a tight cluster uses few slots";
      for (const int32_t slot : mine)
        EXPECT_TRUE(winners.insert(slot).second) << "two clusters share slot " << slot;
    }
  }
}

// The scores are minus squared distances over a temperature, up to a constant of the query.
TEST(Fit, KeysAreCentroidsUnderATemperature) {
  const auto x = clusters(20, 60, 24, 0.7, 3);
  const auto keys = ProductKeys::fit(x, kOptions, Rng(2));
  const auto k = tensor(keys, "keys").to(at::kDouble), b = tensor(keys, "bias").to(at::kDouble);
  for (int64_t h = 0; h < 2; ++h) {
    // |key|^2 / -bias = (2 |c| / tau)^2 / (|c|^2 / tau) = 4 / tau, the same for both halves.
    const auto tau = 4 * b[h].neg() / k[h].square().sum(-1);
    const double first = tau[0][0].item<double>();
    EXPECT_GT(first, 0);
    EXPECT_TRUE(at::allclose(tau, at::full_like(tau, first), 1e-4));

    const auto q =
        at::matmul(x - tensor(keys, "mean"), tensor(keys, "projection").narrow(1, h * 8, 8))
            .to(at::kDouble);
    double spread = 0;
    for (int64_t s = 0; s < 2; ++s) {
      const auto half = q.narrow(1, s * 4, 4);
      const auto centroids = k[h][s] * (first / 2);
      const auto distance = at::cdist(half, centroids).square();
      const auto nearest = std::get<0>(distance.topk(8, 1, /*largest=*/false));
      spread += (nearest.select(1, 7) - nearest.select(1, 0)).mean().item<double>() / 2;
      // A Lloyd step hardly moves the centroids any more: they are means of their clusters.
      const auto assigned = distance.argmin(1);
      const auto residual = (half - centroids.index_select(0, assigned)).square().sum(1).mean();
      EXPECT_LT(residual.item<double>(), half.square().sum(1).mean().item<double>() * 0.5);
    }
    EXPECT_NEAR(first, kOptions.temperature * spread, 1e-3 * first);
  }
}

TEST(Fit, ProjectsToPartlyWhitenedPrincipalComponents) {
  auto scale = at::ones({24});
  for (int64_t i = 0; i < 24; ++i) scale[i] = std::pow(0.7, static_cast<double>(i)) * 4;
  const auto x = normals({4000, 24}, 1) * scale + 5;
  for (const double whitening : {0.0, 0.5, 1.0}) {
    auto options = kOptions;
    options.whitening = whitening;
    const auto keys = ProductKeys::fit(x, options, Rng(3));
    const auto centred = (x - tensor(keys, "mean")).to(at::kDouble);
    EXPECT_LT(centred.mean({0}).abs().max().item<double>(), 1e-4);
    const auto p = tensor(keys, "projection").to(at::kDouble);
    for (int64_t h = 0; h < 2; ++h) {
      const auto q = at::matmul(centred, p.narrow(1, h * 8, 8));
      const auto covariance = at::matmul(q.t(), q) / 4000;
      // A rotation keeps the eigenvalues: lambda^(1 - whitening) of the leading ones.
      const auto got = std::get<0>(at::linalg_eigh(covariance)).flip(0);
      const auto all = std::get<0>(at::linalg_eigh(at::matmul(centred.t(), centred) / 4000));
      const auto expected = all.flip(0).narrow(0, 0, 8).pow(1 - whitening);
      EXPECT_TRUE(at::allclose(got, expected, 1e-3, 1e-5)) << whitening;
    }
    // The heads look from different sides.
    EXPECT_GT((p.narrow(1, 0, 8) - p.narrow(1, 8, 8)).abs().max().item<double>(), 1e-2);
  }
}

TEST(Fit, SurvivesMoreCentroidsThanDistinctRows) {
  // 5 distinct rows, 16 half-keys: most clusters come up empty and are seeded again.
  const auto x = normals({5, 24}, 1).repeat({20, 1});
  const auto keys = ProductKeys::fit(x, kOptions, Rng(1));
  for (const auto& [name, t] : keys.tensors())
    EXPECT_TRUE(at::isfinite(t).all().item<bool>()) << name;
  EXPECT_EQ(keys.lookup(x).tokens(), 100);
}

TEST(Fit, AgreesWithItsReferenceLookup) {
  const auto x = clusters(30, 100, 24, 0.5, 1);
  const auto keys = ProductKeys::fit(x, kOptions, Rng(5));
  const auto a = keys.lookup(x), b = keys.lookup_reference(x);
  EXPECT_GT((a.slots == b.slots).to(at::kDouble).mean().item<double>(), 0.99);
  EXPECT_LT((a.weights - b.weights).abs().mean().item<double>(), 1e-4);
}

TEST(Fit, ReportsProgressAndStops) {
  const auto x = clusters(10, 50, 24, 0.5, 1);
  std::vector<ProgressEvent> events;
  Reporter reporter;
  reporter.progress = [&](const ProgressEvent& e) { events.push_back(e); };
  (void)ProductKeys::fit(x, kOptions, Rng(1), reporter);
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.front().done, 0);
  EXPECT_EQ(events.back().done, events.back().total);
  for (size_t i = 1; i < events.size(); ++i) EXPECT_GE(events[i].done, events[i - 1].done);

  int polls = 0;
  reporter.cancelled = [&] { return ++polls > 5; };
  try {
    (void)ProductKeys::fit(x, kOptions, Rng(1), reporter);
    FAIL() << "not interrupted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInterrupted);
  }
}

TEST(Fit, RefusesWhatItCannotFit) {
  const auto x = clusters(10, 50, 24, 0.5, 1);
  const auto code = [](const at::Tensor& input, const ProductKeyOptions& options) {
    try {
      (void)ProductKeys::fit(input, options, Rng(1));
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()), "");
      return e.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code(x.narrow(0, 0, 15), kOptions), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(x.narrow(1, 0, 7), kOptions), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(x[0], kOptions), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(at::ones({100, 24}), kOptions), ErrorCode::kInvalidArgument);
  auto odd = kOptions;
  odd.query_width = 7;
  EXPECT_EQ(code(x, odd), ErrorCode::kInvalidArgument);
  odd = kOptions;
  odd.top_k = 17;
  EXPECT_EQ(code(x, odd), ErrorCode::kInvalidArgument);
  auto nan = x.clone();
  nan[77][3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(code(nan, kOptions), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace accrete
