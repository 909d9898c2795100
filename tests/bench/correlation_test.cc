#include "bench/correlation.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"

namespace accrete {
namespace {

TEST(Spearman, KnownValues) {
  const std::vector<double> a = {1, 2, 3, 4, 5};
  EXPECT_DOUBLE_EQ(spearman(a, std::vector<double>{10, 20, 30, 40, 1000}), 1);
  EXPECT_DOUBLE_EQ(spearman(a, std::vector<double>{5, 4, 3, 2, 1}), -1);
  // One swap of neighbours among five: 1 - 6 * 2 / (5 * 24).
  EXPECT_DOUBLE_EQ(spearman(a, std::vector<double>{1, 3, 2, 4, 5}), 0.9);
  EXPECT_EQ(spearman(a, std::vector<double>(5, 7)), 0);
  // Ties share their mean rank: ranks 0.5 0.5 2 3 against 0 1 2 3.
  EXPECT_NEAR(spearman(std::vector<double>{1, 1, 2, 3}, std::vector<double>{1, 2, 3, 4}),
              4.5 / std::sqrt(4.5 * 5.0), 1e-12);
  EXPECT_THROW(spearman(a, std::vector<double>{1}), Error);
}

}  // namespace
}  // namespace accrete
