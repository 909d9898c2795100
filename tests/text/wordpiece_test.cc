#include "text/wordpiece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>

#include "text_testing.h"
#include "wordpiece_testing.h"

namespace accrete {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using text_testing::added_token;
using text_testing::code_of;
using text_testing::Ids;
using text_testing::json;
using text_testing::wordpiece_json;

WordPiece parse(const json& spec) {
  return WordPiece::parse(spec.dump(), "test");
}

// The tokens that a text becomes, between [CLS] and [SEP], one space between them.
std::string tokens(const json& spec, std::string_view text, int64_t max_length = 64) {
  std::map<int32_t, std::string> names;
  for (const auto& [token, id] : spec["model"]["vocab"].items()) names[id] = token;
  const Ids ids = parse(spec).encode(text, max_length);
  EXPECT_GE(ids.size(), 2u);
  EXPECT_EQ(names.at(ids.front()), "[CLS]");
  EXPECT_EQ(names.at(ids.back()), "[SEP]");
  std::string out;
  for (size_t i = 1; i + 1 < ids.size(); ++i) out += (i > 1 ? " " : "") + names.at(ids[i]);
  return out;
}

std::string tokens(std::string_view text) {
  return tokens(wordpiece_json(), text);
}

TEST(WordPiece, TakesTheLongestPieces) {
  EXPECT_EQ(tokens("weigh"), "weigh");
  EXPECT_EQ(tokens("weighing"), "weigh ##ing");
  EXPECT_EQ(tokens("abcab"), "abc ##a ##b");
  EXPECT_EQ(tokens("ing"), "[UNK]");         // only inside a word
  EXPECT_EQ(tokens("weighx a"), "[UNK] a");  // all of it, not only the x
  EXPECT_EQ(tokens("weighingx"), "[UNK]");
  EXPECT_EQ(tokens(""), "");
  EXPECT_EQ(tokens(" \t\n\r "), "");
}

TEST(WordPiece, SplitsAtSpacesAndPunctuation) {
  EXPECT_EQ(tokens("a b\tc\nd\u00a0a\u3000b\u2028c"), "a b c d a b c");
  EXPECT_EQ(tokens("a.b?!"), "a . b ? !");
  EXPECT_EQ(tokens("a\u00bfb"), "a \u00bf b");
  EXPECT_EQ(tokens("a$b"), "a [UNK] b");  // a word of its own, though not in the vocabulary
}

TEST(WordPiece, CleansFoldsAndStrips) {
  EXPECT_EQ(tokens("WEIGH Weigh"), "weigh weigh");
  EXPECT_EQ(tokens("\u00e0B\u0301\u1e09"), "abc");  // accents, both ways of writing them
  EXPECT_EQ(tokens("a\u200bb\u00adc"), "abc");      // characters nobody sees
  EXPECT_EQ(tokens("a\x01\x7f"
                   "b\x0b"
                   "c"),
            "abc");  // control characters
  EXPECT_EQ(tokens(std::string_view("a\0bc", 4)), "abc");
  EXPECT_EQ(tokens("\u0130"), "i");             // becomes i and a dot that is stripped
  EXPECT_EQ(tokens("a\u6f22b"), "a \u6f22 b");  // Chinese characters are words
  EXPECT_EQ(tokens("a\uac00"), "[UNK]");        // Hangul is not
  EXPECT_EQ(tokens("\u1100\u1161"), "\u1100 ##\u1161");
  EXPECT_EQ(tokens("\uac00"), "\u1100 ##\u1161");  // taken apart
}

TEST(WordPiece, ObeysTheNormalizersSwitches) {
  json spec = wordpiece_json();
  spec["normalizer"]["lowercase"] = false;  // and with it no stripping
  EXPECT_EQ(tokens(spec, "A a \u00e9"), "[UNK] a \u00e9");
  spec["normalizer"]["strip_accents"] = true;
  EXPECT_EQ(tokens(spec, "\u00e0"), "a");
  spec["normalizer"]["handle_chinese_chars"] = false;
  EXPECT_EQ(tokens(spec, "a\u6f22"), "[UNK]");
  spec["normalizer"]["clean_text"] = false;
  EXPECT_EQ(tokens(spec, "a\x01"), "[UNK]");
  EXPECT_EQ(tokens(spec,
                   "a\x0b"
                   "b"),
            "a b");
}

TEST(WordPiece, WhatUsersWriteIsText) {
  EXPECT_EQ(tokens("a [SEP] b"), "a [ [UNK] ] b");
  EXPECT_EQ(tokens("[CLS]"), "[ [UNK] ]");
  EXPECT_EQ(tokens("##ing"), "# # [UNK]");
}

TEST(WordPiece, BrokenUtf8IsDroppedAsTheReplacementCharacterIs) {
  EXPECT_EQ(tokens("a\xff"
                   "b"),
            "a ##b");
  EXPECT_EQ(tokens("a\xc3 b\xe6\xbc"), "a b");
  EXPECT_EQ(tokens("\xf0\x9f\x98"), "");
  json spec = wordpiece_json();
  spec["normalizer"]["clean_text"] = false;
  EXPECT_EQ(tokens(spec, "a\xff b"), "[UNK] b");
}

TEST(WordPiece, LongWordsAreUnknown) {
  EXPECT_EQ(tokens(std::string(20, 'a')).substr(0, 8), "a ##a ##");
  EXPECT_EQ(tokens(std::string(21, 'a')), "[UNK]");
  // Characters count, not bytes.
  std::string word = "a";
  for (int i = 0; i < 19; ++i) word += "\u00e9";
  json spec = wordpiece_json();
  spec["normalizer"]["strip_accents"] = false;
  EXPECT_EQ(tokens(spec, word), "[UNK]");  // no such piece
  spec["model"]["vocab"]["##\u00e9"] = 900;
  EXPECT_EQ(tokens(spec, word).substr(0, 6), "a ##\u00e9");
  EXPECT_EQ(tokens(spec, word + "\u00e9"), "[UNK]");
}

TEST(WordPiece, CutsAtTheEnd) {
  const json spec = wordpiece_json();
  EXPECT_EQ(tokens(spec, "a b c d", 5), "a b c");
  EXPECT_EQ(tokens(spec, "a weighing", 4), "a weigh");
  EXPECT_EQ(tokens(spec, "a b", 2), "");
  EXPECT_EQ(code_of([&] { parse(spec).encode("a", 1); }), ErrorCode::kInvalidArgument);
  std::string text;
  for (int i = 0; i < 200000; ++i) text += "weighing \u00e9 ";
  EXPECT_EQ(parse(spec).encode(text, 128).size(), 128u);
}

TEST(WordPiece, KnowsItsSizes) {
  json spec = wordpiece_json();
  const auto vocabulary = static_cast<int32_t>(spec["model"]["vocab"].size());
  EXPECT_EQ(parse(spec).vocab_size(), vocabulary);
  EXPECT_EQ(parse(spec).max_length(), std::nullopt);
  spec["truncation"] = {{"max_length", 128}, {"strategy", "LongestFirst"}, {"stride", 0}};
  EXPECT_EQ(parse(spec).max_length(), 128);
  spec["added_tokens"].push_back(added_token(5000, "[NEW]"));
  EXPECT_EQ(parse(spec).vocab_size(), 5001);
}

TEST(WordPiece, ReadsBothPostProcessors) {
  json spec = wordpiece_json();
  const Ids ids = parse(spec).encode("a", 8);
  const int32_t cls = spec["model"]["vocab"]["[CLS]"], sep = spec["model"]["vocab"]["[SEP]"];
  EXPECT_THAT(ids, ElementsAre(cls, spec["model"]["vocab"]["a"].get<int32_t>(), sep));
  spec["post_processor"] = {
      {"type", "BertProcessing"}, {"cls", {"[CLS]", cls}}, {"sep", {"[SEP]", sep}}};
  EXPECT_EQ(parse(spec).encode("a", 8), ids);
}

TEST(WordPiece, ReadsEscapedTokens) {
  std::string text = wordpiece_json().dump();
  const auto put = [&](const std::string& entry) {
    std::string changed = text;
    changed.insert(changed.find("\"vocab\":{") + 9, entry + ",");
    return WordPiece::parse(changed, "test");
  };
  EXPECT_THAT(put(R"("\ud83d\ude00":700)").encode("\U0001f600", 8),
              ElementsAre(testing::_, 700, testing::_));
  EXPECT_THAT(put(R"( "\u00DF" : 700 )").encode("\u00df", 8),
              ElementsAre(testing::_, 700, testing::_));
  EXPECT_THAT(put(R"("\"":700,"\\":701)").encode("\"\\", 8),
              ElementsAre(testing::_, 700, 701, testing::_));
  for (const char* bad :
       {R"("\ud83d":700)", R"("\ude00":700)", R"("\ud83dx":700)", R"("\x":700)", R"("\u12":700)",
        R"("\u12g4":700)", R"("z":-1)", R"("z":1.5)", R"("z":"1")", R"("z":2147483647)", R"("z")",
        R"("z":)", R"("z":99999999999999999999)", "\"z\n\":700", R"("a":700)", R"(7:7)", R"()"})
    EXPECT_EQ(code_of([&] { put(bad); }), ErrorCode::kFormat) << bad;
}

