#include "base/format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"

namespace accrete {
namespace {

using Kind = FormatArg::Kind;

// What the compiler's check says of a pattern with values of these kinds: empty, it fits.
std::string refusal(std::string_view pattern, const std::vector<Kind>& kinds) {
  try {
    format_detail::Pattern{pattern, kinds.data(), kinds.size()}.check();
    return "";
  } catch (const char* why) {
    return why;
  }
}

TEST(Format, ShowsEveryKindOfValue) {
  EXPECT_EQ(accrete::format("{} {}", true, false), "true false");
  EXPECT_EQ(accrete::format("{}", 'x'), "x");
  EXPECT_EQ(accrete::format("{} {}", std::numeric_limits<int64_t>::min(),
                            std::numeric_limits<uint64_t>::max()),
            "-9223372036854775808 18446744073709551615");
  EXPECT_EQ(accrete::format("{} {}", int8_t{-3}, uint8_t{65}), "-3 65");
  EXPECT_EQ(accrete::format("{} {}", 0.1f, 0.1), "0.1 0.1");
  EXPECT_EQ(accrete::format("{} {} {}", 1.0, 1e30, -0.0), "1 1e+30 -0");
  EXPECT_EQ(accrete::format("{} {}", std::nan(""), -std::numeric_limits<double>::infinity()),
            "nan -inf");
  const std::string text = "a string";
  const char* const pointer = "a pointer";
  EXPECT_EQ(accrete::format("{}, {}, {}, {}", text, std::string_view("a view"), pointer, "literal"),
            "a string, a view, a pointer, literal");
  EXPECT_EQ(accrete::format("{}|{}", std::string("a\0b", 3), ""), std::string("a\0b|", 4));
}

TEST(Format, FollowsThePattern) {
  EXPECT_EQ(accrete::format("no values, {{}} and \n"), "no values, {} and \n");
  EXPECT_EQ(accrete::format("{1}{0}{1}", "a", "b"), "bab");
  EXPECT_EQ(accrete::format("{:.2f} {:+8.2f} {:+.5f} {:.0f}", 1.005, 2.5, -1.0, 2.5),
            "1.00    +2.50 -1.00000 2");
  EXPECT_EQ(accrete::format("{:g} {:g} {:g}", 1e-5, 0.5, 1234567.0), "1e-05 0.5 1.23457e+06");
  EXPECT_EQ(accrete::format("{:02x} {:04x} {:016x}", uint8_t{7}, 0xfeu, uint64_t{0xabc}),
            "07 00fe 0000000000000abc");
  EXPECT_EQ(accrete::format("[{:<{}}] [{:>5}] [{:*^5}]", "ab", 4, 12, "c"),
            "[ab  ] [   12] [**c**]");
  EXPECT_EQ(accrete::format("{:?} {:?}", "a\"b\n\x01", std::string("ä")),
            "\"a\\\"b\\n\\x01\" \"ä\"");
  EXPECT_EQ(accrete::format("{:.{}} {:.1}", "abc", 2, "xyz"), "ab x");
}

TEST(Format, JoinsWhatARangeHolds) {
  EXPECT_EQ(accrete::joined(std::vector<int64_t>{3, -1, 2}, ", "), "3, -1, 2");
  EXPECT_EQ(accrete::joined(std::vector<std::string>{"one"}, ", "), "one");
  EXPECT_EQ(accrete::joined(std::vector<std::string>{}, ", "), "");
  EXPECT_EQ(accrete::joined(std::vector<float>{0.1f, 2}, "x"), "0.1x2");
}

TEST(Format, RefusesPatternsThatDoNotFit) {
  const std::vector<Kind> text{Kind::kText}, integer{Kind::kInteger}, real{Kind::kDouble};
  EXPECT_EQ(refusal("{}", text), "");
  for (const char* pattern : {"{} {}", "{1}", "{", "}", "{:", "{0", "{:>", "{:d}", "{:.2f}", "{:+}",
                              "{:05}", "{:.}", "{:<{}}", "{:.{}}", "{:s", "{ }", "{x}"})
    EXPECT_NE(refusal(pattern, text), "") << pattern;
  for (const char* pattern : {"{:.2}", "{:f}", "{:s}", "{:?}"})
    EXPECT_NE(refusal(pattern, integer), "") << pattern;
  for (const char* pattern : {"{:d}", "{:x}", "{:s}"})
    EXPECT_NE(refusal(pattern, real), "") << pattern;
  EXPECT_NE(refusal("{:{}}", {Kind::kText, Kind::kText}), "");
  EXPECT_NE(refusal("{:+}", {Kind::kBool}), "");
  EXPECT_NE(refusal("{:d}", {Kind::kChar}), "");
  EXPECT_NE(refusal("{:+}", {Kind::kUnsigned}), "");
}

// What the compiler lets pass must not fail when the program runs.
TEST(Format, TheCheckIsAsStrictAsWhatRuns) {
  int passed = 0;
  for (const char* align : {"", "<", ">", "^", "*>"})
    for (const char* sign : {"", "+", "-", " "})
      for (const char* more : {"", "#", "0", "#0"})
        for (const char* width : {"", "9"})
          for (const char* precision : {"", ".0", ".3"})
            for (const char type : std::string_view("\0aAbBcdeEfFgGopsxX?", 20)) {
              const std::string pattern = std::string("{:") + align + sign + more + width +
                                          precision + (type ? std::string(1, type) : "") + "}";
              const auto check = [&](Kind kind, const FormatArg& value) {
                if (!refusal(pattern, {kind}).empty()) return;
                ++passed;
                EXPECT_NO_THROW(vformat(pattern, {value})) << pattern;
              };
              check(Kind::kBool, true);
              check(Kind::kChar, 'c');
              check(Kind::kInteger, 65);
              check(Kind::kUnsigned, 65u);
              check(Kind::kFloat, 0.5f);
              check(Kind::kDouble, 0.5);
              check(Kind::kText, "text");
            }
  EXPECT_GT(passed, 5000);
}

TEST(Format, APatternOfTheRunThatDoesNotFitIsADefect) {
  EXPECT_EQ(vformat("{:.1f} of {}", {0.25, "it"}), "0.2 of it");
  try {
    vformat("{:.1f}", {"text"});
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInternal);
    EXPECT_NE(std::string(e.what()).find("{:.1f}"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace accrete
