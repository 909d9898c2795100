#include "text/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "text_testing.h"

namespace accrete::text {
namespace {

using testing::ElementsAre;
using text_testing::code_of;
using text_testing::Ids;
using text_testing::json;
using text_testing::tokenizer_json;

Ids encode(const Bpe& bpe, std::string_view word) {
  Ids ids;
  bpe.encode_word(word, ids);
  return ids;
}

// Byte-pair encoding as its definition has it: merge the leftmost pair of the lowest rank.
std::vector<std::string> by_definition(const std::vector<std::string>& merges,
                                       std::vector<std::string> symbols) {
  std::map<std::string, size_t> ranks;
  for (size_t i = 0; i < merges.size(); ++i) ranks[merges[i]] = i;
  while (true) {
    size_t best = merges.size(), at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = ranks.find(symbols[i] + " " + symbols[i + 1]);
      if (found != ranks.end() && found->second < best) best = found->second, at = i;
    }
    if (best == merges.size()) return symbols;
    symbols[at] += symbols[at + 1];
    symbols.erase(symbols.begin() + at + 1);
  }
}

TEST(Bpe, MergesByRank) {
  const Bpe bpe(tokenizer_json({"b c", "a b", "a bc"})["model"]);
  const auto id = [&](const char* token) { return bpe.vocabulary().find(token)->second; };
  EXPECT_THAT(encode(bpe, "abc"), ElementsAre(id("abc")));
  EXPECT_THAT(encode(bpe, "abab"), ElementsAre(id("ab"), id("ab")));
  EXPECT_THAT(encode(bpe, "cab"), ElementsAre(id("c"), id("ab")));
  EXPECT_THAT(encode(bpe, ""), ElementsAre());
  EXPECT_THAT(encode(bpe, " "), ElementsAre(id("Ġ")));
  EXPECT_THAT(encode(bpe, "\n"), ElementsAre(id("Ċ")));
}

TEST(Bpe, WordsOfAllLengthsFollowTheDefinition) {
  const std::vector<std::string> merges = {"a a", "aa a",  "b c",    "a bc", "aa aa", "bc bc",
                                           "c c", "abc b", "aaa bc", "a b",  "ab c",  "cc cc"};
  const Bpe bpe(tokenizer_json(merges)["model"]);
  Rng rng(11);
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> symbols;
    std::string word;
    // On both sides of the lengths where the algorithm changes.
    for (size_t i = rng.below(round % 10 == 0 ? 400 : 40); i > 0; --i) {
      word += "abc"[rng.below(3)];
      symbols.emplace_back(1, word.back());
    }
    for (const Ids& got : {encode(bpe, word), encode(bpe, word)}) {  // the second is cached
      Ids expected;
      for (const auto& token : by_definition(merges, symbols))
        expected.push_back(bpe.vocabulary().find(token)->second);
      ASSERT_EQ(got, expected) << word;
    }
  }
}

TEST(Bpe, LongWordsTakeNoQuadraticTime) {
  const Bpe bpe(tokenizer_json({"a a", "aa aa", "aaaa aaaa"})["model"]);
  EXPECT_EQ(encode(bpe, std::string(1 << 20, 'a')).size(), size_t{1} << 17);
}

TEST(Bpe, PairsAndStringsAreTheSame) {
  json spec = tokenizer_json({"b c", "a bc"})["model"];
  const Ids expected = encode(Bpe(spec), "abcbc");
  spec["merges"] = json::parse(R"([["b", "c"], ["a", "bc"]])");
  EXPECT_EQ(encode(Bpe(spec), "abcbc"), expected);
  spec["merges"] = json::array({"#version: 0.2", "b c", "a bc"});
  EXPECT_EQ(encode(Bpe(spec), "abcbc"), expected);
}

TEST(Bpe, IgnoreMergesTakesWholeWords) {
  json spec = tokenizer_json({"a b"})["model"];
  spec["vocab"]["abc"] = 300;
  EXPECT_EQ(encode(Bpe(spec), "abc").size(), 2u);
  spec["ignore_merges"] = true;
  EXPECT_THAT(encode(Bpe(spec), "abc"), ElementsAre(300));
}

