// How OpenMP threads wait: briefly, then asleep.
//
// libgomp's threads spin for milliseconds at the end of each parallel region. On a machine that has
// other work to do, a spinning thread takes the core from the one it waits for: on two cores shared
// with a compiler, answering took five times longer. libgomp reads its environment in its
// constructor, which runs before any of ours, and libc takes its own copy in its constructor. So
// the program starts itself anew with the setting, before the libraries are initialised. A setting
// of the user's wins.
#if defined(__linux__) && defined(__ELF__)
#include <unistd.h>

#include <cstring>

namespace {

constexpr int kMostVariables = 4096;

void choose_waiting(int, char** argv, char** environment) {
  static char setting[] = "GOMP_SPINCOUNT=1000";
  static char* changed[kMostVariables + 2];
  static char path[4096];
  int n = 0;
  for (; environment[n] != nullptr; ++n) {
    if (n == kMostVariables || std::strncmp(environment[n], "GOMP_SPINCOUNT=", 15) == 0 ||
        std::strncmp(environment[n], "OMP_WAIT_POLICY=", 16) == 0)
      return;
    changed[n] = environment[n];
  }
  changed[n] = setting;
  // The real path, so that the process keeps its name. On any failure this process just goes on.
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
  if (length > 0) execve(path, argv, changed);
}

[[gnu::section(".preinit_array"),
  gnu::used]] void (*const before_libraries)(int, char**, char**) = choose_waiting;

}  // namespace
#endif
