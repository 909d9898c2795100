#include "io/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace accrete {
namespace {

TEST(Utf8, AcceptsTheEndsOfEveryRange) {
  for (const char* text : {"", "a", "\x7f", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF",
                           "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"})
    EXPECT_TRUE(is_utf8(text)) << text;
  EXPECT_TRUE(is_utf8(std::string_view("\0", 1)));
}

TEST(Utf8, RefusesWhatIsNotWellFormed) {
  for (const char* text :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x41", "\xE0\x9F\xBF", "\xE2\x82",
        "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF", "\xF0\x9F\x98", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFE", "\xFF"})
    EXPECT_FALSE(is_utf8(text)) << shown(text);
}

TEST(Utf8, NamesTheFirstBadByte) {
  EXPECT_EQ(find_invalid_utf8("aé\xFFz"), 3u);
}

TEST(Utf8, ShowsTextAsItIs) {
  EXPECT_EQ(shown("naïve 日本"), "\"naïve 日本\"");
}

TEST(Utf8, ShowsControlCharactersAndBadBytesEscaped) {
  EXPECT_EQ(shown("a\n\x1B[2J\x7F\xFF\xC2\x9B"), "\"a\\x0a\\x1b[2J\\x7f\\xff\\xc2\\x9b\"");
}

TEST(Utf8, CutsWhatIsLongAtACharacter) {
  const std::string text = shown(std::string(10, 'a') + "é" + std::string(100, 'b'), 11);
  EXPECT_EQ(text, "\"aaaaaaaaaaé...\"");
  EXPECT_TRUE(is_utf8(text));
}

TEST(Utf8, FindsTheByteOrderMark) {
  EXPECT_EQ(after_byte_order_mark("\xEF\xBB\xBFx"), 3u);
  EXPECT_EQ(after_byte_order_mark("x\xEF\xBB\xBF"), 0u);
  EXPECT_EQ(after_byte_order_mark(""), 0u);
}

}  // namespace
}  // namespace accrete
