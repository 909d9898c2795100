#include "base/threads.h"

#include <gtest/gtest.h>
#include <sched.h>

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
