// Arrays out of a .npz file, as numpy.savez and savez_compressed write them: a zip of .npy files.
//
// Read strictly: every array is little-endian and in C order, its bytes are those of its shape, and
// the checksum of the zip is theirs; names are unique. What is packed otherwise than deflated is
// refused with kUnsupported, and so are encrypted members and archives in parts.
//
// Non-goals: writing, pickled objects, structured types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accrete {

struct NpyArray {
  enum class Type { kF32, kF64, kI32, kI64, kU8, kText };
  std::string name;  // without .npy
  Type type = Type::kF32;
  std::vector<int64_t> shape;       // row-major; empty: a scalar
  std::span<const std::byte> data;  // into the file's bytes, or `own`; need not be aligned
  std::shared_ptr<const std::vector<std::byte>> own;  // of what was packed
  int64_t width = 0;                                  // of kText: characters of 4 bytes an entry

  int64_t numel() const;
  // Throw kFormat for another type. Integers beyond 2^31 - 1 are refused, and text that is not
  // Unicode.
  std::vector<float> numbers() const;  // all but text
  std::vector<int32_t> whole() const;  // of integers
  std::vector<std::string> text() const;
};

// Views into `bytes`. `source` names the file in messages. Throws kFormat, kUnsupported. The fuzz
// target calls it.
std::vector<NpyArray> parse_npz(std::span<const std::byte> bytes, std::string_view source);

}  // namespace accrete
