#include "memory/gate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "memory_testing.h"

namespace accrete {
namespace {

using testing::normals;

TEST(Gate, NearestDistanceIsTheSmallestNorm) {
  const auto q = normals({7, 5}, 1), anchors = normals({4, 5}, 2);
  const auto got = nearest_distance(q, anchors);
  const auto want = (q.unsqueeze(1) - anchors.unsqueeze(0)).norm(2, {2}).amin(1);
  EXPECT_TRUE(at::allclose(got, want, 1e-4, 1e-4));
}

TEST(Gate, OpensNearAnAnchorAndShutsFarAway) {
  const Gate gate;  // radius 6, softness 2
  const auto anchors = at::zeros({1, 2});
  const auto q = at::tensor({0.F, 0.F, 3.9F, 0.F, 5.F, 0.F, 6.F, 0.F, 40.F, 0.F}).view({5, 2});
  const auto want = at::tensor({1.F, 1.F, 0.5F, 0.F, 0.F});
  EXPECT_TRUE(at::allclose(gate(q, anchors), want, 1e-3, 1e-3));
}

TEST(Gate, WhereFirstTokensLieAnAnchorStandsForItself) {
  Gate gate;
  const auto first = 0.1 * normals({20, 4}, 7) + 3;
  find_first(gate, first);
  ASSERT_TRUE(gate.first_at.defined());
  EXPECT_LT(gate.first_radius, 1);
  const auto beside = first + 1;
  EXPECT_TRUE(gate.first(first).all().item<bool>());
  EXPECT_FALSE(gate.first(beside).any().item<bool>());
  // One of them opens it for itself, for no other and for nothing outside, nor from outside.
  const auto one = first.narrow(0, 3, 1);
  const auto g = gate(first, one);
  EXPECT_EQ(g[3].item<float>(), 1);
  EXPECT_LT(g.sum().item<float>(), 2);
  EXPECT_EQ(gate(beside, one).max().item<float>(), 0);
  EXPECT_EQ(gate(first, beside).max().item<float>(), 0);
  EXPECT_EQ(gate(beside, beside).min().item<float>(), 1);
  // The same by part.
  const auto anchors = at::cat({first, beside});
  const Gates parts = gate.by_part(anchors, anchors, at::arange(40).floor_divide(20));
  EXPECT_EQ(parts.part.size(1), 1);
  EXPECT_TRUE(at::equal(parts.part.select(1, 0), at::arange(40).floor_divide(20)));
  EXPECT_TRUE(at::allclose(parts.weight.select(1, 0), gate(anchors, anchors)));
  EXPECT_EQ(thin_anchors(gate, first, 1).size(0), 20);
}

TEST(Gate, KnowsNoFirstTokensWhereTheyAreLikeAnyOtherOrAllTheSame) {
  Gate gate;
  find_first(gate, 8 * normals({20, 4}, 7));
  EXPECT_FALSE(gate.first_at.defined());
  find_first(gate, normals({1, 4}, 7).repeat({20, 1}));
  EXPECT_FALSE(gate.first_at.defined());
  EXPECT_FALSE(gate.first(normals({3, 4}, 1)).any().item<bool>());
}

TEST(Gate, WithoutAnchorsItIsShut) {
  EXPECT_EQ(Gate()(normals({3, 2}, 1), {}).abs().sum().item<float>(), 0);
  EXPECT_EQ(Gate()(normals({3, 2}, 1), at::zeros({0, 2})).abs().sum().item<float>(), 0);
}

TEST(Gate, PartsAreHeardNearTheirOwnAnchors) {
  Gate gate;  // radius 6, softness 2
  const auto anchors =
      at::tensor({0.0F, 0.0F, 1.0F, 0.0F, 0.9F, 0.0F, 30.0F, 0.0F, 34.0F, 0.0F}).view({5, 2});
  const auto part = at::tensor({0, 0, 1, 2, 3}, at::kLong);
  const auto q =
      at::tensor({0.0F, 0.0F, 0.0F, 5.0F, 30.0F, 0.0F, 32.0F, 0.0F, 60.0F, 0.0F}).view({5, 2});
  const Gates g = gate.by_part(q, anchors, part);
  ASSERT_EQ(g.part.size(1), 2);
  const auto at = [](const at::Tensor& t, int64_t i, int64_t k) { return t[i][k].item<float>(); };
  // Two parts at one subject are both heard, less so at a distance.
  EXPECT_EQ(at(g.part, 0, 0), 0);
  EXPECT_EQ(at(g.part, 0, 1), 1);
  EXPECT_EQ(at(g.weight, 0, 0), 1);
  EXPECT_EQ(at(g.weight, 0, 1), 1);
  EXPECT_NEAR(at(g.weight, 1, 0), 0.5, 1e-3);
  EXPECT_NEAR(at(g.weight, 1, 1), (6 - std::sqrt(25.81)) / 2, 1e-3);
  // At one's own anchor another within the radius is silent; half way both are heard.
  EXPECT_EQ(at(g.part, 2, 0), 2);
  EXPECT_EQ(at(g.part, 2, 1), -1);
  EXPECT_EQ(at(g.weight, 2, 1), 0);
  EXPECT_EQ(at(g.part, 3, 1), 3);
  EXPECT_EQ(at(g.part, 4, 0), -1);
  // Nearest parts speak as loud as the gate of all anchors says.
  EXPECT_TRUE(at::allclose(g.weight.amax(1), gate(q, anchors), 1e-4, 1e-4));
}

TEST(Gate, ATokenByItselfHearsWhatItHearsAmongMany) {
  Gate gate;
  gate.radius = 1.5;
  const auto anchors = normals({50, 6}, 1), q = normals({700, 6}, 2);
  const auto part = at::arange(50).floor_divide(10);
  find_first(gate, 0.1 * normals({20, 6}, 3));
  ASSERT_TRUE(gate.first_at.defined());
  const Gates all = gate.by_part(q, anchors, part);
  int64_t silent = 0;
  for (int64_t t = 0; t < q.size(0); t += 7) {
    const Gates one = gate.by_part(q.narrow(0, t, 1), anchors, part);
    const int64_t heard = (all.part[t] >= 0).sum().item<int64_t>();
    silent += heard == 0;
    ASSERT_EQ(one.part.size(1), heard);
    EXPECT_TRUE(at::equal(one.part[0], all.part[t].narrow(0, 0, heard)));
    EXPECT_TRUE(at::allclose(one.weight[0], all.weight[t].narrow(0, 0, heard), 1e-4, 1e-4));
  }
  EXPECT_GT(silent, 0);
  EXPECT_LT(silent, 100);
}

TEST(Gate, GatesOfTokensAreCutAndJoined) {
  const Gate gate;
  const auto q = normals({9, 3}, 4), anchors = normals({5, 3}, 5);
  const Gates g = gate.by_part(q, anchors, at::arange(5));
  const std::vector<Gates> cut = {g.narrow(0, 4), Gates::none(2), g.narrow(4, 5)};
  const Gates joined = concat(cut);
  EXPECT_TRUE(at::equal(
      joined.part.index_select(0, at::tensor({0, 1, 2, 3, 6, 7, 8, 9, 10}, at::kLong)), g.part));
  EXPECT_TRUE(at::equal(joined.part.narrow(0, 4, 2), at::full({2, g.part.size(1)}, -1, at::kLong)));
  EXPECT_FALSE(concat(std::span<const Gates>()).defined());
  EXPECT_EQ(Gate().by_part(q, {}, {}).part.size(1), 0);
}

TEST(Gate, ThinAnchorsCoverWhatTheyLeaveOut) {
  const auto q = normals({60, 3}, 3);
  const double spacing = 0.8;
  const auto kept = thin_anchors(Gate(), q, spacing);
  ASSERT_LT(kept.size(0), q.size(0));
  EXPECT_LE(nearest_distance(q, kept).max().item<double>(), spacing);
  for (int64_t i = 1; i < kept.size(0); ++i)  // and none of them was needless
    EXPECT_GT(nearest_distance(kept.narrow(0, i, 1), kept.narrow(0, 0, i)).item<double>(), spacing);
}

TEST(Gate, NearNamesTheAnchorsWithinTheRadius) {
  at::manual_seed(8);
  Gate gate;
  gate.radius = 4.5;
  gate.first_at = at::full({8}, 20.0F);
  gate.first_radius = 2;
  auto anchors = at::randn({60, 8});
  anchors.narrow(0, 50, 10).div_(10).add_(20);
  auto q = at::randn({30, 8});
  q.narrow(0, 25, 5).copy_(anchors.narrow(0, 50, 5));
  const auto near = gate.near(q, anchors);
  ASSERT_EQ(near.size(), 30U);
  size_t found = 0;
  for (int64_t t = 0; t < 30; ++t) {
    size_t k = 0;
    for (int64_t m = 0; m < 60; ++m) {
      const double d = gate.distance(q.narrow(0, t, 1), anchors.narrow(0, m, 1)).item<double>();
      if (d >= gate.radius) continue;
      ASSERT_LT(k, near[static_cast<size_t>(t)].size());
      EXPECT_EQ(near[static_cast<size_t>(t)][k].anchor, m);
      // Among first tokens rounding counts 15 times as much.
      EXPECT_NEAR(near[static_cast<size_t>(t)][k].distance, d, t < 25 ? 2e-2 : 0.5);
      ++k;
    }
    EXPECT_EQ(k, near[static_cast<size_t>(t)].size());
    found += k;
  }
  EXPECT_GT(found, 30U);
}

}  // namespace
}  // namespace accrete
