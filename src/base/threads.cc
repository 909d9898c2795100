#include "base/threads.h"

#include <dlfcn.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

int allowed_processors() {
  // The kernel refuses masks shorter than its own; machines with more than CPU_SETSIZE exist.
  for (size_t processors = CPU_SETSIZE; processors <= (size_t{1} << 20); processors *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(processors),
                                                               [](cpu_set_t* p) { CPU_FREE(p); });
    const size_t size = CPU_ALLOC_SIZE(processors);
    if (set == nullptr) break;
    if (::sched_getaffinity(0, size, set.get()) == 0) return CPU_COUNT_S(size, set.get());
    if (errno != EINVAL) break;
  }
  return static_cast<int>(std::thread::hardware_concurrency());
}

// Empty where there is none: a missing file is the usual case, not a failure.
std::string read_if_there(const fs::path& path) {
  try {
    return read_file(path);
  } catch (const Error&) {
    return {};
  }
}

void lower(std::optional<double>& limit, double quota, double period) {
  if (quota > 0 && period > 0) limit = std::min(limit.value_or(quota / period), quota / period);
}

// Version 2: "max 100000" or "150000 100000".
void apply_v2(const fs::path& folder, std::optional<double>& limit) {
  std::istringstream text(read_if_there(folder / "cpu.max"));
  double quota = 0;
  double period = 0;
  if (text >> quota >> period) lower(limit, quota, period);
}

// Version 1: one number in each file; a quota of -1 is none.
void apply_v1(const fs::path& folder, std::optional<double>& limit) {
  std::istringstream quota_text(read_if_there(folder / "cpu.cfs_quota_us"));
  std::istringstream period_text(read_if_there(folder / "cpu.cfs_period_us"));
  double quota = 0;
  double period = 0;
  if (quota_text >> quota && period_text >> period) lower(limit, quota, period);
}

// From the group up to the root of the mount. In a container the path may be one of the host's that
// is not mounted here; the root then is the container's own group.
template <typename Apply>
void walk_up(const fs::path& root, const std::string& group, Apply apply,
             std::optional<double>& limit) {
  for (fs::path path = fs::path(group).lexically_normal().relative_path(); !path.empty();
       path = path.parent_path())
    apply(root / path, limit);
  apply(root, limit);
}

}  // namespace

std::optional<double> cgroup_cpu_limit(const fs::path& groups, const fs::path& mount) {
  std::optional<double> limit;
  std::istringstream lines(read_if_there(groups));
  // "ID:CONTROLLERS:PATH"; version 2 has no controllers.
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      walk_up(mount, group, apply_v2, limit);
      walk_up(mount / "unified", group, apply_v2, limit);  // both versions at once
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      walk_up(mount / controllers, group, apply_v1, limit);
      walk_up(mount / "cpu", group, apply_v1, limit);
    }
  }
  return limit;
}

int hardware_threads() {
  int threads = std::max(1, allowed_processors());
  if (const auto limit = cgroup_cpu_limit(); limit && *limit < threads)
    threads = std::max(1, static_cast<int>(std::ceil(*limit)));
  return threads;
}

void share_out(size_t n, size_t least, size_t most, const std::function<void(size_t, size_t)>& f) {
  const size_t threads = std::min(static_cast<size_t>(hardware_threads()), most);
  const size_t parts =
      std::clamp<size_t>(n / std::max<size_t>(least, 1), 1, std::max<size_t>(threads, 1));
  std::vector<std::future<void>> others;
  for (size_t p = 1; p < parts; ++p)
    others.push_back(
        beside([&f, begin = n * p / parts, end = n * (p + 1) / parts] { f(begin, end); }));
  f(0, n / parts);
  for (auto& other : others) other.get();
}

namespace {

using SetLocal = int (*)(int);

SetLocal mkl_set_local() {
  // libtorch brings MKL with it; another build may have another BLAS.
  static const auto set =
      reinterpret_cast<SetLocal>(::dlsym(RTLD_DEFAULT, "MKL_Set_Num_Threads_Local"));
  return set;
}

}  // namespace

OneBlasThread::OneBlasThread() {
  if (const auto set = mkl_set_local()) before_ = set(1);
}

OneBlasThread::~OneBlasThread() {
  if (const auto set = mkl_set_local()) set(before_);
}

}  // namespace accrete
