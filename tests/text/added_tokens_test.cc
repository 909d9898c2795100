#include "text/added_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text_testing.h"

namespace accrete::text {
namespace {

using testing::ElementsAre;
using text_testing::added_token;
using text_testing::code_of;
using text_testing::json;

// "text" for text, "<text>#id" for a token.
std::vector<std::string> parts(const json& tokens, std::string_view text, bool special = true) {
  std::vector<std::string> result;
  std::deque<std::string> storage;
  const AddedTokens added(tokens, {}, Normalizer(json{{"type", "NFC"}}));
  for (const TextPart& part : added.split(text, special, storage)) {
    result.emplace_back(part.text);
    if (part.id >= 0) result.back().append("#").append(std::to_string(part.id));
  }
  return result;
}

TEST(AddedTokens, CutTheText) {
  const json tokens = {added_token(0, "<a>"), added_token(1, "<ab>")};
  EXPECT_THAT(parts(tokens, "x<a>y<ab><a>"), ElementsAre("x", "<a>#0", "y", "<ab>#1", "<a>#0"));
  EXPECT_THAT(parts(tokens, "<<a>"), ElementsAre("<", "<a>#0"));
  EXPECT_THAT(parts(tokens, "<a"), ElementsAre("<a"));
  EXPECT_THAT(parts(tokens, ""), ElementsAre());
  EXPECT_THAT(parts(nullptr, "<a>"), ElementsAre("<a>"));
}

TEST(AddedTokens, TheLongestOfTheLeftmostWins) {
  const json tokens = {added_token(0, "ab"), added_token(1, "abcd"), added_token(2, "bc")};
  EXPECT_THAT(parts(tokens, "abcd"), ElementsAre("abcd#1"));
  EXPECT_THAT(parts(tokens, "abce"), ElementsAre("ab#0", "ce"));
  EXPECT_THAT(parts(tokens, "xbcd"), ElementsAre("x", "bc#2", "d"));
}

TEST(AddedTokens, SpecialOnesCanStayText) {
  const json tokens = {added_token(0, "<a>"), added_token(1, "<b>", {{"special", false}})};
  EXPECT_THAT(parts(tokens, "<a><b>", false), ElementsAre("<a>", "<b>#1"));
}

TEST(AddedTokens, StripWhiteSpace) {
  EXPECT_THAT(parts(json::array({added_token(0, "<a>", {{"lstrip", true}})}), "x \u3000<a> y"),
              ElementsAre("x", " \u3000<a>#0", " y"));
  EXPECT_THAT(parts(json::array({added_token(0, "<a>", {{"rstrip", true}})}), "x <a>\n\u00a0y"),
              ElementsAre("x ", "<a>\n\u00a0#0", "y"));
  // What the token before has taken is not taken twice.
  EXPECT_THAT(
      parts(json::array({added_token(0, "<a>", {{"lstrip", true}, {"rstrip", true}})}), "<a>  <a>"),
      ElementsAre("<a>  #0", "<a>#0"));
}

TEST(AddedTokens, SingleWordsHaveNoWordBesideThem) {
  const json tokens = json::array({added_token(0, "<a>", {{"single_word", true}})});
  EXPECT_THAT(parts(tokens, "<a> <a>b c<a> (<a>) é<a>"),
              ElementsAre("<a>#0", " <a>b c<a> (", "<a>#0", ") é<a>"));
}

TEST(AddedTokens, NormalizedOnesComeSecond) {
  const json tokens = {added_token(0, "ab", {{"normalized", true}}), added_token(1, "bc")};
  EXPECT_THAT(parts(tokens, "abc ab"), ElementsAre("a", "bc#1", " ", "ab#0"));
}

TEST(AddedTokens, NormalizedOnesAreFoundInNormalisedText) {
  const json tokens = {added_token(0, "e\u0301", {{"normalized", true}}),
                       added_token(1, "a\u030A", {{"normalized", false}})};
  EXPECT_THAT(parts(tokens, "xe\u0301\u00E9a\u030Ao\u0308"),
              ElementsAre("x", "\u00E9#0", "\u00E9#0", "a\u030A#1", "\u00F6"));
  EXPECT_THAT(parts(tokens, "\u00E5"), ElementsAre("\u00E5"));
  const json twice = {added_token(0, "e\u0301", {{"normalized", true}}),
                      added_token(1, "\u00E9", {{"normalized", true}})};
  EXPECT_EQ(code_of([&] { parts(twice, ""); }), ErrorCode::kUnsupported);
}

TEST(AddedTokens, ContradictionsAreFormatErrors) {
  const Vocabulary model = {{"a", 0}, {"b", 1}};
  const auto code = [&](const json& tokens) {
    return code_of([&] { AddedTokens(tokens, model, Normalizer(nullptr)); });
  };
  EXPECT_EQ(code(json::array({added_token(1, "a")})), ErrorCode::kFormat);
  EXPECT_EQ(code(json::array({added_token(1, "c")})), ErrorCode::kFormat);
  EXPECT_EQ(code({added_token(2, "c"), added_token(2, "d")}), ErrorCode::kFormat);
  EXPECT_EQ(code({added_token(2, "c"), added_token(3, "c")}), ErrorCode::kFormat);
  EXPECT_EQ(code(json::array({added_token(-1, "c")})), ErrorCode::kFormat);
  EXPECT_EQ(code(json::array({added_token(2'000'000'000, "c")})), ErrorCode::kFormat);
  EXPECT_EQ(code(json::array({{{"id", 2}}})), ErrorCode::kFormat);
  EXPECT_EQ(code(json::array({{{"id", "2"}, {"content", "c"}}})), ErrorCode::kFormat);
  EXPECT_EQ(code(json::array({3})), ErrorCode::kFormat);
  EXPECT_EQ(code({{"id", 2}}), ErrorCode::kFormat);
  EXPECT_NO_THROW(
      AddedTokens({added_token(0, "a"), added_token(2, "c")}, model, Normalizer(nullptr)));
}

}  // namespace
}  // namespace accrete::text
