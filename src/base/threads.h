// How many threads are worth starting, and the two ways to start them.
//
// Non-goals: a thread pool (libtorch brings one), pinning.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <future>
#include <optional>
#include <utility>

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

// Runs `f` on a thread of its own, beside what the caller does. The future's get() gives the
// result, or throws what `f` threw; its destructor waits, so that `f` may refer to what was
// declared before.
template <typename F>
auto beside(F f) {
  return std::async(std::launch::async, std::move(f));
}

// Calls f(begin, end) for parts of [0, n), one on the calling thread and each other on one of its
// own: at most hardware_threads() and at most `most` parts, none smaller than `least` unless it is
// all there is. Returns when all have ended; throws what the first part that failed threw.
void share_out(size_t n, size_t least, size_t most, const std::function<void(size_t, size_t)>& f);

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
