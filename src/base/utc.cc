#include "base/utc.h"

#include <ctime>

namespace accrete {

std::string utc_now(const char* format) {
  const std::time_t seconds = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char text[64] = {};
  return {text, std::strftime(text, sizeof text, format, &utc)};
}

}  // namespace accrete
