#include "text/regex.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "text/scanners.h"
#include "text_testing.h"

namespace accrete::text {
namespace {

using text_testing::code_of;

std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  std::vector<Regex::Match> found;
  Regex::compile(pattern).find_all(text, found);
  std::vector<std::string> result;
  for (const auto& [begin, end] : found) result.emplace_back(text.substr(begin, end - begin));
  return result;
}

using Strings = std::vector<std::string>;

TEST(Regex, FindsWhatOnigurumaFinds) {
  EXPECT_EQ(matches("a|bc", "abcacb"), (Strings{"a", "bc", "a"}));
  EXPECT_EQ(matches(R"(\p{Lu}\p{Ll}*)", "Hello wÖrld Ǆ"), (Strings{"Hello", "Örld", "Ǆ"}));
  EXPECT_EQ(matches(R"([^\s\p{L}\p{N}]+)", "a, b! 1--2"), (Strings{",", "!", "--"}));
  EXPECT_EQ(matches(R"(\p{N}{1,3})", "12345 6"), (Strings{"123", "45", "6"}));
  EXPECT_EQ(matches(R"([\S\n])", "a \n\u00a0b"), (Strings{"a", "\n", "b"}));
  EXPECT_EQ(matches(R"(\d+)", "1٣४ ½"), (Strings{"1٣४"}));
  EXPECT_EQ(matches(R"(.)", "a\n\r"), (Strings{"a", "\r"}));
  EXPECT_EQ(matches(R"(\x{1F600}|\u00e9|\x41)", "😀éA"), (Strings{"😀", "é", "A"}));
  EXPECT_EQ(matches(R"([a-c\-])", "abd-"), (Strings{"a", "b", "-"}));
  EXPECT_EQ(matches(R"(\p{^L}|\P{N})", "a1"), (Strings{"a", "1"}));
  EXPECT_EQ(matches(R"(a{,2}b)", "aaab b"), (Strings{"aab", "b"}));
  EXPECT_EQ(matches(R"(x*?y|z++)", "xxyzz"), (Strings{"xxy", "zz"}));
  EXPECT_EQ(matches("}", "{}"), (Strings{"}"}));
}

TEST(Regex, WhiteSpaceIsUnicodes) {
  EXPECT_EQ(matches(R"(\s)", "a\u180eb\u200bc\u0085\x1c"), (Strings{"\u0085"}));
}

TEST(Regex, FoldsAsciiAndWhatFoldsToIt) {
  EXPECT_EQ(matches("(?i:'s|'re)", "'S 'ſ 'Re 's"), (Strings{"'S", "'ſ", "'Re", "'s"}));
  EXPECT_EQ(matches("(?i:[sk])", "S\u212Aſx"), (Strings{"S", "\u212A", "ſ"}));
}

TEST(Regex, LookAheadSeesTheEndOfTheText) {
  EXPECT_EQ(matches(R"(\s+(?!\S)|\s+)", "  a  "), (Strings{" ", " ", "  "}));
  EXPECT_EQ(matches(R"(a(?=b))", "abaca"), (Strings{"a"}));
}

TEST(Regex, LiteralIsNoPattern) {
  std::vector<Regex::Match> found;
  Regex::literal("a.(é").find_all("a.(éab(é a.(é", found);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].begin, 0u);
  EXPECT_EQ(found[0].end, 5u);
}

TEST(Regex, RefusesWhatThePairReadsDifferently) {
  for (const char* pattern :
       {R"(\w+)",       R"(\b)",      "^a",      "a$",      R"(\h)",       R"((?<=a)b)",
        R"((?<n>a))",   R"((a)\1)",   "[a[b]]",  "[a&&b]",  "[[:alpha:]]", R"(\p{Han})",
        R"(\p{Alpha})", R"(\pL)",     "a**",     "a{2}?",   "a{2}+",       "(?i)a",
        "(?i:ss)",      "(?i:st)",    "(?i:fi)", "(?i:é)",  "(?i:[^a])",   R"((?i:\p{Lu}))",
        "(?i:a+)",      "(?i:(?:a))", "(?x: a)", "(?-i:a)", R"(\xC3)",     R"(\X)",
        R"(\Aa)",       R"(\z)",      "a{",      "{2}",     "a{3,2}",      "[]a]",
        "[a-b-c]",      "[a-\\s]",    "[\\s-a]", "[a--b]",  "a{1001}",     "(?=a)*b",
        "a*",           "a|",         "",        "(?=a)",   "(*ACCEPT)a",  "a{,}"})
    EXPECT_EQ(code_of([&] { Regex::compile(pattern); }), ErrorCode::kUnsupported) << pattern;
}

TEST(Regex, BrokenPatternsAreFormatErrors) {
  for (const char* pattern : {"(a", "a)", "[a", "*a", "+", "a|*", "\\", "[b-a]", R"(\x{110000}a)",
                              R"(\ud800)", R"(\x{})", R"(\p{L)", "a\xFF"})
    EXPECT_EQ(code_of([&] { Regex::compile(pattern); }), ErrorCode::kFormat) << pattern;
}

TEST(Regex, DeepNestingIsAnErrorAndNoCrash) {
  const std::string deep(100'000, '(');
  EXPECT_EQ(code_of([&] { Regex::compile(deep); }), ErrorCode::kUnsupported);
}

TEST(Regex, RunawayBacktrackingIsAnError) {
  const std::string text(200, 'a');
  std::vector<Regex::Match> found;
  EXPECT_EQ(code_of([&] { Regex::compile("(?:a|aa|aaa)+[bc]").find_all(text, found); }),
            ErrorCode::kUnsupported);
}

TEST(Regex, ThreadsShareOne) {
  const Regex regex = Regex::compile(R"(\p{L}+|\s+)");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        std::vector<Regex::Match> found;
        regex.find_all("some words  and spaces", found);
        EXPECT_EQ(found.size(), 7u);
      }
    });
  for (auto& thread : threads) thread.join();
}

// The scanners written by hand, against the same pattern in PCRE2.
template <typename Scan>
void expect_same(std::string_view pattern, Scan scan) {
  const Regex regex = Regex::compile(pattern);
  Rng rng(7);
  for (int round = 0; round < 20'000; ++round) {
    const std::string text = text_testing::random_text(rng, 1 + rng.below(24));
    std::vector<Regex::Match> found;
    regex.find_all(text, found);
    size_t at = 0;
    for (const auto& [begin, end] : found) {
      ASSERT_EQ(begin, at) << text;
      ASSERT_EQ(scan(text, at), end) << text;
      at = end;
    }
    ASSERT_EQ(at, text.size()) << text;
  }
}

TEST(Scanners, Gpt2IsItsPattern) {
  expect_same(kGpt2Pattern, gpt2_match);
}

TEST(Scanners, Cl100kIsItsPattern) {
  expect_same(kLlama3Pattern,
              [](std::string_view text, size_t at) { return cl100k_match(text, at, 3); });
  expect_same(kQwen2Pattern,
              [](std::string_view text, size_t at) { return cl100k_match(text, at, 1); });
}

}  // namespace
}  // namespace accrete::text
