// The fused row kernels against plain tensor operations and autograd.
#include "model/kernels/rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "model/transformer.h"

namespace accrete {
namespace {

float* data(const at::Tensor& t) {
  return t.mutable_data_ptr<float>();
}
void expect_near(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_TRUE(at::allclose(a, b, 1e-4, 1e-5)) << (a - b).abs().max().item<float>();
}

TEST(Rows, RmsNormAndItsGradient) {
  at::manual_seed(1);
  for (const int64_t d : {5, 32, 576}) {
    auto x = at::randn({7, d}).requires_grad_(true);
    const auto w = at::randn({d}), g = at::randn({7, d});
    const auto want = rms_norm(x, w, 1e-5);
    const auto want_dx = torch::autograd::grad({want}, {x}, {g})[0];
    const auto plain = x.detach();
    auto out = at::empty_like(plain), inverse = at::empty({7}), dx = at::ones_like(plain);
    kernels::rms_norm_rows(data(plain), data(w), 7, d, 1e-5F, data(out), data(inverse));
    kernels::rms_norm_rows_backward(data(plain), data(w), data(inverse), data(g), 7, d, data(dx));
    expect_near(out, want.detach());
    expect_near(dx, 1 + want_dx);
  }
}

TEST(Rows, SwiGluAndItsGradient) {
  at::manual_seed(2);
  auto gate = (4 * at::randn({133})).requires_grad_(true),
       up = at::randn({133}).requires_grad_(true);
  const auto g = at::randn({133});
  const auto want = at::silu(gate) * up;
  const auto grads = torch::autograd::grad({want}, {gate, up}, {g});
  auto a = gate.detach().clone(), b = up.detach().clone(), out = at::empty({133});
  kernels::swiglu(data(a), data(b), 133, data(out));
  expect_near(out, want.detach());
  kernels::swiglu_backward(data(g), 133, data(a), data(b));
  expect_near(a, grads[0]);
  expect_near(b, grads[1]);
}

TEST(Rows, SwiGluOfLargeNumbers) {
  auto gate = at::tensor({-200.F, -90.F, 90.F, 200.F}), up = at::ones({4}), out = at::empty({4});
  kernels::swiglu(data(gate), data(up), 4, data(out));
  expect_near(out, at::tensor({0.F, 0.F, 90.F, 200.F}));
}

TEST(Rows, RotationIsTakenBack) {
  at::manual_seed(3);
  const auto x = at::randn({3 * 10}), angle = at::randn({5});
  const auto cos = angle.cos(), sin = angle.sin();
  auto y = x.clone();
  kernels::rotate_row(data(y), 3, 10, data(cos), data(sin), 1);
  const auto halves = x.view({3, 2, 5});
  const auto a = halves.select(1, 0), b = halves.select(1, 1);
  expect_near(y.view({3, 10}), at::cat({a * cos - b * sin, b * cos + a * sin}, 1));
  kernels::rotate_row(data(y), 3, 10, data(cos), data(sin), -1);
  expect_near(y, x);
}

// Keys in three segments; the last holds the new tokens' own.
TEST(Rows, AttentionAndItsGradient) {
  at::manual_seed(4);
  constexpr int64_t T = 3, G = 2, D = 12, P1 = 4, P2 = 1, S = P1 + P2 + T;
  auto q = at::randn({T, G, D}).requires_grad_(true);
  const auto past_k = at::randn({P1 + P2, D}), past_v = at::randn({P1 + P2, D});
  auto k = at::randn({T, D}).requires_grad_(true), v = at::randn({T, D}).requires_grad_(true);
  const auto g = at::randn({T, G, D});
  const auto mask = at::ones({T, S}, at::kBool).tril(P1 + P2).unsqueeze(0);
  const auto keys = at::cat({past_k, k}), values = at::cat({past_v, v});
  const auto scores = at::matmul(q.transpose(0, 1), keys.t()) / std::sqrt(double{D});
  const auto p = scores.masked_fill(mask.logical_not(), -INFINITY).softmax(-1);  // [G, T, S]
  const auto want = at::matmul(p, values).transpose(0, 1);
  const auto grads = torch::autograd::grad({want}, {q, k, v}, {g.contiguous()});

  const auto q0 = q.detach(), k0 = k.detach(), v0 = v.detach();
  const kernels::AttentionShape shape{T, G, D, 3, G * D, G * D};
  const kernels::KeySegment segments[] = {{data(past_k), data(past_v), P1, D},
                                          {data(past_k) + P1 * D, data(past_v) + P1 * D, P2, D},
                                          {data(k0), data(v0), T, D}};
  auto out = at::empty({T, G, D}), probabilities = at::empty({T, G, S});
  kernels::attend(shape, data(q0), segments, nullptr, data(probabilities), data(out));
  expect_near(out, want.detach());
  expect_near(probabilities, p.detach().transpose(0, 1));
  auto dq = at::empty_like(q0), dk = at::empty_like(k0), dv = at::empty_like(v0);
  kernels::attend_backward(shape, data(q0), segments, data(probabilities), data(g), D, data(dq),
                           data(dk), data(dv));
  expect_near(dq, grads[0]);
  expect_near(dk, grads[1]);
  expect_near(dv, grads[2]);

  bool keep[S];
  std::fill_n(keep, S, true);
  keep[0] = keep[5] = false;
  kernels::attend(shape, data(q0), segments, keep, data(probabilities), data(out));
  const auto hidden = at::tensor({1, 0, 0, 0, 0, 1, 0, 0}, at::kInt).to(at::kBool).view({1, 1, S});
  const auto rest =
      scores.masked_fill(mask.logical_not().logical_or(hidden), -INFINITY).softmax(-1);
  expect_near(out, at::matmul(rest, values).transpose(0, 1).detach());
}

TEST(Rows, CrossEntropyAndItsGradient) {
  at::manual_seed(5);
  auto logits = (3 * at::randn({71})).requires_grad_(true);
  const auto nll = at::logsumexp(logits, {0}) - logits[13];
  const auto want = torch::autograd::grad({nll * 0.25}, {logits})[0];
  auto row = logits.detach().clone();
  EXPECT_NEAR(kernels::cross_entropy(data(row), 71, 13, 0.25F), nll.item<float>(), 1e-5);
  expect_near(row, want);
}

}  // namespace
}  // namespace accrete
