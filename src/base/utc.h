// The time of now, in UTC, as text.
//
// Non-goals: time zones, reading times, measuring (std::chrono::steady_clock).
#pragma once

#include <string>

namespace accrete {

inline constexpr const char* kIsoTime = "%Y-%m-%dT%H:%M:%SZ";

// As strftime's `format` says; ISO 8601 to the second, at most 63 bytes.
std::string utc_now(const char* format = kIsoTime);

}  // namespace accrete
