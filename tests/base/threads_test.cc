#include "base/threads.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "base/file.h"
#include "testing.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

void put(const fs::path& path, std::string_view content) {
  fs::create_directories(path.parent_path());
  write_file_atomically(path, content);
}

TEST(Threads, AtLeastOneAndNoMoreThanAllowed) {
  EXPECT_GE(hardware_threads(), 1);
  EXPECT_EQ(0, testing::run_in_child([] {
              cpu_set_t all;
              CPU_ZERO(&all);
              if (::sched_getaffinity(0, sizeof(all), &all) != 0) return 0;
              cpu_set_t one;
              CPU_ZERO(&one);
              for (int i = 0; i < CPU_SETSIZE; ++i)
                if (CPU_ISSET(i, &all)) {
                  CPU_SET(i, &one);
                  break;
                }
              if (::sched_setaffinity(0, sizeof(one), &one) != 0) return 0;  // not allowed here
              return hardware_threads() == 1 ? 0 : 1;
            }));
}

TEST(Threads, PartsCoverEverythingOnceAndNoneIsSmallerThanTheLeast) {
  for (const size_t n : {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{127}, size_t{1000}}) {
    std::mutex mutex;
    std::vector<std::pair<size_t, size_t>> parts;
    std::set<std::thread::id> threads;
    share_out(n, 64, 4, [&](size_t begin, size_t end) {
      const std::scoped_lock lock(mutex);
      parts.emplace_back(begin, end);
      threads.insert(std::this_thread::get_id());
    });
    std::sort(parts.begin(), parts.end());
    EXPECT_LE(parts.size(), std::min<size_t>(4, static_cast<size_t>(hardware_threads())));
    EXPECT_TRUE(threads.contains(std::this_thread::get_id()));
    size_t at = 0;
    for (const auto& [begin, end] : parts) {
      EXPECT_EQ(begin, at);
      if (parts.size() > 1) {
        EXPECT_GE(end - begin, 64U);
      }
      at = end;
    }
    EXPECT_EQ(at, n);
  }
}

TEST(Threads, WhatAPartThrowsComesOutWhenAllHaveEnded) {
  std::atomic<int> ended = 0;
  EXPECT_THROW(share_out(1000, 1, 4,
                         [&](size_t, size_t end) {
                           ++ended;
                           if (end == 1000) throw std::runtime_error("the last part");
                         }),
               std::runtime_error);
  EXPECT_EQ(ended, std::min(4, hardware_threads()));
}

TEST(Threads, BesideGivesTheResultOrWhatWasThrown) {
  const auto here = std::this_thread::get_id();
  EXPECT_NE(beside([] { return std::this_thread::get_id(); }).get(), here);
  auto failing = beside([]() -> int { throw std::runtime_error("no"); });
  EXPECT_THROW(failing.get(), std::runtime_error);
}

TEST(Threads, CgroupVersion2TakesTheSmallestOnTheWayUp) {
  const TemporaryFolder folder;
  put(folder / "cgroup", "0::/a/b\n");
  EXPECT_EQ(cgroup_cpu_limit(folder / "cgroup", folder.path()), std::nullopt);
  put(folder / "a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_cpu_limit(folder / "cgroup", folder.path()), std::nullopt);
  put(folder / "a/cpu.max", "250000 100000\n");
  EXPECT_EQ(cgroup_cpu_limit(folder / "cgroup", folder.path()), 2.5);
  put(folder / "a/b/cpu.max", "400000 100000\n");
  EXPECT_EQ(cgroup_cpu_limit(folder / "cgroup", folder.path()), 2.5);
  put(folder / "cpu.max", "50000 100000\n");  // the root of a container
  EXPECT_EQ(cgroup_cpu_limit(folder / "cgroup", folder.path()), 0.5);
}

TEST(Threads, CgroupVersion1) {
  const TemporaryFolder folder;
  put(folder / "cgroup", "3:cpuset:/x\n2:cpu,cpuacct:/docker/1\n1:name=systemd:/\n");
  put(folder / "cpu,cpuacct/docker/1/cpu.cfs_quota_us", "-1\n");
  put(folder / "cpu,cpuacct/docker/1/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpu_limit(folder / "cgroup", folder.path()), std::nullopt);
  put(folder / "cpu,cpuacct/cpu.cfs_quota_us", "300000\n");
  put(folder / "cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpu_limit(folder / "cgroup", folder.path()), 3.0);
}

TEST(Threads, NonsenseIsNoLimit) {
  const TemporaryFolder folder;
  EXPECT_EQ(cgroup_cpu_limit(folder / "missing", folder.path()), std::nullopt);
  put(folder / "cgroup", "\n:\n0:\n0::/../../x\nnonsense\n");
  put(folder / "x/cpu.max", "nonsense\n");
  put(folder / "cpu.max", "100000 0\n");
  EXPECT_EQ(cgroup_cpu_limit(folder / "cgroup", folder.path()), std::nullopt);
}

}  // namespace
}  // namespace accrete
