#include "ledger/writer_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstring>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/format.h"

namespace accrete {
namespace {

// The process id in the file; 0 if there is none.
long read_pid(int fd) {
  char text[32] = {};
  const ssize_t n = ::pread(fd, text, sizeof(text) - 1, 0);
  long pid = 0;
  if (n > 0) std::from_chars(text, text + n, pid);
  return pid;
}

// The holder writes its id a moment after it has locked; until then the file holds nothing, or the
// id of one that died.
long holder(int fd) {
  long pid = 0;
  for (int attempt = 0; attempt < 20; ++attempt) {
    pid = read_pid(fd);
    if (pid > 0 && (::kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM)) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return pid;
}

bool same_file(int fd, const std::filesystem::path& path) {
  struct stat opened{};
  struct stat named{};
  return ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

[[noreturn]] void throw_io(const std::filesystem::path& path, int error) {
  std::string hint = "check the permissions of the model's folder; reading it needs no lock";
  if (error == ENOSPC || error == EDQUOT) hint = "free some disk space and run the command again";
  if (error == ENOTSUP || error == ENOLCK)
    hint = "this file system cannot lock files; keep the model on another one";
  throw Error(
      ErrorCode::kIo,
      accrete::format("cannot lock {} for writing: {}", path.string(), std::strerror(error)), hint);
}

}  // namespace

WriterLock::WriterLock(const std::filesystem::path& path) {
  for (;;) {
    created_ = false;
    fd_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd_ < 0 && errno == ENOENT) {
      fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      created_ = fd_ >= 0;
      if (fd_ < 0 && errno == EEXIST) continue;
    }
    if (fd_ < 0) throw_io(path, errno);
    int result = 0;
    do {
      result = ::flock(fd_, LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    if (result != 0) {
      const int error = errno;
      const long pid = error == EWOULDBLOCK ? holder(fd_) : 0;
      ::close(fd_);
      if (error != EWOULDBLOCK) throw_io(path, error);
      throw Error(
          ErrorCode::kConflict,
          pid > 0
              ? accrete::format("process {} is writing to {}", pid, path.parent_path().string())
              : accrete::format("another process is writing to {}", path.parent_path().string()),
          "wait until it has finished; reading works meanwhile");
    }
    // A failed create() removes its lock file: the name may by now belong to another one.
    if (same_file(fd_, path)) break;
    ::close(fd_);
  }
  // Only for the message above, so failing to write it (a full disk) is no failure.
  const std::string text = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd_, 0) == 0) {
    [[maybe_unused]] const ssize_t n = ::pwrite(fd_, text.data(), text.size(), 0);
  }
}

WriterLock::~WriterLock() {
  // Emptied, lest the next writer be reported under our id before it has written its own.
  [[maybe_unused]] const int result = ::ftruncate(fd_, 0);
  ::close(fd_);
}

}  // namespace accrete
