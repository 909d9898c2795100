// UTF-8: whether bytes are well-formed, and how to show untrusted bytes in a message.
//
// Non-goals: characters' properties (text/ has those), other encodings.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace accrete {

// The offset of the first byte that is not well-formed UTF-8 (overlong forms, surrogates and values
// over U+10FFFF are not), or npos.
size_t find_invalid_utf8(std::string_view bytes);
inline bool is_utf8(std::string_view bytes) {
  return find_invalid_utf8(bytes) == std::string_view::npos;
}

// `"text"` for a message: cut to about `limit` bytes, control characters and malformed bytes as
// \xNN, so that a hostile name can neither flood nor garble a terminal, nor break JSON output.
std::string shown(std::string_view bytes, size_t limit = 80);

// The offset after the UTF-8 byte order mark that some editors write, or 0.
inline size_t after_byte_order_mark(std::string_view bytes) {
  return bytes.starts_with("\xEF\xBB\xBF") ? 3 : 0;
}

}  // namespace accrete
