#include "text/unicode.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

namespace accrete::unicode {
namespace {

constexpr uint32_t kPropertyRanges[] = {
#include "text/unicode_properties.inc"
};
constexpr size_t kRangeCount = std::size(kPropertyRanges);

constexpr std::string_view kCategoryNames[] = {
    "Cn", "Cc", "Cf", "Co", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No",
    "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp"};

// White_Space has been the same since Unicode 6.3; both libraries of `tokenizers` agree on it.
constexpr std::pair<char32_t, char32_t> kSpaceRanges[] = {
    {0x09, 0x0D},     {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
    {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};

template <typename Visit>
void for_each_range(Visit visit) {
  for (size_t i = 0; i < kRangeCount; ++i) {
    const char32_t first = kPropertyRanges[i] >> 8;
    const char32_t last = i + 1 < kRangeCount ? (kPropertyRanges[i + 1] >> 8) - 1 : kMaxCodePoint;
    visit(first, last, static_cast<uint8_t>(kPropertyRanges[i] & 0xFF));
  }
}

}  // namespace

const uint8_t* properties() {
  static const std::unique_ptr<const uint8_t[]> table = [] {
    auto bytes = std::make_unique<uint8_t[]>(kMaxCodePoint + 1);
    for_each_range([&](char32_t first, char32_t last, uint8_t value) {
      std::memset(bytes.get() + first, value, last - first + 1);
    });
    for (const auto& [first, last] : kSpaceRanges)
      for (char32_t c = first; c <= last; ++c) bytes[c] |= kSpace;
    return bytes;
  }();
  return table.get();
}

std::optional<Ranges> category_ranges(std::string_view name) {
  std::array<bool, std::size(kCategoryNames)> wanted{};
  bool known = false;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const std::string_view category = kCategoryNames[i];
    wanted[i] = category == name || (name.size() == 1 && category[0] == name[0]);
    known |= wanted[i];
  }
  if (!known) return std::nullopt;
  Ranges ranges;
  for_each_range([&](char32_t first, char32_t last, uint8_t value) {
    if (wanted[value & kCategoryMask]) ranges.emplace_back(first, last);
  });
  return normalized(std::move(ranges));
}

Ranges space_ranges() {
  return {std::begin(kSpaceRanges), std::end(kSpaceRanges)};
}

Ranges normalized(Ranges ranges) {
  std::sort(ranges.begin(), ranges.end());
  Ranges joined;
  for (const auto& range : ranges) {
    if (!joined.empty() && range.first <= joined.back().second + 1)
      joined.back().second = std::max(joined.back().second, range.second);
    else
      joined.push_back(range);
  }
  return joined;
}

Ranges complement(const Ranges& sorted) {
  Ranges rest;
  char32_t next = 0;
  for (const auto& [first, last] : sorted) {
    if (first > next) rest.emplace_back(next, first - 1);
    next = last + 1;
  }
  if (next <= kMaxCodePoint) rest.emplace_back(next, kMaxCodePoint);
  return rest;
}

Step step(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {Step::kCharacter, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Step::kBroken, 1};
  const size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte alone rules out overlong forms, surrogates and what lies above U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < size; ++i) {
    if (i == text.size()) return {Step::kCutOff, i};
    const bool fits = i == 1 ? byte(i) >= low && byte(i) <= high : (byte(i) & 0xC0) == 0x80;
    if (!fits) return {Step::kBroken, i};
  }
  return {Step::kCharacter, size};
}

size_t valid_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t word;
    while (at + sizeof(word) <= text.size()) {
      std::memcpy(&word, text.data() + at, sizeof(word));
      if (word & 0x8080808080808080u) break;
      at += sizeof(word);
    }
    if (at == text.size()) break;
    const Step next = step(text.substr(at));
    if (next.kind != Step::kCharacter) return at;
    at += next.size;
  }
  return at;
}

std::pair<char32_t, size_t> decode_last(std::string_view text) {
  size_t start = text.size() - 1;
  while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
  return decode(text.data() + start);
}

void append_utf8(std::string& text, char32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += static_cast<char>(0xC0 | c >> 6);
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    text += static_cast<char>(0xE0 | c >> 12);
    text += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    text += static_cast<char>(0xF0 | c >> 18);
    text += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    text += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  }
}

}  // namespace accrete::unicode
