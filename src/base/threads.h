// How many threads are worth starting.
//
// Non-goals: a thread pool (libtorch brings one), pinning.
#pragma once

#include <filesystem>
#include <optional>

namespace accrete {

// At least 1: the processors that this process may run on, or fewer where its control group
// (a container's CPU limit) grants less time, rounded up. std::thread::hardware_concurrency() knows
// nothing of the latter, and threads that share a quota throttle each other.
int hardware_threads();

// The processors' worth of time that control groups (versions 1 and 2) grant a process: the
// smallest limit on the way from its group to the root; nullopt where there is none. `groups` is a
// /proc/<pid>/cgroup, `mount` where the control group file systems are mounted.
std::optional<double> cgroup_cpu_limit(const std::filesystem::path& groups = "/proc/self/cgroup",
                                       const std::filesystem::path& mount = "/sys/fs/cgroup");

// While it lives, the calling thread's matrix products take one thread, where the BLAS is MKL. MKL
// splits a product by the number of threads it was promised even where it gets only one (inside a
// parallel region), and rounds accordingly: what is to be the same for any number of threads needs
// this.
class OneBlasThread {
 public:
  OneBlasThread();
  ~OneBlasThread();
  OneBlasThread(const OneBlasThread&) = delete;
  OneBlasThread& operator=(const OneBlasThread&) = delete;

 private:
  int before_ = 0;
};

}  // namespace accrete
