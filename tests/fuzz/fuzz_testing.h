// What the fuzz targets share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "base/error.h"

namespace accrete::fuzz {

inline void require(bool condition) {
  if (!condition) std::abort();
}

inline std::span<const std::byte> bytes_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const std::byte*>(data), size};
}

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Runs `call`; an Error is how bad input ends, anything else thrown is a defect and stays uncaught.
template <typename Call>
void allow_errors(Call call) {
  try {
    call();
  } catch (const Error& error) {
    require(error.what()[0] != '\0' && error.code() != ErrorCode::kInternal);
  }
}

}  // namespace accrete::fuzz
