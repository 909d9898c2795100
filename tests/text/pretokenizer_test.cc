#include "text/pretokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text_testing.h"

namespace accrete::text {
namespace {

using testing::ElementsAre;
using text_testing::byte_level;
using text_testing::code_of;
using text_testing::json;

std::vector<std::string> pieces(const json& spec, std::string_view text) {
  struct Collector : PieceSink {
    std::vector<std::string> found;
    void piece(std::string_view bytes) override { found.emplace_back(bytes); }
  } collector;
  PreTokenizer(spec).split(text, collector);
  return collector.found;
}

json then_bytes(json part) {
  return {{"type", "Sequence"}, {"pretokenizers", {std::move(part), byte_level(false, false)}}};
}

json split(const std::string& regex, const std::string& behavior, bool invert = false) {
  return then_bytes({{"type", "Split"},
                     {"pattern", {{"Regex", regex}}},
                     {"behavior", behavior},
                     {"invert", invert}});
}

TEST(PreTokenizer, ByteLevelSplitsAsGpt2) {
  EXPECT_THAT(pieces(byte_level(), "Hello, it's 42  dogs\n\n x"),
              ElementsAre("Hello", ",", " it", "'s", " 42", " ", " dogs", "\n\n", " x"));
  EXPECT_THAT(pieces(byte_level(), ""), ElementsAre());
  EXPECT_THAT(pieces(byte_level(false, false), "two words"), ElementsAre("two words"));
}

TEST(PreTokenizer, PrefixSpaceComesOnce) {
  EXPECT_THAT(pieces(byte_level(true), "a b"), ElementsAre(" a", " b"));
  EXPECT_THAT(pieces(byte_level(true), " a"), ElementsAre(" a"));
  EXPECT_THAT(pieces(byte_level(true), "\na"), ElementsAre(" ", "\n", "a"));
}

TEST(PreTokenizer, DigitsOneByOneOrTogether) {
  const auto digits = [](bool individual) {
    return then_bytes({{"type", "Digits"}, {"individual_digits", individual}});
  };
  EXPECT_THAT(pieces(digits(true), "a12½b"), ElementsAre("a", "1", "2", "½", "b"));
  EXPECT_THAT(pieces(digits(false), "a12½b3"), ElementsAre("a", "12½", "b", "3"));
  // SmolLM2: the regex of ByteLevel sees each digit alone.
  json spec = digits(true);
  spec["pretokenizers"][1] = byte_level();
  EXPECT_THAT(pieces(spec, "in 1999, "), ElementsAre("in", " ", "1", "9", "9", "9", ",", " "));
}

TEST(PreTokenizer, SplitBehaviors) {
  const char* text = "the-final--countdown-";
  EXPECT_THAT(pieces(split("-", "Removed"), text), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(pieces(split("-", "Isolated"), text),
              ElementsAre("the", "-", "final", "-", "-", "countdown", "-"));
  EXPECT_THAT(pieces(split("-", "MergedWithPrevious"), text),
              ElementsAre("the-", "final-", "-", "countdown-"));
  EXPECT_THAT(pieces(split("-", "MergedWithNext"), text),
              ElementsAre("the", "-final", "-", "-countdown", "-"));
  EXPECT_THAT(pieces(split("-", "Contiguous"), text),
              ElementsAre("the", "-", "final", "--", "countdown", "-"));
  EXPECT_THAT(pieces(split("-", "Removed", true), text), ElementsAre("-", "-", "-", "-"));
}

TEST(PreTokenizer, SplitByAString) {
  const json spec = then_bytes({{"type", "Split"},
                                {"pattern", {{"String", "."}}},
                                {"behavior", "Removed"},
                                {"invert", false}});
  EXPECT_THAT(pieces(spec, "a.b..c"), ElementsAre("a", "b", "c"));
}

TEST(PreTokenizer, PiecesOfTheWholeRegexCoverTheText) {
  Rng rng(3);
  for (const auto& spec :
       {byte_level(),
        then_bytes(byte_level()["type"] == "ByteLevel" ? json{{"type", "Digits"}} : json())}) {
    for (int i = 0; i < 2000; ++i) {
      const std::string text = text_testing::random_text(rng, rng.below(30));
      std::string joined;
      for (const std::string& piece : pieces(spec, text)) joined += piece;
      ASSERT_EQ(joined, text);
    }
  }
}

TEST(PreTokenizer, RefusesWhatItDoesNotKnow) {
  const auto code = [](const json& spec) { return code_of([&] { PreTokenizer{spec}; }); };
  EXPECT_EQ(code(nullptr), ErrorCode::kUnsupported);
  EXPECT_EQ(code({{"type", "Metaspace"}}), ErrorCode::kUnsupported);
  EXPECT_EQ(code({{"type", "Digits"}}), ErrorCode::kUnsupported);  // no ByteLevel
  EXPECT_EQ(code({{"type", "Sequence"}, {"pretokenizers", {byte_level(), byte_level()}}}),
            ErrorCode::kUnsupported);
  EXPECT_EQ(code(split("a", "Other")), ErrorCode::kUnsupported);
  EXPECT_EQ(code(split("\\w", "Isolated")), ErrorCode::kUnsupported);
  EXPECT_EQ(code(json::array()), ErrorCode::kFormat);
  EXPECT_EQ(code({{"type", 3}}), ErrorCode::kFormat);
  EXPECT_EQ(code({{"type", "Sequence"}}), ErrorCode::kFormat);
  EXPECT_EQ(code({{"type", "ByteLevel"}, {"use_regex", "yes"}}), ErrorCode::kFormat);
  EXPECT_EQ(code(then_bytes({{"type", "Split"}, {"behavior", "Removed"}})), ErrorCode::kFormat);
  json deep = byte_level();
  for (int i = 0; i < 50; ++i)
    deep = {{"type", "Sequence"}, {"pretokenizers", json::array({deep})}};
  EXPECT_EQ(code(deep), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace accrete::text
