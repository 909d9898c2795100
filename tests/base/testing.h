// What the tests of base and ledger share: folders that go away, expected errors, forked children.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <set>
#include <string>

#include "base/error.h"

namespace accrete::testing {

// An empty folder, removed with all that is in it.
class TemporaryFolder {
 public:
  // kMemory: where syncing costs nothing, if there is such a place.
  enum class Place { kDisk, kMemory };
  explicit TemporaryFolder(Place place = Place::kDisk) {
    std::filesystem::path parent = std::filesystem::temp_directory_path();
    if (place == Place::kMemory && ::access("/dev/shm", W_OK | X_OK) == 0) parent = "/dev/shm";
    std::string name = (parent / "accrete-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Runs `action`, which must throw an Error of this code; returns "message | hint".
template <typename Action>
std::string expect_error(ErrorCode code, Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error_code_name(error.code()), error_code_name(code)) << error.what();
    return std::string(error.what()) + " | " + error.hint();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "not an accrete::Error: " << error.what();
    return {};
  }
  ADD_FAILURE() << "nothing was thrown, expected " << error_code_name(code);
  return {};
}

// Runs `action` in a forked child, which exits with what it returns (99: it threw; 98: it returned
// 0 but an expectation failed).
inline pid_t start_child(const std::function<int()>& action) {
  ::fflush(nullptr);  // else the child would print it again
  const pid_t pid = ::fork();
  if (pid == 0) {
    int status = 99;
    try {
      status = action();
      if (status == 0 && ::testing::Test::HasFailure()) status = 98;
    } catch (const std::exception& error) {
      ::fprintf(stderr, "child: %s\n", error.what());
    }
    ::fflush(nullptr);
    ::_exit(status);
  }
  return pid;
}

// The child's wait status (WIFEXITED, WTERMSIG, ...).
inline int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

// The exit status of a child that ran `action`; -1 if a signal ended it.
inline int run_in_child(const std::function<int()>& action) {
  const int status = wait_for(start_child(action));
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// No file of this process may grow beyond `bytes`: a full disk, as far as writing goes.
inline void limit_file_size(rlim_t bytes) {
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  limit.rlim_cur = bytes;
  ::setrlimit(RLIMIT_FSIZE, &limit);
}

// Every file and folder under `folder`, by relative name.
inline std::set<std::string> names_under(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    names.insert(std::filesystem::relative(entry.path(), folder).string());
  return names;
}

}  // namespace accrete::testing
