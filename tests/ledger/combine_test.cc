#include "ledger/combine.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ledger_testing.h"

namespace accrete {
namespace {

Update small(int block, std::vector<int64_t> slots, std::vector<float> delta) {
  Update update;
  const auto width = static_cast<int64_t>(delta.size() / slots.size());
  update.layers = {{block, width, std::move(slots), std::move(delta)}};
  return update;
}

TEST(SumUpdates, AddsRowsInOrder) {
  const std::vector<Update> updates = {small(3, {1, 5}, {1, 2, 3, 4}), small(4, {0}, {7, 8}),
                                       small(3, {5, 9}, {10, 20, -0.0F, 5})};
  const Update sum = sum_updates(updates);
  ASSERT_EQ(sum.layers.size(), 2U);
  EXPECT_EQ(sum.layers[0].block, 3);
  EXPECT_EQ(sum.layers[0].indices, (std::vector<int64_t>{1, 5, 9}));
  EXPECT_EQ(sum.layers[0].delta, (std::vector<float>{1, 2, 13, 24, -0.0F, 5}));
  EXPECT_TRUE(std::signbit(sum.layers[0].delta[4]));
  EXPECT_EQ(sum.layers[1].indices, std::vector<int64_t>{0});
  testing::expect_error(ErrorCode::kInvalidArgument, [] {
    const std::vector<Update> bad = {small(3, {1}, {1, 2}), small(3, {1}, {1})};
    sum_updates(bad);
  });
}

TEST(FoldUpdates, KeepsGatedUpdatesApart) {
  std::vector<Update> updates = {small(3, {1, 5}, {1, 2, 3, 4}), small(3, {5, 9}, {10, 20, 6, 5})};
  for (Update& u : updates) u.anchors = {2, {0, 0, 1, 1}, false, {}};
  const Update fold = fold_updates(updates);
  EXPECT_EQ(parts_of(fold), 2);
  EXPECT_EQ(fold.anchors.parts, (std::vector<int32_t>{0, 0, 1, 1}));
  EXPECT_EQ(fold.layers[0].indices, (std::vector<int64_t>{1, 5, row_key(1, 5), row_key(1, 9)}));
  EXPECT_EQ(fold.layers[0].delta, (std::vector<float>{1, 2, 3, 4, 10, 20, 6, 5}));
  // A fold of folds is that of what is in them.
  const std::vector<Update> more = {fold, updates[0]}, flat = {updates[0], updates[1], updates[0]};
  EXPECT_TRUE(testing::same(fold_updates(more), fold_updates(flat)));
  // Compared by slot it is the sum.
  const std::vector<Update> one = {fold};
  EXPECT_EQ(sum_updates(one).layers[0].indices, (std::vector<int64_t>{1, 5, 9}));
  EXPECT_EQ(sum_updates(one).layers[0].delta, (std::vector<float>{1, 2, 13, 24, 6, 5}));
  EXPECT_EQ(shared_slots(fold, updates[1]), 2);
  EXPECT_EQ(compare_updates(fold, updates[1], 0).shared(), 2);
  testing::expect_error(ErrorCode::kInvalidArgument, [&] {
    const std::vector<Update> bad = {updates[0], small(3, {1}, {1, 2})};
    fold_updates(bad);
  });
}

TEST(FoldUpdates, KeepsAnchorsAndWhatWasTaught) {
  std::vector<Update> updates = {testing::make_update(1), testing::make_update(13)};
  for (Update& u : updates) ASSERT_FALSE(u.taught.empty());
  const Update sum = fold_updates(updates);
  EXPECT_EQ(sum.anchors.queries.size(), 8U);
  EXPECT_EQ(sum.taught.items.size(), 4U);
  EXPECT_EQ(sum.taught.owner, (std::vector<int32_t>{0, 0, 1, 2, 2, 3}));
  EXPECT_EQ(fault(sum.taught), "");
}

TEST(CompareUpdates, CountsSharedSlotsAndNorms) {
  Update a = small(3, {1, 5}, {3, 0, 0, 4});
  Update b = small(3, {5, 9}, {0, -4, 2, 0});
  b.layers.push_back({7, 2, {1}, {1, 0}});
  a.anchors = {2, {0, 0, 10, 10}, false, {}};
  b.anchors = {2, {0, 1}, false, {}};
  const UpdateDifference d = compare_updates(a, b, 1.5);
  ASSERT_EQ(d.blocks.size(), 2U);
  EXPECT_EQ(d.rows_a(), 2);
  EXPECT_EQ(d.rows_b(), 3);
  EXPECT_EQ(d.shared(), 1);
  EXPECT_DOUBLE_EQ(d.norm_a(), 5);
  EXPECT_DOUBLE_EQ(d.blocks[0].norm_difference, std::sqrt(9.0 + 64 + 4));
  EXPECT_DOUBLE_EQ(d.shared_cosine(), -1);
  EXPECT_EQ(d.anchors_a, 2);
  EXPECT_EQ(d.anchors_near, 1);
  const UpdateDifference same = compare_updates(a, a, 1);
  EXPECT_DOUBLE_EQ(same.norm_difference(), 0);
  EXPECT_DOUBLE_EQ(same.shared_cosine(), 1);
}

}  // namespace
}  // namespace accrete
