// The one exception type of the library.
//
// Every failure is an accrete::Error: a code for programs, a message that says what happened and
// where, and a hint that says what to try. Bad input is reported before anything changes.
//
// Non-goals: error codes as return values, logging, stack traces.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace accrete {

enum class ErrorCode {
  kInvalidArgument,  // a value the caller gave cannot be used
  kNotFound,         // a file, an update, a probe or a tensor does not exist
  kIo,               // the operating system refused to read or write
  kFormat,           // a file's content breaks its format
  kUnsupported,      // well-formed, but not something this build can do
  kConflict,         // someone else holds the model, or two inputs contradict each other
  kRefused,          // possible, but it would break a promise (a probe's floor)
  kInterrupted,      // stopped by the user; nothing was changed
  kInternal,         // a defect of accrete
};

// "invalid_argument", "not_found", ...: the names used in JSON output.
std::string_view error_code_name(ErrorCode code);

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message, std::string hint = "")
      : std::runtime_error(message), code_(code), hint_(std::move(hint)) {}

  ErrorCode code() const { return code_; }
  // What to try next; may be empty.
  const std::string& hint() const { return hint_; }

 private:
  ErrorCode code_;
  std::string hint_;
};

}  // namespace accrete
