// Bounds-checked little-endian reads from a GGUF file's bytes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/format.h"

namespace accrete {

static_assert(std::endian::native == std::endian::little, "the readers assume little-endian");

class GgufReader {
 public:
  GgufReader(std::span<const std::byte> bytes, std::string_view source)
      : bytes_(bytes), source_(source) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kFormat, accrete::format("{}: at byte {}: {}", source_, position_, what),
                "the file is damaged or not a GGUF file; fetch it again");
  }
  [[noreturn]] void fail_unsupported(const std::string& what, const std::string& hint) const {
    throw Error(ErrorCode::kUnsupported, accrete::format("{}: {}", source_, what), hint);
  }

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }
  std::span<const std::byte> bytes() const { return bytes_; }

  template <typename T>
  T read(const char* what) {
    if (left() < sizeof(T)) fail(accrete::format("the file ends inside {}", what));
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof value);
    position_ += sizeof value;
    return value;
  }

  std::string read_string(const char* what) {
    const auto length = read<uint64_t>(what);
    if (length > left())
      fail(accrete::format("{} claims {} bytes, only {} are left", what, length, left()));
    std::string text(reinterpret_cast<const char*>(bytes_.data() + position_), length);
    position_ += length;
    return text;
  }

  // A count of things that take at least `least` bytes each: refused when they cannot all be there,
  // so that nothing is allocated for a lie.
  uint64_t read_count(const char* what, size_t least) {
    const auto count = read<uint64_t>(what);
    if (count > left() / least)
      fail(accrete::format("{} is {}, which {} bytes cannot hold", what, count, left()));
    return count;
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view source_;
  size_t position_ = 0;
};

}  // namespace accrete
