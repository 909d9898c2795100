#include "memory/learned_lookup.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "base/error.h"
#include "base/rng.h"
#include "memory/product_keys.h"
#include "memory/sparse_rows.h"

namespace accrete {
namespace {

constexpr int64_t kHeads = 3, kHalfKeys = 8, kTopK = 4, kWidth = 10, kTokens = 37, kValue = 6;

at::Tensor random(at::IntArrayRef shape, uint64_t stream) {
  Rng rng(5, stream);
  auto t = at::empty(shape, at::kFloat);
  for (int64_t i = 0; i < t.numel(); ++i) t.data_ptr<float>()[i] = rng.normal();
  return t;
}

struct Layer {
  at::Tensor q = random({kTokens, kHeads * kWidth}, 1);
  at::Tensor keys = random({kHeads, 2, kHalfKeys, kWidth / 2}, 2);
  at::Tensor bias = random({kHeads, 2, kHalfKeys}, 3);
  at::Tensor values = random({kHeads * kHalfKeys * kHalfKeys, kValue}, 4);
  at::Tensor target = random({kTokens, kValue}, 5);

  std::vector<at::Tensor> leaves(at::ScalarType type) const {
    std::vector<at::Tensor> out;
    for (const auto& t : {q, keys, bias, values})
      out.push_back(t.to(type).detach().clone().requires_grad_(true));
    return out;
  }
};

TEST(LearnedLookup, FindsWhatProductKeysFind) {
  const Layer layer;
  ProductKeyOptions options;
  options.heads = kHeads;
  options.half_keys = kHalfKeys;
  options.top_k = kTopK;
  options.query_width = kWidth;
  const auto x = random({kTokens, 12}, 6), projection = random({12, kHeads * kWidth}, 7);
  const auto keys =
      ProductKeys::from_tensors(options, at::zeros({12}), projection, layer.keys, layer.bias);
  const auto expected = keys.lookup(x);
  const auto found = learned_lookup(at::mm(x, projection), layer.keys, layer.bias, kTopK);
  EXPECT_TRUE(at::equal(found.slots, expected.slots));
  EXPECT_TRUE(at::allclose(found.weights, expected.weights, 1e-4, 1e-6));
  const auto reference =
      learned_lookup_reference(at::mm(x, projection), layer.keys, layer.bias, kTopK);
  EXPECT_TRUE(at::equal(reference.slots, expected.slots));
  EXPECT_TRUE(at::allclose(reference.weights, expected.weights, 1e-4, 1e-6));
}

// The whole memory layer: lookup, then value read; gradients of all that is learned.
TEST(LearnedLookup, GradientsAreThoseOfAutogradInDouble) {
  const Layer layer;
  const auto a = layer.leaves(at::kFloat), b = layer.leaves(at::kDouble);
  const auto fast = learned_lookup(a[0], a[1], a[2], kTopK);
  const auto y = weighted_gather(a[3], fast.slots, fast.weights);
  const auto slow = learned_lookup_reference(b[0], b[1], b[2], kTopK);
  ASSERT_TRUE(at::equal(fast.slots, slow.slots));
  const auto z = weighted_gather_reference(b[3], slow.slots, slow.weights);
  const auto of_y = torch::autograd::grad({(y * layer.target).sum()}, a);
  const auto of_z = torch::autograd::grad({(z * layer.target.to(at::kDouble)).sum()}, b);
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_TRUE(at::allclose(of_y[i].to(at::kDouble), of_z[i], 1e-4, 1e-5)) << i;
}

// The reference itself, against differences of its output.
TEST(LearnedLookup, ReferenceGradientsAreDifferences) {
  const Layer layer;
  const auto leaves = layer.leaves(at::kDouble);
  const auto target = layer.target.to(at::kDouble);
  const auto loss = [&](const std::vector<at::Tensor>& t) {
    const auto found = learned_lookup_reference(t[0], t[1], t[2], kTopK);
    return (weighted_gather_reference(t[3], found.slots, found.weights) * target).sum();
  };
  const auto gradient = torch::autograd::grad({loss(leaves)}, leaves);
  for (size_t i = 0; i < leaves.size(); ++i) {
    // Small enough that no other slot is chosen.
    const double step = 1e-6;
    const auto direction = random(leaves[i].sizes(), 20 + i).to(at::kDouble);
    auto up = leaves, down = leaves;
    up[i] = (leaves[i] + step * direction).detach();
    down[i] = (leaves[i] - step * direction).detach();
    const double difference = (loss(up) - loss(down)).item<double>() / (2 * step);
    EXPECT_NEAR(difference, (gradient[i] * direction).sum().item<double>(),
                1e-5 * (1 + std::abs(difference)))
        << i;
  }
}

TEST(LearnedLookup, RefusesWhatDoesNotFit) {
  const Layer layer;
  EXPECT_THROW(learned_lookup(layer.q, layer.keys, layer.bias, kHalfKeys + 1), Error);
  EXPECT_THROW(learned_lookup(layer.q.narrow(1, 0, 4), layer.keys, {}, kTopK), Error);
  auto broken = layer.q.clone();
  broken[0].fill_(NAN);
  EXPECT_THROW(learned_lookup(broken, layer.keys, {}, kTopK), Error);
}

}  // namespace
}  // namespace accrete
