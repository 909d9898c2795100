#include "text/scanners.h"

#include <array>
#include <cstdint>

#include "text/unicode.h"

namespace accrete::text {
namespace {

enum Kind : uint8_t { kOther, kLetter, kNumber, kBlank, kEnd };

constexpr std::array<Kind, 32> kKinds = [] {
  std::array<Kind, 32> kinds{};
  for (const auto c : {unicode::kLu, unicode::kLl, unicode::kLt, unicode::kLm, unicode::kLo})
    kinds[c] = kLetter;
  for (const auto c : {unicode::kNd, unicode::kNl, unicode::kNo}) kinds[c] = kNumber;
  return kinds;
}();

// One character of the text; kEnd behind the last.
struct Char {
  char32_t code = 0;
  Kind kind = kEnd;
  size_t next = 0;
};

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text), properties_(unicode::properties()) {}

  Char at(size_t at) const {
    if (at >= text_.size()) return {0, kEnd, at};
    const auto [code, size] = unicode::decode(text_.data() + at);
    const uint8_t p = properties_[code];
    return {code, p & unicode::kSpace ? kBlank : kKinds[p & unicode::kCategoryMask], at + size};
  }
  // The end of the run of one kind that begins at `at`.
  size_t run(size_t at, Kind kind) const {
    for (Char c = this->at(at); c.kind == kind; c = this->at(at)) at = c.next;
    return at;
  }
  char byte(size_t at) const { return at < text_.size() ? text_[at] : '\0'; }
  size_t size() const { return text_.size(); }

 private:
  std::string_view text_;
  const uint8_t* properties_;
};

// 's|'t|'re|'ve|'m|'ll|'d behind the apostrophe at `at`; 0 when there is none.
size_t contraction(const Reader& text, size_t at) {
  switch (text.byte(at + 1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return at + 2;
    case 'r':
    case 'v':
      return text.byte(at + 2) == 'e' ? at + 3 : 0;
    case 'l':
      return text.byte(at + 2) == 'l' ? at + 3 : 0;
    default:
      return 0;
  }
}

// The same in any case.
size_t folded_contraction(const Reader& text, size_t at) {
  switch (text.byte(at + 1) | 32) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return at + 2;
    case 'r':
    case 'v':
      return (text.byte(at + 2) | 32) == 'e' ? at + 3 : 0;
    case 'l':
      return (text.byte(at + 2) | 32) == 'l' ? at + 3 : 0;
    default:
      // LATIN SMALL LETTER LONG S folds to "s".
      return text.byte(at + 1) == '\xC5' && text.byte(at + 2) == '\xBF' ? at + 3 : 0;
  }
}

// \s+(?!\S)|\s+ on the run of white space [at, end).
size_t blanks(const Reader& text, size_t at, size_t end) {
  if (end == text.size()) return end;
  // The last of several is left to what follows.
  size_t last = at;
  for (size_t i = at; i < end; i = text.at(i).next) last = i;
  return last > at ? last : end;
}

}  // namespace

size_t gpt2_match(std::string_view view, size_t at) {
  const Reader text(view);
  const Char first = text.at(at);
  if (first.code == '\'') {
    if (const size_t end = contraction(text, at)) return end;
  }
  if (first.kind != kBlank) return text.run(first.next, first.kind);
  if (first.code == ' ') {
    const Char second = text.at(first.next);
    if (second.kind != kBlank && second.kind != kEnd) return text.run(second.next, second.kind);
  }
  return blanks(text, at, text.run(first.next, kBlank));
}

size_t cl100k_match(std::string_view view, size_t at, int most_digits) {
  const Reader text(view);
  const Char first = text.at(at);
  if (first.code == '\'') {
    if (const size_t end = folded_contraction(text, at)) return end;
  }
  const auto is_newline = [](char32_t c) { return c == '\r' || c == '\n'; };
  const auto with_newlines = [&](size_t end) {
    while (text.byte(end) == '\r' || text.byte(end) == '\n') ++end;
    return end;
  };
  if (first.kind == kLetter) return text.run(first.next, kLetter);
  if (first.kind == kNumber) {
    size_t end = first.next;
    for (int digits = 1; digits < most_digits; ++digits) {
      const Char c = text.at(end);
      if (c.kind != kNumber) break;
      end = c.next;
    }
    return end;
  }
  const Char second = text.at(first.next);
  if (!is_newline(first.code) && second.kind == kLetter) return text.run(second.next, kLetter);
  if (first.kind == kOther) return with_newlines(text.run(first.next, kOther));
  if (first.code == ' ' && second.kind == kOther)
    return with_newlines(text.run(second.next, kOther));

  // White space: up to its last line break, if it has one.
  const size_t end = text.run(first.next, kBlank);
  for (size_t i = end; i-- > at;)
    if (is_newline(static_cast<unsigned char>(text.byte(i)))) return i + 1;
  return blanks(text, at, end);
}

}  // namespace accrete::text