TEST(WordPiece, RefusesDamagedFiles) {
  const std::string text = wordpiece_json().dump();
  for (size_t size = 0; size < text.size(); size += 7)
    EXPECT_EQ(code_of([&] { WordPiece::parse(text.substr(0, size), "test"); }), ErrorCode::kFormat);
  EXPECT_EQ(code_of([&] { WordPiece::parse(text + "}", "test"); }), ErrorCode::kFormat);
  EXPECT_EQ(code_of([&] { WordPiece::parse("[" + text + "]", "test"); }), ErrorCode::kFormat);
  EXPECT_EQ(code_of([&] { WordPiece::parse("\xff" + text, "test"); }), ErrorCode::kFormat);
  EXPECT_EQ(code_of([&] { WordPiece::from_file("/nowhere/tokenizer.json"); }),
            ErrorCode::kNotFound);
}

TEST(WordPiece, RefusesWhatItDoesNotUnderstandByName) {
  const auto refused = [](const std::function<void(json&)>& change) -> std::string {
    json spec = wordpiece_json();
    change(spec);
    try {
      parse(spec);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << error.what();
      EXPECT_NE(error.hint(), "");
      return error.what();
    }
    return "not refused";
  };
  EXPECT_THAT(refused([](json& s) { s["model"]["type"] = "BPE"; }), HasSubstr("BPE"));
  EXPECT_THAT(refused([](json& s) {
                s["model"] = {{"type", "Unigram"}, {"vocab", json::array({json::array({"a", 0})})}};
              }),
              HasSubstr("Unigram"));
  EXPECT_THAT(refused([](json& s) { s["normalizer"] = {{"type", "Lowercase"}}; }),
              HasSubstr("Lowercase"));
  EXPECT_THAT(refused([](json& s) { s["normalizer"] = nullptr; }), HasSubstr("normalizer"));
  EXPECT_THAT(refused([](json& s) { s["pre_tokenizer"] = {{"type", "Whitespace"}}; }),
              HasSubstr("Whitespace"));
  EXPECT_THAT(refused([](json& s) { s["post_processor"] = nullptr; }), HasSubstr("post_processor"));
  EXPECT_THAT(refused([](json& s) { s["post_processor"]["type"] = "RobertaProcessing"; }),
              HasSubstr("RobertaProcessing"));
  EXPECT_THAT(refused([](json& s) { s["post_processor"]["single"][1]["Sequence"]["id"] = "B"; }),
              HasSubstr("two texts"));
  EXPECT_THAT(refused([](json& s) { s["post_processor"]["single"][1]["Sequence"]["type_id"] = 1; }),
              HasSubstr("type 1"));
  EXPECT_THAT(refused([](json& s) { s["post_processor"]["single"].erase(1); }),
              HasSubstr("its text"));
  EXPECT_THAT(refused([](json& s) { s["truncation"] = {{"direction", "Left"}}; }),
              HasSubstr("truncation"));
  EXPECT_THAT(refused([](json& s) {
                s["added_tokens"].push_back(added_token(900, "<word>", {{"special", false}}));
              }),
              HasSubstr("<word>"));
}

