// The time that a teach takes, and its limit.
//
// Non-goals: measurements of parts of it.
#pragma once

#include <chrono>

#include "base/error.h"
#include "base/format.h"
#include "base/progress.h"

namespace accrete {

class Clock {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// `reporter`, which throws kRefused when it is asked after more than `most` seconds; 0: no limit.
// Both must outlive the result.
inline Reporter with_limit(const Reporter& reporter, double most, const Clock& clock) {
  Reporter timed = reporter;
  if (most > 0)
    timed.cancelled = [&reporter, &clock, most] {
      if (clock.seconds() > most)
        throw Error(ErrorCode::kRefused,
                    accrete::format("not done within {:.0f} s; nothing was changed", most),
                    "raise --max-seconds, or teach fewer items at once");
      return reporter.cancelled && reporter.cancelled();
    };
  return timed;
}

}  // namespace accrete
