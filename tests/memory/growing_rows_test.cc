#include "memory/growing_rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace accrete {
namespace {

TEST(GrowingRows, HoldWhatWasAppendedInOrder) {
  at::manual_seed(0);
  GrowingRows rows;
  EXPECT_TRUE(rows.empty());
  EXPECT_FALSE(rows.joined().defined());
  std::vector<at::Tensor> all;
  for (const int64_t n : {3, 1, 1, 0, 7, 2, 2, 1, 40, 5}) {
    all.push_back(at::randn({n, 4}));
    rows.append(all.back());
  }
  const auto expected = at::cat(all);
  ASSERT_EQ(rows.size(), expected.size(0));
  EXPECT_TRUE(at::equal(rows.joined(), expected));
  EXPECT_TRUE(
      at::equal(at::cat(at::TensorList(rows.pieces().data(), rows.pieces().size())), expected));
}

TEST(GrowingRows, ACopySharesWhatThereWas) {
  GrowingRows rows;
  rows.append(at::ones({100, 3}));
  const void* before = rows.pieces()[0].const_data_ptr();
  GrowingRows copy = rows;
  copy.append(at::zeros({2, 3}));
  EXPECT_EQ(rows.size(), 100);
  EXPECT_EQ(copy.size(), 102);
  ASSERT_EQ(copy.pieces().size(), 2U);
  EXPECT_EQ(copy.pieces()[0].const_data_ptr(), before);
}

TEST(GrowingRows, ManyAppendsLeaveFewPieces) {
  GrowingRows rows;
  for (int64_t i = 0; i < 1000; ++i) {
    rows.append(at::full({3, 2}, static_cast<double>(i)));
    ASSERT_LE(rows.pieces().size(), 11U);
  }
  EXPECT_TRUE(
      at::equal(rows.joined().select(1, 0), at::arange(1000, at::kFloat).repeat_interleave(3)));
}

}  // namespace
}  // namespace accrete
