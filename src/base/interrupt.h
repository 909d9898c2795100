// Ctrl-C as a flag: opt-in, for programs. The library never installs this by itself.
//
//   InterruptHandler interrupt;
//   reporter.cancelled = interrupt.poll();   // the operation stops between two steps
//
// The first SIGINT or SIGTERM sets the flag; a second one ends the process at once, as it would
// have without the handler (the shell sees a process killed by that signal). A signal that was
// ignored when the handler was made stays ignored: that is how `nohup` and background jobs work.
//
// Non-goals: other signals, callbacks, more than one handler at a time.
#pragma once

#include <functional>

namespace accrete {

class InterruptHandler {
 public:
  // Throws kInternal if there is one already.
  InterruptHandler();
  // Puts back what was there before.
  ~InterruptHandler();
  InterruptHandler(const InterruptHandler&) = delete;
  InterruptHandler& operator=(const InterruptHandler&) = delete;

  bool interrupted() const;
  // The signal that came first (SIGINT, SIGTERM); 0 if none did.
  int signal() const;
  // Forgets the signal: a chat goes on after an answer was stopped.
  void reset();
  // For Reporter::cancelled. Stays callable after the handler is gone (then false).
  std::function<bool()> poll() const;
};

}  // namespace accrete
