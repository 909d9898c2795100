#include "text/normalizer.h"

#include <gtest/gtest.h>

#include "text_testing.h"

namespace accrete::text {
namespace {

using text_testing::code_of;
using text_testing::json;

std::string nfc(std::string_view text) {
  static const Normalizer normalizer(json{{"type", "NFC"}});
  std::string storage;
  return std::string(normalizer.apply(text, storage));
}

TEST(Normalizer, ComposesCanonically) {
  EXPECT_EQ(nfc(""), "");
  EXPECT_EQ(nfc("plain, \u00E9 and \u01D5"), "plain, \u00E9 and \u01D5");
  EXPECT_EQ(nfc("e\u0301"), "\u00E9");
  EXPECT_EQ(nfc("U\u0308\u0304"), "\u01D5");
  EXPECT_EQ(nfc("\u0301"), "\u0301");
  EXPECT_EQ(nfc("\u212B\u2126"), "\u00C5\u03A9");    // singletons
  EXPECT_EQ(nfc("\u0958"), "\u0915\u093C");          // excluded from composition
  EXPECT_EQ(nfc("a\u0301\u0323"), "\u1EA1\u0301");   // reordered
  EXPECT_EQ(nfc("a\u0335\u0301"), "\u00E1\u0335");   // not blocked by a lower class
  EXPECT_EQ(nfc("a\u0301\u0301"), "\u00E1\u0301");   // blocked by the same class
  EXPECT_EQ(nfc("e\u200D\u0301"), "e\u200D\u0301");  // blocked by a starter
  EXPECT_EQ(nfc("\uFB01"), "\uFB01");                // compatibility characters stay
  EXPECT_EQ(nfc("\u0F71\u0F80"), "\u0F71\u0F80");
  EXPECT_EQ(nfc("\U0001D15E"), "\U0001D157\U0001D165");
}

TEST(Normalizer, ComposesHangul) {
  EXPECT_EQ(nfc("\u1112\u1161\u11AB"), "\uD55C");
  EXPECT_EQ(nfc("\uD558\u11AB"), "\uD55C");
  EXPECT_EQ(nfc("\uD55C\u11AB"), "\uD55C\u11AB");
  EXPECT_EQ(nfc("\u1112\u1161\u11A7"), "\uD558\u11A7");
  for (char32_t c = 0xAC00; c <= 0xD7A3; ++c) {
    std::string text;
    unicode::append_utf8(text, c);
    ASSERT_EQ(nfc(text), text);
  }
}

TEST(Normalizer, TwiceIsOnce) {
  Rng rng(2);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (size_t i = rng.below(12); i > 0; --i) {
      // Latin, marks, jamo, Indic and musical symbols.
      static constexpr std::pair<char32_t, char32_t> kRanges[] = {
          {0x41, 0x7A},     {0xC0, 0x24F},      {0x300, 0x36F},   {0x900, 0xDFF},
          {0x1100, 0x11FF}, {0x1D158, 0x1D172}, {0x1E00, 0x1FFF}, {0x591, 0x5C7}};
      const auto [first, last] = kRanges[rng.below(std::size(kRanges))];
      unicode::append_utf8(text, first + static_cast<char32_t>(rng.below(last - first + 1)));
    }
    const std::string once = nfc(text);
    ASSERT_EQ(nfc(once), once) << text;
  }
}

TEST(Normalizer, NoneLeavesTheTextAlone) {
  std::string storage;
  EXPECT_EQ(Normalizer(nullptr).apply("e\u0301", storage), "e\u0301");
  const Normalizer empty({{"type", "Sequence"}, {"normalizers", json::array()}});
  EXPECT_EQ(empty.apply("e\u0301", storage), "e\u0301");
  const Normalizer inner({{"type", "Sequence"}, {"normalizers", json::array({{{"type", "NFC"}}})}});
  EXPECT_EQ(inner.apply("e\u0301", storage), "\u00E9");
}

TEST(Normalizer, RefusesOthers) {
  const auto code = [](const json& spec) { return code_of([&] { Normalizer{spec}; }); };
  EXPECT_EQ(code({{"type", "NFKC"}}), ErrorCode::kUnsupported);
  EXPECT_EQ(code({{"type", "Replace"}}), ErrorCode::kUnsupported);
  EXPECT_EQ(code({{"type", "Sequence"}}), ErrorCode::kFormat);
  EXPECT_EQ(code(3), ErrorCode::kFormat);
  json deep = {{"type", "NFC"}};
  for (int i = 0; i < 50; ++i) deep = {{"type", "Sequence"}, {"normalizers", json::array({deep})}};
  EXPECT_EQ(code(deep), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace accrete::text
