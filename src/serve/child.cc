#include "serve/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/error.h"
#include "base/format.h"

extern char** environ;

namespace accrete::serve {
namespace {

class Pipe {
 public:
  Pipe() {
    if (::pipe2(ends_.data(), O_CLOEXEC) != 0)
      throw Error(ErrorCode::kIo, accrete::format("no pipe: {}", std::strerror(errno)));
  }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  int end(size_t i) const { return ends_[i]; }
  void close_end(size_t i) {
    if (ends_[i] >= 0) ::close(ends_[i]);
    ends_[i] = -1;
  }

 private:
  std::array<int, 2> ends_{-1, -1};
};

}  // namespace

ChildResult run_child(const std::vector<std::string>& command, const std::filesystem::path& folder,
                      int niceness, const std::function<void(std::string_view line)>& line,
                      const std::function<bool()>& cancelled) {
  constexpr size_t kOutput = 16 << 20, kErrors = 8 << 10;
  Pipe out, err;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.end(1), 1);
  posix_spawn_file_actions_adddup2(&actions, err.end(1), 2);
  posix_spawn_file_actions_addclosefrom_np(&actions, 3);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // A group of its own: Ctrl-C at the server's terminal is the server's to pass on.
  posix_spawnattr_setpgroup(&attributes, 0);
  sigset_t none, usual;
  sigemptyset(&none);
  sigemptyset(&usual);
  for (const int s : {SIGINT, SIGTERM, SIGPIPE}) sigaddset(&usual, s);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &usual);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::vector<char*> arguments;
  for (const std::string& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  pid_t pid = 0;
  const int failed =
      ::posix_spawn(&pid, arguments[0], &actions, &attributes, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (failed != 0)
    throw Error(ErrorCode::kIo,
                accrete::format("cannot start {}: {}", command.front(), std::strerror(failed)));
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(pid), niceness);
  out.close_end(1);
  err.close_end(1);

  ChildResult result;
  std::string pending;
  using Clock = std::chrono::steady_clock;
  Clock::time_point asked{};
  bool stopping = false, killed = false;
  while (out.end(0) >= 0 || err.end(0) >= 0) {
    std::array<pollfd, 2> wait = {pollfd{out.end(0), POLLIN, 0}, pollfd{err.end(0), POLLIN, 0}};
    ::poll(wait.data(), wait.size(), 200);
    if (!stopping && cancelled && cancelled()) {
      stopping = true;
      asked = Clock::now();
      ::kill(pid, SIGINT);
    } else if (stopping && !killed && Clock::now() - asked > std::chrono::seconds(10)) {
      killed = true;
      ::kill(pid, SIGKILL);
    }
    std::array<char, 4096> some{};
    for (size_t i = 0; i < wait.size(); ++i) {
      if ((wait[i].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
      const ssize_t n = ::read(wait[i].fd, some.data(), some.size());
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n <= 0) {
        (i == 0 ? out : err).close_end(0);
        continue;
      }
      const std::string_view text(some.data(), static_cast<size_t>(n));
      if (i == 0) {
        result.output += text.substr(0, kOutput - std::min(kOutput, result.output.size()));
        continue;
      }
      result.errors += text;
      if (result.errors.size() > 2 * kErrors)
        result.errors.erase(0, result.errors.size() - kErrors);
      pending += text;
      for (size_t at; (at = pending.find('\n')) != std::string::npos; pending.erase(0, at + 1))
        if (line) line(std::string_view(pending).substr(0, at));
      if (pending.size() > kErrors) pending.clear();
    }
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  result.status = WIFEXITED(status)     ? WEXITSTATUS(status)
                  : WIFSIGNALED(status) ? 128 + WTERMSIG(status)
                                        : 1;
  return result;
}

}  // namespace accrete::serve
