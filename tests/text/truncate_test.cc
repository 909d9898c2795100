#include "text/truncate.h"

#include "text_testing.h"

namespace accrete {
namespace {

using text_testing::code_of;

// Greetings and sentences in scripts of one to four bytes a character.
const std::vector<std::string> kTexts = {
    "The quick brown fox jumps over the lazy dog, 1234 times.",
    "Größe, façade, naïve, Łódź, İstanbul",
    "Καλημέρα κόσμε. Здравствуй, мир! Շնորհակալություն",
    "שלום עולם · مرحبا بالعالم",
    "नमस्ते दुनिया, வணக்கம் உலகம், สวัสดีชาวโลก",
    "你好，世界。こんにちは世界。안녕하세요 세계",
    "👩‍👩‍👧‍👦 🏳️‍🌈 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 \U0010FFFF",
    "tab\tnew\nline\r\n  two  spaces  ",
};

TEST(Truncate, TextOfEveryScriptComesBack) {
  const auto small = Tokenizer::from_json(truncate_tokenizer(text_testing::gpt2_json(), 1000));
  EXPECT_EQ(small.vocab_size(), 1000);
  for (const std::string& text : kTexts) EXPECT_EQ(small.decode(small.encode(text)), text);
  Rng rng(1);
  for (int i = 0; i < 50; ++i) {
    const std::string text = text_testing::random_text(rng, 40);
    EXPECT_EQ(small.decode(small.encode(text)), text);
  }
}

// The tokens of a larger prefix are made of those of a smaller one.
TEST(Truncate, APrefixSplitsFinerAndNowhereElse) {
  const auto large = Tokenizer::from_json(text_testing::gpt2_json());
  const auto small = Tokenizer::from_json(truncate_tokenizer(text_testing::gpt2_json(), 2000));
  const auto ends = [](const Tokenizer& tokenizer, const std::string& text) {
    std::vector<size_t> out;
    size_t at = 0;
    for (const int32_t id : tokenizer.encode(text))
      out.push_back(at += tokenizer.decode({&id, 1}).size());
    return out;
  };
  for (const std::string& text : kTexts) {
    const auto coarse = ends(large, text), fine = ends(small, text);
    EXPECT_TRUE(std::includes(fine.begin(), fine.end(), coarse.begin(), coarse.end())) << text;
    EXPECT_GE(fine.size(), coarse.size());
  }
}

TEST(Truncate, EnoughForAllIsTheSameTokenizer) {
  const auto whole = text_testing::tokenizer_json({"a b", "ab c"}, {"<|end|>"});
  const auto cut = Tokenizer::from_json(truncate_tokenizer(whole, 10'000));
  const auto before = Tokenizer::from_json(whole);
  EXPECT_EQ(cut.vocab_size(), before.vocab_size());
  for (const char* text : {"abcab", "xabcy<|end|>ab"}) {
    const auto a = cut.encode(text), b = before.encode(text);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_EQ(cut.decode({&a[i], 1}), before.decode({&b[i], 1}));
  }
}

TEST(Truncate, SpecialTokensStayAndComeFirst) {
  const auto cut = Tokenizer::from_json(
      truncate_tokenizer(text_testing::tokenizer_json({"a b", "b c"}, {"<|x|>", "<|y|>"}), 259));
  EXPECT_EQ(cut.token_id("<|x|>"), 0);
  EXPECT_EQ(cut.token_id("<|y|>"), 1);
  EXPECT_TRUE(cut.is_special(1));
  EXPECT_TRUE(cut.token_id("ab").has_value());
  EXPECT_FALSE(cut.token_id("bc").has_value());
}

// SmolLM2's vocabulary lacks bytes that no UTF-8 has.
TEST(Truncate, EveryByteHasAToken) {
  auto json = text_testing::tokenizer_json({"a b"});
  json["model"]["vocab"].erase("Ā");  // byte 0
  const auto cut = Tokenizer::from_json(truncate_tokenizer(json, 300));
  std::string all;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  EXPECT_EQ(cut.decode(cut.encode(all)), all);
}

TEST(Truncate, RefusesWhatCannotBe) {
  const auto json = text_testing::tokenizer_json({"a b"}, {"<|end|>"});
  EXPECT_EQ(code_of([&] { truncate_tokenizer(json, 256); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { truncate_tokenizer({{"model", 3}}, 300); }), ErrorCode::kFormat);
  auto torn = json;
  torn["model"]["merges"] = {"ab c", "a b"};
  EXPECT_EQ(code_of([&] { truncate_tokenizer(torn, 300); }), ErrorCode::kFormat);
}

}  // namespace
}  // namespace accrete
