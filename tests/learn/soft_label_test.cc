#include "learn/soft_label.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/rng.h"

namespace accrete {
namespace {

std::vector<float> normals(size_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> out(n);
  for (float& v : out) v = 2 * rng.normal();
  return out;
}

std::vector<double> softmax(const std::vector<float>& logits) {
  std::vector<double> p;
  double sum = 0;
  for (const float v : logits) sum += p.emplace_back(std::exp(static_cast<double>(v)));
  for (double& v : p) v /= sum;
  return p;
}

// The definition, in double precision.
double divergence_reference(const std::vector<float>& logits, const SoftLabel& label) {
  const auto p = softmax(logits);
  double named = 0, out = 0;
  for (size_t i = 0; i < label.tokens.size(); ++i) {
    const double now = p[static_cast<size_t>(label.tokens[i])];
    const auto was = static_cast<double>(label.p[i]);
    named += now;
    out += was * std::log(was / now);
  }
  return out + label.rest() * std::log(label.rest() / (1 - named));
}

TEST(SoftLabel, NamesTheMostLikelyTokensInOrder) {
  const auto logits = normals(500, 1);
  const auto p = softmax(logits);
  const SoftLabel label = soft_label(logits.data(), 500, 8);
  ASSERT_EQ(label.tokens.size(), 8u);
  double sum = 0;
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(label.p[i], p[static_cast<size_t>(label.tokens[i])], 1e-6);
    if (i > 0) {
      EXPECT_GE(label.p[i - 1], label.p[i]);
    }
    sum += static_cast<double>(label.p[i]);
  }
  EXPECT_NEAR(label.rest(), 1 - sum, 1e-6);
  EXPECT_EQ(*std::max_element(logits.begin(), logits.end()),
            logits[static_cast<size_t>(label.tokens[0])]);
}

TEST(SoftLabel, DivergenceFromItselfIsNothing) {
  auto logits = normals(300, 2);
  const SoftLabel label = soft_label(logits.data(), 300, 16);
  EXPECT_NEAR(divergence(logits.data(), 300, label, 1), 0, 1e-6);
  for (const float g : logits) EXPECT_NEAR(g, 0, 1e-6);
}

TEST(SoftLabel, DivergenceAndItsGradientAreThoseOfTheDefinition) {
  const int64_t n = 60;
  const auto before = normals(60, 3), after = normals(60, 4);
  const SoftLabel label = soft_label(before.data(), n, 10);
  auto gradient = after;
  EXPECT_NEAR(divergence(gradient.data(), n, label, 0.5F), divergence_reference(after, label),
              1e-5);
  for (size_t i = 0; i < 60; ++i) {
    auto up = after, down = after;
    up[i] += 0.01F;
    down[i] -= 0.01F;
    const double slope =
        (divergence_reference(up, label) - divergence_reference(down, label)) / 0.02;
    EXPECT_NEAR(gradient[i], 0.5 * slope, 1e-4) << i;
  }
}

TEST(SoftLabel, OverlapIsWhatBothExpect) {
  const SoftLabel a{{3, 5, 7}, {0.5F, 0.2F, 0.1F}}, b{{5, 9, 3}, {0.6F, 0.2F, 0.1F}};
  EXPECT_NEAR(overlap(a, b), 0.2 + 0.1, 1e-6);
  EXPECT_NEAR(overlap(a, a), 0.8, 1e-6);
  EXPECT_EQ(overlap(a, SoftLabel{}), 0);
}

}  // namespace
}  // namespace accrete
