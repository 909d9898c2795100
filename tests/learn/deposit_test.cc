#include "learn/deposit.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

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
  const auto delta =
      deposit(c.sites, Targets::each(c.targets), c.index, at::zeros({3, 3}), {1e-3, 1e-6});
  const auto y = weighted_gather(delta, c.index.rows(c.sites.slots), c.sites.weights);
  EXPECT_TRUE(at::allclose(y, c.targets, 1e-3, 1e-3));
}

TEST(Deposit, IsTheRidgeSolution) {
  const Case c;
  const auto a = at::tensor({0.8, 0.2, 0.0, 0.0, 0.5, 0.5}, at::kDouble).view({2, 3});
  auto gram = at::zeros({3, 3});
  gram[1][1] = 0.3;
  const double lambda = 1e-2, epsilon = 1e-2;
  const auto delta =
      deposit(c.sites, Targets::each(c.targets), c.index, gram.clone(), {lambda, epsilon});
  // (A^T E^-1 A + G + lambda I)^-1 A^T E^-1 V, with E = epsilon diag(A P A^T).
  const auto p = at::linalg_inv(gram.to(at::kDouble) + lambda * at::eye(3, at::kDouble));
  const auto e = epsilon * at::matmul(at::matmul(a, p), a.t()).diagonal();
  const auto weighed = a.t() / e;
  const auto want = at::matmul(at::linalg_inv(at::matmul(weighed, a) + at::linalg_inv(p)),
                               at::matmul(weighed, c.targets.to(at::kDouble)));
  EXPECT_TRUE(at::allclose(delta.to(at::kDouble), want, 1e-3, 1e-4));
}

// More slots than one block of the factorisation, tokens that occur more than once.
TEST(Deposit, IsTheRidgeSolutionOfManySlots) {
  at::manual_seed(7);
  const int64_t t = 1100, n = 60, K = 8, d = 5;
  Accesses sites{at::randint(t, {n, K}, at::kInt), at::rand({n, K}) + 0.1};
  auto targets = at::randn({n, d});
  for (auto& rows : {sites.slots, sites.weights, targets})
    rows.narrow(0, 40, 20).copy_(rows.narrow(0, 0, 20));  // twenty tokens twice
  Targets have = Targets::each(targets);
  std::iota(have.of.begin() + 40, have.of.end(), 0);
  std::vector<int64_t> slots(static_cast<size_t>(t));
  std::iota(slots.begin(), slots.end(), 0);
  const SlotIndex index(slots);
  const auto b = at::randn({300, t}) * (at::rand({300, t}) < 0.02);
  const auto gram = at::mm(b.t(), b) / 300;
  auto a = at::zeros({n, t}, at::kDouble);
  for (int64_t j = 0; j < n; ++j)
    for (int64_t k = 0; k < K; ++k)
      a[j][sites.slots[j][k].item<int>()] += sites.weights[j][k].item<double>();
  const double lambda = 1e-2, epsilon = 1e-2;
  const auto p = at::linalg_inv(gram.to(at::kDouble) + lambda * at::eye(t, at::kDouble));
  const auto apa = at::matmul(at::matmul(a, p), a.t());
  const auto want = at::matmul(
      at::matmul(p, a.t()),
      at::matmul(at::linalg_inv(apa + epsilon * apa.diagonal().diag()), targets.to(at::kDouble)));
  const auto delta = deposit(sites, have, index, gram.clone(), {lambda, epsilon});
  EXPECT_TRUE(
      at::allclose(delta.to(at::kDouble), want, 1e-2, 1e-3 * want.abs().max().item<double>()));
}

TEST(Deposit, FewValuesGiveWhatEachTokensOwnDo) {
  at::manual_seed(9);
  const Accesses sites{at::randint(60, {20, 6}, at::kInt), at::rand({20, 6}) + 0.1};
  AccessLog log;
  log.append({at::randint(30, {50, 6}, at::kInt), at::rand({50, 6})}, 1, true);
  std::vector<int64_t> slots(60);
  std::iota(slots.begin(), slots.end(), 0);
  Targets few{at::randn({3, 8}), {}};
  for (int64_t j = 0; j < 20; ++j) few.of.push_back(j % 3);
  const auto each = Targets::each(few.values.index_select(0, at::tensor(few.of, at::kLong)));
  const DepositOptions options{1e-2, 1e-2};
  const auto want = deposit(sites, each, slots, log, options);
  EXPECT_TRUE(at::allclose(deposit(sites, few, slots, log, options), want, 1e-3, 1e-4));
}

TEST(Deposit, SlotsThatTheLogNeverReadsNeedNoGramMatrix) {
  at::manual_seed(8);
  const Accesses sites{at::randint(60, {20, 6}, at::kInt), at::rand({20, 6}) + 0.1};
  const auto targets = Targets::each(at::randn({20, 4}));
  AccessLog log;
  log.append({at::randint(30, {50, 6}, at::kInt), at::rand({50, 6})}, 1, true);
  std::vector<int64_t> slots;
  for (int64_t s = 0; s < 60; s += 2) slots.push_back(s);  // 0 to 28 are read by the log
  const SlotIndex index(slots);
  const DepositOptions options{1e-2, 1e-2};
  const auto want = deposit(sites, targets, index, log.gram(index), options);
  const auto delta = deposit(sites, targets, slots, log, options);
  EXPECT_TRUE(at::allclose(delta, want, 1e-3, 1e-4));
}

TEST(Deposit, LeavesAloneWhatTheLogReads) {
  const Case c;
  auto gram = at::zeros({3, 3});
  gram[1][1] = 1;  // slot 1 is read by the background
  const auto delta = deposit(c.sites, Targets::each(c.targets), c.index, gram, {1e-4, 1e-4});
  EXPECT_LT(delta[1].norm().item<float>(), 0.05F * delta[0].norm().item<float>());
}

TEST(Deposit, RefusesWhatIsNotFinite) {
  Case c;
  c.targets[0][0] = INFINITY;
  EXPECT_THROW(deposit(c.sites, Targets::each(c.targets), c.index, at::zeros({3, 3}), {}), Error);
}

}  // namespace
}  // namespace accrete
