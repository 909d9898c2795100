// UTF-8 and the properties of code points, as Hugging Face `tokenizers` sees them.
//
// The tables were read from that library (see make_unicode_tables.py), because the parity of a
// tokenizer hangs on its age of Unicode and not on the one of this machine.
//
// Non-goals: normalisation, case mapping, scripts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace accrete::unicode {

inline constexpr char32_t kMaxCodePoint = 0x10FFFF;

// General categories, numbered as in the tables.
enum Category : uint8_t {
  kCn,
  kCc,
  kCf,
  kCo,  // other
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,  // letters
  kMn,
  kMc,
  kMe,  // marks
  kNd,
  kNl,
  kNo,  // numbers
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,  // punctuation
  kSm,
  kSc,
  kSk,
  kSo,  // symbols
  kZs,
  kZl,
  kZp,  // separators
};

// A byte of properties per code point: the category in the low bits, and three flags.
inline constexpr uint8_t kCategoryMask = 31;
inline constexpr uint8_t kNumeric = 32;  // Rust's char::is_numeric (the Digits pre-tokenizer)
inline constexpr uint8_t kWord = 64;     // \w of Rust's regex crate (single-word added tokens)
inline constexpr uint8_t kSpace = 128;   // White_Space: \s of both regex libraries

// kMaxCodePoint + 1 bytes, built on the first call.
const uint8_t* properties();

// Sorted, disjoint, inclusive ranges of code points.
using Ranges = std::vector<std::pair<char32_t, char32_t>>;
// "L", "Lu", ...: the code points of a category or a group of them; nullopt for other names.
std::optional<Ranges> category_ranges(std::string_view name);
Ranges space_ranges();
// Sorts and joins what overlaps or touches.
Ranges normalized(Ranges ranges);
Ranges complement(const Ranges& sorted);

// What begins at the start of `text` (which is not empty).
struct Step {
  enum Kind {
    kCharacter,
    kBroken,  // bytes that belong to no character, as many as one U+FFFD stands for
    kCutOff,  // all that is left, and a character if more bytes came
  };
  Kind kind;
  size_t size;  // bytes
};
Step step(std::string_view text);

// The length of the longest prefix that is valid UTF-8.
size_t valid_prefix(std::string_view text);

// The code point at `at` of valid UTF-8, and its length.
inline std::pair<char32_t, size_t> decode(const char* at) {
  const auto* b = reinterpret_cast<const unsigned char*>(at);
  if (b[0] < 0x80) return {b[0], 1};
  if (b[0] < 0xE0) return {(b[0] & 0x1Fu) << 6 | (b[1] & 0x3Fu), 2};
  if (b[0] < 0xF0) return {(b[0] & 0x0Fu) << 12 | (b[1] & 0x3Fu) << 6 | (b[2] & 0x3Fu), 3};
  return {(b[0] & 0x07u) << 18 | (b[1] & 0x3Fu) << 12 | (b[2] & 0x3Fu) << 6 | (b[3] & 0x3Fu), 4};
}

// The code point that ends before `text.size()`; `text` is valid UTF-8 and not empty.
std::pair<char32_t, size_t> decode_last(std::string_view text);

void append_utf8(std::string& text, char32_t code_point);

}  // namespace accrete::unicode
