#include "memory/block_symmetric.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../base/testing.h"

namespace accrete {
namespace {

// Below, at and above one block, and of several with a rest.
constexpr int64_t kSizes[] = {1, 5, 511, 512, 513, 1300};

at::Tensor positive(int64_t t) {
  const auto x = at::randn({t + 20, t}, at::kDouble);
  return at::mm(x.t(), x) / static_cast<double>(t) + 0.5 * at::eye(t, at::kDouble);
}

TEST(BlockSymmetric, HoldsWhatTheWholeDoes) {
  at::manual_seed(1);
  for (const int64_t t : kSizes) {
    const auto x = at::randn({7, t}), whole = at::mm(x.t(), x);
    BlockSymmetric a = BlockSymmetric::products(x);
    const BlockSymmetric b = BlockSymmetric::of(whole);
    ASSERT_EQ(a.rows.size(), static_cast<size_t>((t + 511) / 512));
    for (size_t p = 0; p < a.rows.size(); ++p) {
      ASSERT_EQ(a.rows[p].sizes(), b.rows[p].sizes());
      EXPECT_TRUE(at::allclose(a.rows[p], b.rows[p], 1e-4, 1e-5)) << t;
    }
    EXPECT_TRUE(at::equal(b.diagonal(), whole.diagonal())) << t;
    const auto d = at::randn({t});
    a.add_products(x, 2);
    a.add_to_diagonal(d);
    const BlockSymmetric sum = BlockSymmetric::of(3 * whole + d.diag());
    for (size_t p = 0; p < a.rows.size(); ++p)
      EXPECT_TRUE(at::allclose(a.rows[p], sum.rows[p], 1e-4, 1e-4)) << t;
  }
}

TEST(BlockSymmetric, ItsFactorSolves) {
  at::manual_seed(2);
  for (const int64_t t : kSizes) {
    const auto a = positive(t), b = at::randn({t, 3}, at::kDouble);
    const auto upper = at::linalg_cholesky(a, /*upper=*/true);
    BlockSymmetric u = BlockSymmetric::of(a.to(at::kFloat));
    factorise(u, "a");
    auto x = b.to(at::kFloat);
    solve_lower(u, x);
    EXPECT_TRUE(at::allclose(
        x.to(at::kDouble), at::linalg_solve_triangular(upper.t(), b, /*upper=*/false), 1e-3, 1e-3))
        << t;
    solve_upper(u, x);
    EXPECT_TRUE(at::allclose(x.to(at::kDouble), at::linalg_solve(a, b), 1e-3, 1e-3)) << t;
  }
}

TEST(BlockSymmetric, RefusesWhatIsNotPositiveDefinite) {
  for (const int64_t t : {3, 600}) {
    auto a = at::eye(t);
    a[t - 1][t - 1] = -1;
    BlockSymmetric u = BlockSymmetric::of(a);
    testing::expect_error(ErrorCode::kInvalidArgument, [&] { factorise(u, "a"); });
  }
}

}  // namespace
}  // namespace accrete
