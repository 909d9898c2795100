// Progress and cancellation, as callbacks: the library reports, the caller shows.
//
// Non-goals: drawing (src/cli does), threads.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace accrete {

struct ProgressEvent {
  std::string_view stage;  // "fit keys", "teach", ...: constant while a bar is drawn
  int64_t done = 0;
  int64_t total = 0;        // 0: unknown
  std::string detail = {};  // "loss 0.31", "block 3", ...; may be empty
};

using ProgressFn = std::function<void(const ProgressEvent&)>;

// What a long operation is given: whom to tell, and whether to stop.
struct Reporter {
  ProgressFn progress = nullptr;
  // Polled between steps; true stops with ErrorCode::kInterrupted and leaves nothing changed.
  std::function<bool()> cancelled = nullptr;

  void report(std::string_view stage, int64_t done, int64_t total, std::string detail = {}) const {
    if (progress) progress({stage, done, total, std::move(detail)});
  }
  void check_cancelled() const {
    if (cancelled && cancelled())
      throw Error(ErrorCode::kInterrupted, "interrupted; nothing was changed");
  }
};

}  // namespace accrete