TEST(WordPiece, RefusesFilesThatContradictThemselves) {
  const auto code = [](const std::function<void(json&)>& change) {
    json spec = wordpiece_json();
    change(spec);
    return code_of([&] { parse(spec); });
  };
  EXPECT_EQ(code([](json& s) { s["model"]["vocab"].erase("[UNK]"); }), ErrorCode::kFormat);
  EXPECT_EQ(code([](json& s) { s["model"].erase("vocab"); }), ErrorCode::kFormat);
  EXPECT_EQ(code([](json& s) { s["model"]["vocab"] = json::object(); }), ErrorCode::kFormat);
  EXPECT_EQ(code([](json& s) { s["model"]["vocab"] = json::array(); }), ErrorCode::kFormat);
  EXPECT_EQ(code([](json& s) { s["model"]["max_input_chars_per_word"] = "x"; }),
            ErrorCode::kFormat);
  EXPECT_EQ(code([](json& s) { s["model"]["max_input_chars_per_word"] = -1; }), ErrorCode::kFormat);
  EXPECT_EQ(code([](json& s) { s["post_processor"]["special_tokens"].erase("[SEP]"); }),
            ErrorCode::kFormat);
  EXPECT_EQ(code([](json& s) { s["post_processor"]["special_tokens"]["[SEP]"]["ids"] = {99999}; }),
            ErrorCode::kFormat);
  EXPECT_EQ(code([](json& s) { s["normalizer"]["lowercase"] = 1; }), ErrorCode::kFormat);
  EXPECT_EQ(code([](json& s) { s["added_tokens"] = "x"; }), ErrorCode::kFormat);
  EXPECT_EQ(code([](json& s) { s["truncation"] = {{"max_length", "x"}}; }), ErrorCode::kFormat);
}

TEST(WordPiece, AnyBytesGiveIdsOfTheVocabulary) {
  const WordPiece tokenizer = parse(wordpiece_json());
  Rng rng(9);
  for (int round = 0; round < 3000; ++round) {
    std::string text = text_testing::random_text(rng, rng.below(30));
    for (int i = static_cast<int>(rng.below(4)); i > 0; --i)
      text.insert(rng.below(text.size() + 1), 1, static_cast<char>(rng.below(256)));
    const auto most = static_cast<int64_t>(2 + rng.below(20));
    const Ids ids = tokenizer.encode(text, most);
    ASSERT_LE(static_cast<int64_t>(ids.size()), most);
    for (const int32_t id : ids) ASSERT_TRUE(id >= 0 && id < tokenizer.vocab_size());
    const Ids all = tokenizer.encode(text, 1000);
    ASSERT_TRUE(std::equal(ids.begin(), ids.end() - 1, all.begin()));
  }
}

}  // namespace
}  // namespace accrete
