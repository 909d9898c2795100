// The JSON header of a safetensors file, read event by event: a hostile header costs no more memory
// than the entries it really holds.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/tensor.h"

namespace accrete {

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // offsets into the bytes after the header
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // sorted by (begin, end, name)
  std::map<std::string, std::string> metadata;
};

// Checks names, keys, types and that each range has the size of its shape; not yet that the ranges
// fill the file. Throws kFormat, kUnsupported (types that this library does not know).
SafetensorsHeader read_safetensors_header(std::string_view json, std::string_view source);

}  // namespace accrete
