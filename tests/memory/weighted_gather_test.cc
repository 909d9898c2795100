#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <functional>
#include <tuple>

#include "base/error.h"
#include "base/format.h"
#include "memory/sparse_rows.h"
#include "memory_testing.h"

namespace accrete {
namespace {

using testing::normals;
using testing::random_accesses;
using testing::same_bytes;
using testing::Threads;

using Gather = at::Tensor (*)(const at::Tensor&, const at::Tensor&, const at::Tensor&);

struct Result {
  at::Tensor y, grad_table, grad_weights;
};

Result run(Gather gather, const at::Tensor& table, const at::Tensor& rows,
           const at::Tensor& weights, const at::Tensor& grad) {
  const auto t = table.detach().clone().requires_grad_(true);
  const auto w = weights.detach().clone().requires_grad_(true);
  const auto y = gather(t, rows, w);
  const auto grads = torch::autograd::grad({y}, {t, w}, {grad.to(y.scalar_type())});
  return {y.detach(), grads[0], grads[1]};
}

struct GatherShape {
  int64_t T, K, R, d;
  double holes;
};

class WeightedGather : public ::testing::TestWithParam<GatherShape> {};

INSTANTIATE_TEST_SUITE_P(
    Shapes, WeightedGather,
    ::testing::Values(GatherShape{1, 1, 1, 1, 0}, GatherShape{5, 3, 4, 7, 0.2},
                      GatherShape{17, 8, 40, 33, 0.3}, GatherShape{64, 32, 50, 576, 0},
                      GatherShape{64, 32, 5000, 576, 0.9}, GatherShape{9, 31, 64, 577, 0.1},
                      GatherShape{200, 2, 3, 15, 0.1}, GatherShape{300, 16, 17, 64, 0.5},
                      GatherShape{3, 4, 10, 2048, 0}, GatherShape{1000, 1, 2, 5, 0},
                      GatherShape{40, 8, 16, 3, 1}, GatherShape{0, 8, 16, 12, 0},
                      GatherShape{6, 8, 0, 12, 1}, GatherShape{6, 0, 5, 12, 0}),
    [](const auto& test) {
      const GatherShape& s = test.param;
      return accrete::format("T{}K{}R{}d{}holes{}", s.T, s.K, s.R, s.d,
                             static_cast<int>(s.holes * 10));
    });

TEST_P(WeightedGather, KernelAgreesWithTheReferenceInDouble) {
  const auto [T, K, R, d, holes] = GetParam();
  const auto rows = random_accesses(T, K, std::max<int64_t>(R, K), 1, holes).slots;
  const auto in_table = at::where(rows < R, rows, -1).to(at::kInt);
  const auto table = normals({R, d}, 2), weights = normals({T, K}, 3), grad = normals({T, d}, 4);
  const Result kernel = run(weighted_gather, table, in_table, weights, grad);
  const Result reference = run(weighted_gather_reference, table.to(at::kDouble), in_table,
                               weights.to(at::kDouble), grad);
  ASSERT_EQ(kernel.y.sizes(), (at::IntArrayRef{T, d}));
  ASSERT_EQ(kernel.grad_table.sizes(), (at::IntArrayRef{R, d}));
  ASSERT_EQ(kernel.grad_weights.sizes(), (at::IntArrayRef{T, K}));
  const auto close = [](const at::Tensor& a, const at::Tensor& b) {
    return at::allclose(a.to(at::kDouble), b, 1e-4, 1e-4);
  };
  EXPECT_TRUE(close(kernel.y, reference.y));
  EXPECT_TRUE(close(kernel.grad_table, reference.grad_table));
  EXPECT_TRUE(close(kernel.grad_weights, reference.grad_weights));
  EXPECT_TRUE(same_bytes(scatter_rows(grad, in_table, weights, R), kernel.grad_table));
}

TEST_P(WeightedGather, DoesNotDependOnTheThreads) {
  const auto [T, K, R, d, holes] = GetParam();
  const auto rows = random_accesses(T, K, std::max<int64_t>(R, K), 1, holes).slots;
  const auto in_table = at::where(rows < R, rows, -1).to(at::kInt);
  const auto table = normals({R, d}, 2), weights = normals({T, K}, 3), grad = normals({T, d}, 4);
  const auto with = [&](int threads) {
    const Threads guard(threads);
    return run(weighted_gather, table, in_table, weights, grad);
  };
  const Result one = with(1), two = with(2), three = with(3);
  for (const Result* other : {&two, &three}) {
    EXPECT_TRUE(same_bytes(one.y, other->y));
    EXPECT_TRUE(same_bytes(one.grad_table, other->grad_table));
    EXPECT_TRUE(same_bytes(one.grad_weights, other->grad_weights));
  }
}

TEST_P(WeightedGather, ReadsATableInBfloat16AsItIs) {
  const auto [T, K, R, d, holes] = GetParam();
  const auto rows = random_accesses(T, K, std::max<int64_t>(R, K), 1, holes).slots;
  const auto in_table = at::where(rows < R, rows, -1).to(at::kInt);
  const auto table = normals({R, d}, 2).to(at::kBFloat16);
  const auto weights = normals({T, K}, 3), grad = normals({T, d}, 4);
  const auto of = [&](Gather gather, const at::Tensor& from) {
    const auto w = weights.clone().requires_grad_(true);
    const auto y = gather(from, in_table, w);
    return std::pair{y.detach(), torch::autograd::grad({y}, {w}, {grad})[0]};
  };
  const auto [y, grad_weights] = of(weighted_gather, table);
  const auto [same_y, same_grad] = of(weighted_gather, table.to(at::kFloat));
  EXPECT_TRUE(same_bytes(y, same_y));
  EXPECT_TRUE(same_bytes(grad_weights, same_grad));
  const auto [plain_y, plain_grad] = of(weighted_gather_reference, table);
  EXPECT_TRUE(at::allclose(y, plain_y, 1e-4, 1e-4));
  EXPECT_TRUE(at::allclose(grad_weights, plain_grad, 1e-4, 1e-4));
}

// Central differences of a scalar function of x, in double.
at::Tensor numeric_gradient(const at::Tensor& x, const std::function<at::Tensor()>& f) {
  auto out = at::zeros_like(x);
  double* value = x.mutable_data_ptr<double>();
  double* to = out.mutable_data_ptr<double>();
  const double step = 1e-6;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double before = value[i];
    value[i] = before + step;
    const double up = f().item<double>();
    value[i] = before - step;
    const double down = f().item<double>();
    value[i] = before;
    to[i] = (up - down) / (2 * step);
  }
  return out;
}

TEST(WeightedGatherGradients, HoldInDouble) {
  const auto rows = random_accesses(6, 5, 7, 1, 0.3).slots;
  auto table = normals({7, 4}, 2).to(at::kDouble), weights = normals({6, 5}, 3).to(at::kDouble);
  const auto probe = normals({6, 4}, 4).to(at::kDouble);
  // Not linear in y, so that the gradient of the gradient is there to check.
  const auto loss = [&](Gather gather, const at::Tensor& t, const at::Tensor& w) {
    return (gather(t, rows, w) * probe).sin().sum();
  };
  for (const Gather gather : {&weighted_gather, &weighted_gather_reference}) {
    const auto t = table.clone().requires_grad_(true), w = weights.clone().requires_grad_(true);
    const auto grads = torch::autograd::grad({loss(gather, t, w)}, {t, w}, {}, std::nullopt, true);
    const auto numeric_t = numeric_gradient(table, [&] { return loss(gather, table, weights); });
    const auto numeric_w = numeric_gradient(weights, [&] { return loss(gather, table, weights); });
    EXPECT_TRUE(at::allclose(grads[0], numeric_t, 1e-6, 1e-7));
    EXPECT_TRUE(at::allclose(grads[1], numeric_w, 1e-6, 1e-7));
  }
}

TEST(WeightedGatherGradients, OfGradientsInFloat) {
  const auto rows = random_accesses(6, 5, 7, 1, 0.3).slots;
  const auto probe = normals({6, 4}, 4), direction = normals({7, 4}, 5);
  const auto second = [&](Gather gather, at::ScalarType type) {
    const auto t = normals({7, 4}, 2).to(type).requires_grad_(true);
    const auto w = normals({6, 5}, 3).to(type).requires_grad_(true);
    const auto y = (gather(t, rows, w) * probe).sin().sum();
    const auto g = torch::autograd::grad({y}, {t}, {}, true, true)[0];
    return torch::autograd::grad({(g * direction).sum()}, {t, w});
  };
  const auto kernel = second(weighted_gather, at::kFloat);
  const auto reference = second(weighted_gather_reference, at::kDouble);
  EXPECT_TRUE(at::allclose(kernel[0].to(at::kDouble), reference[0], 1e-4, 1e-5));
  EXPECT_TRUE(at::allclose(kernel[1].to(at::kDouble), reference[1], 1e-4, 1e-5));
}

TEST(WeightedGatherGradients, OnlyWhatIsAskedFor) {
  const auto rows = random_accesses(6, 5, 7, 1).slots;
  const auto table = normals({7, 4}, 2).requires_grad_(true);
  const auto y = weighted_gather(table, rows, normals({6, 5}, 3));
  ASSERT_TRUE(y.requires_grad());
  y.sum().backward();
  EXPECT_EQ(table.grad().sizes(), table.sizes());
  EXPECT_FALSE(weighted_gather(table.detach(), rows, normals({6, 5}, 3)).requires_grad());
}

TEST(WeightedGatherRows, ReadsOnlyWhatIsAccessed) {
  auto table = normals({5, 8}, 2);
  table[0].fill_(std::numeric_limits<float>::quiet_NaN());
  const auto rows = at::tensor({1, -1, 2, -1, -1, -1, 4, 3, -1}, at::kInt).view({3, 3});
  const auto weights = at::rand({3, 3});
  for (const Gather gather : {&weighted_gather, &weighted_gather_reference}) {
    const Result r = run(gather, table, rows, weights, normals({3, 8}, 4));
    EXPECT_TRUE(at::isfinite(r.y).all().item<bool>());
    EXPECT_TRUE(at::isfinite(r.grad_weights).all().item<bool>());
    EXPECT_EQ(r.y[1].abs().sum().item<float>(), 0);
    EXPECT_EQ(r.grad_table[0].abs().sum().item<float>(), 0);
    EXPECT_EQ(r.grad_weights[1].abs().sum().item<float>(), 0);
  }
}

TEST(WeightedGatherRows, TakesViews) {
  const auto wide = normals({9, 14}, 2);
  const auto table = wide.slice(1, 0, 14, 2);
  const auto rows = random_accesses(5, 6, 9, 1).slots.t().contiguous().t();
  const auto weights = normals({6, 5}, 3).t();
  EXPECT_TRUE(at::allclose(weighted_gather(table, rows, weights),
                           weighted_gather_reference(table, rows, weights), 1e-5, 1e-6));
}

TEST(WeightedGatherRows, RefusesWhatDoesNotFit) {
  const auto rows = random_accesses(5, 6, 9, 1).slots;
  const auto weights = normals({5, 6}, 3), table = normals({9, 4}, 2);
  EXPECT_THROW(weighted_gather(table.narrow(0, 0, 3), rows, weights), Error);
  EXPECT_THROW(weighted_gather(table, rows - 2, weights), Error);
  EXPECT_THROW(weighted_gather(table, rows.to(at::kLong), weights), Error);
  EXPECT_THROW(weighted_gather(table, rows, weights.narrow(1, 0, 5)), Error);
  EXPECT_THROW(weighted_gather(table[0], rows, weights), Error);
  EXPECT_THROW(scatter_rows(normals({4, 4}, 1), rows, weights, 9), Error);
  EXPECT_THROW(scatter_rows(normals({5, 4}, 1), rows, weights, 3), Error);
}

}  // namespace
}  // namespace accrete