TEST(Bpe, ModelsDoNotShareCachedWords) {
  const Bpe one(tokenizer_json({"a b"})["model"]);
  const Bpe two(tokenizer_json({})["model"]);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(encode(one, "ab").size(), 1u);
    EXPECT_EQ(encode(two, "ab").size(), 2u);
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 10'000; ++i)
        ASSERT_EQ(encode(i % 2 ? one : two, "ab").size(), i % 2 ? 1u : 2u);
    });
  for (auto& thread : threads) thread.join();
}

TEST(Bpe, MissingBytesAreLeftOutOrUnknown) {
  json spec = tokenizer_json({"a b"})["model"];
  spec["vocab"].erase("x");
  spec["vocab"]["<unk>"] = 400;
  const int ab = spec["vocab"]["ab"], a = spec["vocab"]["a"];
  EXPECT_THAT(encode(Bpe(spec), "axxb"), ElementsAre(ab));
  spec["unk_token"] = "<unk>";
  EXPECT_THAT(encode(Bpe(spec), "xaxxab"), ElementsAre(400, a, 400, 400, ab));
  spec["fuse_unk"] = true;
  EXPECT_THAT(encode(Bpe(spec), "xaxxab"), ElementsAre(400, a, 400, ab));
}

TEST(Bpe, RefusesBadModels) {
  const json good = tokenizer_json({"a b"})["model"];
  const auto with = [&](const char* key, json value) {
    json spec = good;
    spec[key] = std::move(value);
    return code_of([&] { Bpe{spec}; });
  };
  EXPECT_EQ(with("type", "Unigram"), ErrorCode::kUnsupported);
  EXPECT_EQ(with("dropout", 0.1), ErrorCode::kUnsupported);
  EXPECT_EQ(with("continuing_subword_prefix", "##"), ErrorCode::kUnsupported);
  EXPECT_EQ(with("end_of_word_suffix", "</w>"), ErrorCode::kUnsupported);
  EXPECT_EQ(with("vocab", nullptr), ErrorCode::kFormat);
  EXPECT_EQ(with("vocab", {{"a", -1}}), ErrorCode::kFormat);
  EXPECT_EQ(with("vocab", {{"a", 4'000'000'000}}), ErrorCode::kFormat);
  EXPECT_EQ(with("vocab", {{"a", 1.5}}), ErrorCode::kFormat);
  EXPECT_EQ(with("vocab", {{"a", 1}, {"b", 1}}), ErrorCode::kFormat);
  EXPECT_EQ(with("vocab", {{"a\xFF", 1}}), ErrorCode::kFormat);
  EXPECT_EQ(with("merges", nullptr), ErrorCode::kFormat);
  for (const json& merge :
       {json("ab"), json("a b c"), json("a q1"), json("b a"), json({"a"}), json({"a", 1}), json(3)})
    EXPECT_EQ(with("merges", json::array({merge})), ErrorCode::kFormat) << merge;
  json poor = good;
  poor["vocab"].erase("x");
  for (const json& change : {json{{"byte_fallback", true}}}) {
    json spec = poor;
    spec.update(change);
    EXPECT_EQ(code_of([&] { Bpe{spec}; }), ErrorCode::kUnsupported);
  }
  poor["unk_token"] = "nowhere";
  EXPECT_EQ(code_of([&] { Bpe{poor}; }), ErrorCode::kFormat);
  EXPECT_NO_THROW(Bpe{good});
}

TEST(Bpe, BytesOfTokens) {
  EXPECT_EQ(bytes_of_token("Ġa"), " a");
  EXPECT_EQ(bytes_of_token("Ċ"), "\n");
  EXPECT_EQ(bytes_of_token("Ã©"), "é");
  EXPECT_EQ(bytes_of_token(""), "");
  EXPECT_EQ(bytes_of_token("a b"), std::nullopt);
  EXPECT_EQ(bytes_of_token("漢"), std::nullopt);
}

}  // namespace
}  // namespace accrete::text
