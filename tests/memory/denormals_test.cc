#include "memory/denormals.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>

namespace accrete {
namespace {

// How many of the pool's threads keep half of the smallest normal number.
int keeping() {
  std::atomic<int> count = 0;
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t begin, int64_t end) {
    volatile float smallest = 1.17549435e-38F;
    for (int64_t i = begin; i < end; ++i) count += smallest * 0.5F != 0;
  });
  return count;
}

TEST(FlushDenormals, OnEveryThreadAndNoLongerThanItLives) {
#ifndef __SSE2__
  GTEST_SKIP() << "not this processor";
#endif
  const int before = at::get_num_threads();
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    EXPECT_EQ(keeping(), threads);
    {
      const FlushDenormals flush;
      EXPECT_EQ(keeping(), 0);
    }
    EXPECT_EQ(keeping(), threads);
  }
  at::set_num_threads(before);
}

}  // namespace
}  // namespace accrete
