#include "memory/gate.h"

#include <gtest/gtest.h>

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

TEST(Gate, IsShutWhereFirstTokensLie) {
  Gate gate;
  const auto first = 0.1 * normals({20, 4}, 7) + 3;
  shut_around(gate, first);
  ASSERT_TRUE(gate.shut_at.defined());
  EXPECT_LT(gate.shut_radius, 1);
  // Anchors among them open it nowhere near, and beside them as ever.
  EXPECT_EQ(gate(first, first).max().item<float>(), 0);
  const auto beside = first + 1;
  EXPECT_EQ(gate(beside, first).min().item<float>(), 1);
  EXPECT_TRUE(gate.shut(first).all().item<bool>());
  EXPECT_FALSE(gate.shut(beside).any().item<bool>());
}

TEST(Gate, IsNotShutWhereFirstTokensAreLikeAnyOther) {
  Gate gate;
  shut_around(gate, 8 * normals({20, 4}, 7));
  EXPECT_FALSE(gate.shut_at.defined());
  EXPECT_FALSE(gate.shut(normals({3, 4}, 1)).any().item<bool>());
}

TEST(Gate, WithoutAnchorsItIsShut) {
  EXPECT_EQ(Gate()(normals({3, 2}, 1), {}).abs().sum().item<float>(), 0);
  EXPECT_EQ(Gate()(normals({3, 2}, 1), at::zeros({0, 2})).abs().sum().item<float>(), 0);
}

TEST(Gate, ThinAnchorsCoverWhatTheyLeaveOut) {
  const auto q = normals({60, 3}, 3);
  const double spacing = 0.8;
  const auto kept = thin_anchors(q, spacing);
  ASSERT_LT(kept.size(0), q.size(0));
  EXPECT_LE(nearest_distance(q, kept).max().item<double>(), spacing);
  for (int64_t i = 1; i < kept.size(0); ++i)  // and none of them was needless
    EXPECT_GT(nearest_distance(kept.narrow(0, i, 1), kept.narrow(0, 0, i)).item<double>(), spacing);
}

}  // namespace
}  // namespace accrete
