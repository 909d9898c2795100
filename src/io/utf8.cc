#include "io/utf8.h"

#include <algorithm>

#include "base/format.h"

namespace accrete {
namespace {

// Bytes of the well-formed sequence at the start of `s`, or 0. The ranges are those of table 3-7 of
// the Unicode standard.
size_t sequence_length(std::string_view s) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char first = at(0);
  if (first < 0x80) return 1;
  size_t length = 0;
  unsigned char low = 0x80, high = 0xBF;  // of the second byte
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  }
  if (length == 0 || s.size() < length) return 0;
  if (at(1) < low || at(1) > high) return 0;
  for (size_t i = 2; i < length; ++i)
    if ((at(i) & 0xC0) != 0x80) return 0;
  return length;
}

}  // namespace

size_t find_invalid_utf8(std::string_view bytes) {
  size_t i = 0;
  while (i < bytes.size()) {
    const size_t length = sequence_length(bytes.substr(i));
    if (length == 0) return i;
    i += length;
  }
  return std::string_view::npos;
}

std::string shown(std::string_view bytes, size_t limit) {
  std::string out = "\"";
  size_t i = 0;
  while (i < bytes.size()) {
    if (i >= limit) return out + "...\"";
    const size_t length = sequence_length(bytes.substr(i));
    const auto byte = static_cast<unsigned char>(bytes[i]);
    // U+0080 .. U+009F are control characters too: terminals act on them.
    const bool control =
        byte < 0x20 || byte == 0x7F ||
        (byte == 0xC2 && length == 2 && static_cast<unsigned char>(bytes[i + 1]) < 0xA0);
    if (length == 0 || control) {
      for (size_t k = 0; k < std::max<size_t>(length, 1); ++k)
        out += accrete::format("\\x{:02x}", static_cast<unsigned char>(bytes[i + k]));
    } else {
      out += bytes.substr(i, length);
    }
    i += std::max<size_t>(length, 1);
  }
  return out + "\"";
}

}  // namespace accrete
