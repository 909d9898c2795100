#include "base/interrupt.h"

#include <signal.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>

#include "base/error.h"

namespace accrete {
namespace {

constexpr std::array kSignals = {SIGINT, SIGTERM};

// A signal handler can only reach globals, and of those only lock-free ones.
std::atomic<int> received{0};
std::atomic<bool> installed{false};
std::array<struct sigaction, kSignals.size()> previous;
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void accrete_on_signal(int number) {
  const int saved = errno;
  int none = 0;
  if (!received.compare_exchange_strong(none, number)) {
    // The default action, once this handler has returned and the signal is no longer blocked.
    ::signal(number, SIG_DFL);
    ::raise(number);
  }
  errno = saved;
}

}  // namespace

InterruptHandler::InterruptHandler() {
  if (installed.exchange(true))
    throw Error(ErrorCode::kInternal, "there is an interrupt handler already");
  received = 0;
  struct sigaction action{};
  action.sa_handler = accrete_on_signal;
  ::sigemptyset(&action.sa_mask);
  // Blocking calls go on: the flag is polled, and not all code expects EINTR.
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], nullptr, &previous[i]);
    if (previous[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &action, nullptr);
  }
}

InterruptHandler::~InterruptHandler() {
  for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &previous[i], nullptr);
  received = 0;
  installed = false;
}

bool InterruptHandler::interrupted() const {
  return received != 0;
}

int InterruptHandler::signal() const {
  return received;
}

void InterruptHandler::reset() {
  received = 0;
}

std::function<bool()> InterruptHandler::poll() const {
  return [] { return received != 0; };
}

}  // namespace accrete
