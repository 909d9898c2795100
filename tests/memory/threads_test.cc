#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace accrete {
namespace {

// at::parallel_for is compiled into our own code: without the compiler's OpenMP flag it is a plain
// loop, whatever the number of threads.
TEST(Threads, ParallelForIsParallel) {
  const int before = at::get_num_threads();
  at::set_num_threads(2);
  std::atomic<int> arrived = 0;
  bool met = true;
  at::parallel_for(0, 2, 1, [&](int64_t begin, int64_t end) {
    if (end - begin == 2) met = false;  // one thread has everything
    ++arrived;
    const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (met && arrived < 2 && std::chrono::steady_clock::now() < late) std::this_thread::yield();
    if (arrived < 2) met = false;
  });
  at::set_num_threads(before);
  EXPECT_TRUE(met);
}

}  // namespace
}  // namespace accrete
