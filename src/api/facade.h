// What the sources of the public interface share.
//
// Non-goals: anything of the interface itself (include/accrete/accrete.h).
#pragma once

#include <exception>
#include <new>

#include "accrete/types.h"
#include "base/error.h"
#include "base/progress.h"

namespace accrete::api {

// Runs `f`; whatever is thrown in it leaves as an Error.
template <typename F>
auto with_errors(F&& f) -> decltype(f()) {
  try {
    return f();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::kInternal, "out of memory",
                "use a smaller model, or teach fewer items at once");
  } catch (const std::exception& e) {
    throw Error(ErrorCode::kInternal, e.what());
  }
}

// What a callback of the caller's throws is turned into an Error too: the transaction ends there.
inline Reporter reporter_of(const Callbacks& callbacks) {
  Reporter reporter;
  if (callbacks.progress)
    reporter.progress = [&callbacks](const ProgressEvent& e) {
      callbacks.progress({e.stage, e.done, e.total, e.detail});
    };
  reporter.cancelled = callbacks.cancelled;
  return reporter;
}

}  // namespace accrete::api
