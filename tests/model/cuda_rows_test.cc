// The CUDA device code of rows (model/kernels/cuda_rows_device.h), run on the CPU, against the CPU
// kernels.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "../memory/cuda_on_cpu.h"
#include "../memory/random_floats.h"
#include "model/kernels/cuda_rows_device.h"
#include "model/kernels/rows.h"

namespace accrete::kernels {
namespace {

using cuda_on_cpu::launch;

using testing::normal_floats;

void expect_near_rows(const std::vector<float>& got, const std::vector<float>& expected, float by) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], expected[i], by * (1 + std::abs(expected[i]))) << "at " << i;
}

TEST(CudaRows, NormIsTheCpus) {
  constexpr int64_t kRows = 5;
  for (const int64_t d : {3, 32, 200}) {
    const auto x = normal_floats(kRows * d, 1), w = normal_floats(d, 2),
               g = normal_floats(kRows * d, 3);
    std::vector<float> out(x.size()), inverse(kRows), dx(x.size(), 0);
    auto got = out, got_inverse = inverse, got_dx = dx;
    rms_norm_rows(x.data(), w.data(), kRows, d, 1e-5f, out.data(), inverse.data());
    rms_norm_rows_backward(x.data(), w.data(), inverse.data(), g.data(), kRows, d, dx.data());
    launch({kRows}, cuda::kWarp, [&] {
      const auto r = static_cast<int64_t>(blockIdx.x);
      cuda::rms_norm_warp(x.data() + r * d, w.data(), static_cast<int>(d), 1e-5f,
                          got.data() + r * d, got_inverse.data() + r);
      cuda::rms_norm_backward_warp(x.data() + r * d, w.data(), inverse[static_cast<size_t>(r)],
                                   g.data() + r * d, static_cast<int>(d), got_dx.data() + r * d);
    });
    expect_near_rows(got, out, 1e-5f);
    expect_near_rows(got_inverse, inverse, 1e-5f);
    expect_near_rows(got_dx, dx, 1e-5f);
  }
}

TEST(CudaRows, SwigluIsTheCpus) {
  constexpr int64_t kCount = 100;
  auto gate = normal_floats(kCount, 1), up = normal_floats(kCount, 2);
  const auto g = normal_floats(kCount, 3);
  std::vector<float> out(kCount), got(kCount), dgate(kCount), dup(kCount);
  swiglu(gate.data(), up.data(), kCount, out.data());
  for (size_t i = 0; i < got.size(); ++i) {
    got[i] = cuda::swiglu_one(gate[i], up[i]);
    cuda::swiglu_backward_one(gate[i], up[i], g[i], &dgate[i], &dup[i]);
  }
  swiglu_backward(g.data(), kCount, gate.data(), up.data());
  expect_near_rows(got, out, 1e-5f);
  expect_near_rows(dgate, gate, 1e-5f);
  expect_near_rows(dup, up, 1e-5f);
}

TEST(CudaRows, RotationIsTheCpusInBothDirections) {
  constexpr int64_t kHeads = 3, kWidth = 8;
  const auto x = normal_floats(kHeads * kWidth, 1), angles = normal_floats(kWidth / 2, 2);
  std::vector<float> cos, sin;
  for (const float a : angles) {
    cos.push_back(std::cos(a));
    sin.push_back(std::sin(a));
  }
  for (const float direction : {1.0f, -1.0f}) {
    auto expected = x, got = x;
    rotate_row(expected.data(), kHeads, kWidth, cos.data(), sin.data(), direction);
    for (int64_t h = 0; h < kHeads; ++h)
      for (int pair = 0; pair < kWidth / 2; ++pair) {
        float* head = got.data() + h * kWidth;
        cuda::rotate_pair(head, cos[static_cast<size_t>(pair)], sin[static_cast<size_t>(pair)],
                          direction, kWidth / 2, pair, head);
      }
    expect_near_rows(got, expected, 1e-6f);
  }
}

TEST(CudaRows, CrossEntropyIsTheCpus) {
  constexpr int64_t kCount = 500;
  for (const int64_t label : {0, 77, 499}) {
    auto logits = normal_floats(kCount, 1);
    for (float& v : logits) v *= 5;
    auto got = logits;
    const float loss = cross_entropy(logits.data(), kCount, label, 0.25f);
    float got_loss = 0;
    std::vector<float> shared(2 * 3);
    launch({1}, 3 * cuda::kWarp, [&] {
      cuda::cross_entropy_block(got.data(), static_cast<int>(kCount), label, 0.25f, &got_loss,
                                shared.data());
    });
    EXPECT_NEAR(4 * std::abs(loss), 4 * std::abs(got_loss), 2e-4f);
    EXPECT_NEAR(loss, got_loss, 2e-4f);
    expect_near_rows(got, logits, 1e-5f);
  }
}

TEST(CudaRows, RowAdamIsAdam) {
  constexpr int kWidth = 70;
  auto v = normal_floats(kWidth, 1), m = std::vector<float>(kWidth, 0), s = m;
  std::vector<double> ev(v.begin(), v.end()), em(kWidth, 0), es(kWidth, 0);
  const cuda::RowAdamOptions options{0.1, 0.9, 0.98, 1e-8f, 0.5f};
  for (int step = 1; step <= 5; ++step) {
    const auto g = normal_floats(kWidth, static_cast<uint64_t>(step + 1));
    launch({1}, 64, [&] {
      cuda::row_adam_block(g.data(), kWidth, options, step, v.data(), m.data(), s.data());
    });
    for (size_t i = 0; i < ev.size(); ++i) {
      const double gi = 0.5 * static_cast<double>(g[i]);
      em[i] = 0.9 * em[i] + 0.1 * gi;
      es[i] = 0.98 * es[i] + 0.02 * gi * gi;
      ev[i] -= 0.1 * em[i] / (1 - std::pow(0.9, step)) /
               (std::sqrt(es[i] / (1 - std::pow(0.98, step))) + 1e-8);
    }
  }
  expect_near_rows(v, {ev.begin(), ev.end()}, 1e-4f);
}

}  // namespace
}  // namespace accrete::kernels
