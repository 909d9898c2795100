#include "text/unicode.h"

#include <gtest/gtest.h>

#include <string>

#include "base/format.h"

namespace accrete::unicode {
namespace {

std::string utf8(char32_t c) {
  std::string text;
  append_utf8(text, c);
  return text;
}

TEST(Unicode, EveryCodePointGoesThereAndBack) {
  for (char32_t c = 0; c <= kMaxCodePoint; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const std::string text = utf8(c);
    ASSERT_EQ(decode(text.data()), std::pair(c, text.size()));
    ASSERT_EQ(decode_last(std::string("x").append(text)), std::pair(c, text.size()));
    const Step whole = step(text + "x");
    ASSERT_EQ(whole.kind, Step::kCharacter);
    ASSERT_EQ(whole.size, text.size());
    for (size_t cut = 1; cut < text.size(); ++cut) {
      ASSERT_EQ(step(text.substr(0, cut)).kind, Step::kCutOff);
      ASSERT_EQ(step(text.substr(0, cut)).size, cut);
      ASSERT_EQ(step(text.substr(0, cut) + "x").kind, Step::kBroken);
      ASSERT_EQ(step(text.substr(0, cut) + "x").size, cut);
    }
  }
}

TEST(Unicode, BrokenBytesAreCutAsPythonCutsThem) {
  struct Case {
    std::string_view bytes;
    size_t size;
  };
  for (const auto& [bytes, size] : {Case{"\x80", 1},
                                    {"\xC0\x80", 1},
                                    {"\xC1\xBF", 1},
                                    {"\xE0\x80\x80", 1},
                                    {"\xED\xA0\x80", 1},      // a surrogate
                                    {"\xF0\x80\x80\x80", 1},  // overlong
                                    {"\xF4\x90\x80\x80", 1},  // above U+10FFFF
                                    {"\xF5\x80\x80\x80", 1},
                                    {"\xFF", 1},
                                    {"\xE1\x80\x41", 2},
                                    {"\xF1\x80\x80\x41", 3}}) {
    EXPECT_EQ(step(bytes).kind, Step::kBroken) << bytes;
    EXPECT_EQ(step(bytes).size, size) << bytes;
  }
}

TEST(Unicode, ValidPrefixStopsAtTheFirstBrokenByte) {
  const std::string good = "plain ASCII of some length, é, 漢, 😀, and more of it";
  EXPECT_EQ(valid_prefix(good), good.size());
  EXPECT_EQ(valid_prefix(""), 0u);
  for (size_t at = 0; at <= good.size(); ++at) {
    if (at < good.size() && (static_cast<unsigned char>(good[at]) & 0xC0) == 0x80) continue;
    EXPECT_EQ(valid_prefix(accrete::format("{}\xFF{}", good.substr(0, at), good.substr(at))), at);
  }
}

TEST(Unicode, PropertiesOfKnownCharacters) {
  const uint8_t* p = properties();
  EXPECT_EQ(p['a'] & kCategoryMask, kLl);
  EXPECT_EQ(p['Z'] & kCategoryMask, kLu);
  EXPECT_EQ(p[0x4E2D] & kCategoryMask, kLo);
  EXPECT_EQ(p['7'] & kCategoryMask, kNd);
  EXPECT_EQ(p[0xBD] & kCategoryMask, kNo);
  EXPECT_EQ(p[0x216B] & kCategoryMask, kNl);
  EXPECT_EQ(p[0x301] & kCategoryMask, kMn);
  EXPECT_EQ(p[0x1F600] & kCategoryMask, kSo);
  EXPECT_EQ(p[0x378] & kCategoryMask, kCn);
  EXPECT_EQ(p[0x10D40] & kCategoryMask, kNd);  // Unicode 16
  EXPECT_TRUE(p[0xBD] & kNumeric);
  EXPECT_FALSE(p['a'] & kNumeric);
  EXPECT_TRUE(p['_'] & kWord);
  EXPECT_TRUE(p[0x200D] & kWord);
  EXPECT_FALSE(p['-'] & kWord);
  for (const char32_t c : {0x20, 0x0B, 0x85, 0xA0, 0x2028, 0x3000}) EXPECT_TRUE(p[c] & kSpace);
  for (const char32_t c : {0x1C, 0x180E, 0x200B, 0xFEFF}) EXPECT_FALSE(p[c] & kSpace);
}

TEST(Unicode, CategoryRangesHoldTheCategory) {
  const auto letters = category_ranges("L");
  ASSERT_TRUE(letters);
  size_t count = 0;
  for (const auto& [first, last] : *letters) {
    for (char32_t c = first; c <= last; ++c, ++count) {
      const uint8_t category = properties()[c] & kCategoryMask;
      ASSERT_TRUE(category >= kLu && category <= kLo) << static_cast<uint32_t>(c);
    }
  }
  size_t outside = 0;
  for (const auto& [first, last] : complement(*letters)) outside += last - first + 1;
  EXPECT_EQ(count + outside, size_t{kMaxCodePoint} + 1);
  EXPECT_FALSE(category_ranges("Han"));
  EXPECT_FALSE(category_ranges(""));
}

TEST(Unicode, RangesJoinAndTurnRound) {
  EXPECT_EQ(normalized({{5, 7}, {1, 2}, {3, 3}, {6, 9}}), (Ranges{{1, 3}, {5, 9}}));
  EXPECT_EQ(complement({}), (Ranges{{0, kMaxCodePoint}}));
  EXPECT_EQ(complement({{0, 4}, {9, kMaxCodePoint}}), (Ranges{{5, 8}}));
  EXPECT_EQ(complement({{0, kMaxCodePoint}}), Ranges{});
}

}  // namespace
}  // namespace accrete::unicode
