#include "learn/deposit.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace accrete {
namespace {

// Three tokens over four slots; the first two are to be written, the third (in G) is to be left
// alone.
struct Case {
  Accesses sites{at::tensor({0, 1, 1, 2}, at::kInt).view({2, 2}),
                 at::tensor({0.8F, 0.2F, 0.5F, 0.5F}).view({2, 2})};
  std::vector<int64_t> slots = {0, 1, 2};
  SlotIndex index{slots};
  at::Tensor targets = at::tensor({1.F, -1.F, 2.F, 0.5F}).view({2, 2});
};

TEST(Deposit, GivesTheSitesTheirTargets) {
  const Case c;
  const auto delta = deposit(c.sites, c.targets, c.index, at::zeros({3, 3}), {1e-3, 1e-6});
  const auto y = weighted_gather(delta, c.index.rows(c.sites.slots), c.sites.weights);
  EXPECT_TRUE(at::allclose(y, c.targets, 1e-3, 1e-3));
}

TEST(Deposit, IsTheRidgeSolution) {
  const Case c;
  const auto a = at::tensor({0.8, 0.2, 0.0, 0.0, 0.5, 0.5}, at::kDouble).view({2, 3});
  auto gram = at::zeros({3, 3});
  gram[1][1] = 0.3;
  const double lambda = 1e-2, epsilon = 1e-2;
  const auto delta = deposit(c.sites, c.targets, c.index, gram, {lambda, epsilon});
  // (A^T A / e + G + lambda I)^-1 A^T V / e, with epsilon in units of mean diag A P A^T.
  const auto p = at::linalg_inv(gram.to(at::kDouble) + lambda * at::eye(3, at::kDouble));
  const double e = epsilon * at::matmul(at::matmul(a, p), a.t()).diagonal().mean().item<double>();
  const auto want = at::matmul(at::linalg_inv(at::matmul(a.t(), a) / e + at::linalg_inv(p)),
                               at::matmul(a.t(), c.targets.to(at::kDouble)) / e);
  EXPECT_TRUE(at::allclose(delta.to(at::kDouble), want, 1e-3, 1e-4));
}

TEST(Deposit, LeavesAloneWhatTheLogReads) {
  const Case c;
  auto gram = at::zeros({3, 3});
  gram[1][1] = 1;  // slot 1 is read by the background
  const auto delta = deposit(c.sites, c.targets, c.index, gram, {1e-4, 1e-4});
  EXPECT_LT(delta[1].norm().item<float>(), 0.05F * delta[0].norm().item<float>());
}

TEST(Deposit, RefusesWhatIsNotFinite) {
  Case c;
  c.targets[0][0] = INFINITY;
  EXPECT_THROW(deposit(c.sites, c.targets, c.index, at::zeros({3, 3}), {}), Error);
}

}  // namespace
}  // namespace accrete
