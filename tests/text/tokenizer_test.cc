#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "io/gguf.h"
#include "io/hf_folder.h"
#include "text_testing.h"

namespace accrete {
namespace {

using testing::ElementsAre;
using text_testing::added_token;
using text_testing::code_of;
using text_testing::Ids;
using text_testing::json;
using text_testing::random_text;
using text_testing::tokenizer_json;

const Tokenizer& gpt2() {
  static const Tokenizer tokenizer = Tokenizer::from_json(text_testing::gpt2_json());
  return tokenizer;
}

TEST(Tokenizer, Gpt2VectorsOfLlamaCpp) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  const std::string inputs = text_testing::file_text(text_testing::data_path("gpt2.inp"));
  std::istringstream outputs(text_testing::file_text(text_testing::data_path("gpt2.out")));
  int count = 0;
  size_t at = 0;
  for (std::string line; std::getline(outputs, line); ++count) {
    const size_t end = inputs.find(separator, at);
    ASSERT_NE(end, std::string::npos);
    const std::string text = inputs.substr(at, end - at);
    at = end + separator.size();
    Ids expected;
    std::istringstream numbers(line);
    for (int32_t id; numbers >> id;) expected.push_back(id);
    EXPECT_EQ(gpt2().encode(text), expected) << text;
    EXPECT_EQ(gpt2().decode(expected), text);
  }
  EXPECT_EQ(count, 46);
}

TEST(Tokenizer, KnowsItsVocabulary) {
  EXPECT_EQ(gpt2().vocab_size(), 50257);
  EXPECT_EQ(gpt2().token_id("<|endoftext|>"), 50256);
  EXPECT_EQ(gpt2().token_id("Ġthe"), 262);
  EXPECT_EQ(gpt2().token_id(" the"), std::nullopt);
  EXPECT_TRUE(gpt2().is_special(50256));
  EXPECT_FALSE(gpt2().is_special(262));
  EXPECT_FALSE(gpt2().is_special(-1));
  EXPECT_FALSE(gpt2().is_special(50257));
  EXPECT_EQ(gpt2().bos(), std::nullopt);
}

TEST(Tokenizer, SpecialTokensInTheText) {
  EXPECT_THAT(gpt2().encode("a<|endoftext|>"), ElementsAre(64, 50256));
  EXPECT_EQ(gpt2().encode("<|endoftext|>", false).size(), 7u);
  EXPECT_EQ(gpt2().decode(Ids{64, 50256}), "a<|endoftext|>");
  EXPECT_EQ(gpt2().decode(Ids{64, 50256}, true), "a");
}

TEST(Tokenizer, AnyBytesGoThereAndBack) {
  Rng rng(5);
  for (int round = 0; round < 3000; ++round) {
    std::string text = random_text(rng, rng.below(20));
    // Broken UTF-8, too.
    for (int i = static_cast<int>(rng.below(4)); i > 0; --i)
      text.insert(rng.below(text.size() + 1), 1, static_cast<char>(rng.below(256)));
    for (const bool special : {true, false})
      ASSERT_EQ(gpt2().decode(gpt2().encode(text, special)), text);
  }
  // Byte by byte: no merge reaches over a broken byte.
  EXPECT_THAT(gpt2().encode("a\xFF\xFE"), ElementsAre(64, 187, 186));
}

TEST(Tokenizer, IdsOutOfRangeAreErrors) {
  for (const int32_t id : {-1, 50257, INT32_MAX, INT32_MIN})
    EXPECT_EQ(code_of([&] { gpt2().decode(Ids{0, id}); }), ErrorCode::kInvalidArgument);
}

TEST(Tokenizer, HolesInTheVocabularyDecodeToNothing) {
  json spec = tokenizer_json({});
  spec["model"]["vocab"]["ab"] = 300;
  const Tokenizer tokenizer = Tokenizer::from_json(spec);
  EXPECT_EQ(tokenizer.vocab_size(), 301);
  EXPECT_EQ(tokenizer.decode(Ids{299, 300}), "ab");
}

TEST(Tokenizer, AddedTokensDecodeAsTheyAreWritten) {
  const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_json({}, {"<x y>", "漢"}));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a<x y>漢")), "a<x y>漢");
  EXPECT_EQ(tokenizer.encode("a<x y>漢").size(), 3u);
}

TEST(Tokenizer, CopiesOutliveTheOriginal) {
  auto original = std::make_unique<Tokenizer>(Tokenizer::from_json(tokenizer_json({"a b"})));
  const Tokenizer copy = *original;
  original.reset();
  EXPECT_EQ(copy.decode(copy.encode("abba")), "abba");
}

TEST(Tokenizer, RefusesOtherKinds) {
  const auto with = [](const char* key, json value) {
    json spec = tokenizer_json({});
    spec[key] = std::move(value);
    return code_of([&] { Tokenizer::from_json(spec); });
  };
  EXPECT_EQ(with("normalizer", {{"type", "Lowercase"}}), ErrorCode::kUnsupported);
  EXPECT_EQ(with("normalizer",
                 {{"type", "Sequence"}, {"normalizers", json::array({{{"type", "NFKC"}}})}}),
            ErrorCode::kUnsupported);
  EXPECT_EQ(with("decoder", nullptr), ErrorCode::kUnsupported);
  EXPECT_EQ(with("decoder", {{"type", "WordPiece"}}), ErrorCode::kUnsupported);
  EXPECT_EQ(with("post_processor", {{"type", "New"}}), ErrorCode::kUnsupported);
  EXPECT_EQ(with("pre_tokenizer", nullptr), ErrorCode::kUnsupported);
  EXPECT_EQ(with("model", {{"type", "Unigram"}}), ErrorCode::kUnsupported);
  EXPECT_EQ(with("model", nullptr), ErrorCode::kFormat);
  EXPECT_EQ(with("normalizer", 3), ErrorCode::kFormat);
  EXPECT_EQ(with("added_tokens", "x"), ErrorCode::kFormat);
  EXPECT_EQ(code_of([] { Tokenizer::from_json(json::array()); }), ErrorCode::kFormat);
}

TEST(Tokenizer, OpensTextsAsThePostProcessorSays) {
  json spec = tokenizer_json({}, {"<s>", "</s>"});
  EXPECT_TRUE(Tokenizer::from_json(spec).opening().empty());
  const int32_t bos = *Tokenizer::from_json(spec).token_id("<s>");
  const int32_t eos = *Tokenizer::from_json(spec).token_id("</s>");
  const json token = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
             text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
             end = {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}};
  json post = {
      {"type", "TemplateProcessing"},
      {"single", {token, text, end}},
      {"special_tokens",
       {{"<s>", {{"id", "<s>"}, {"ids", {bos}}}}, {"</s>", {{"id", "</s>"}, {"ids", {eos}}}}}}};
  const auto opening = [&](const json& processor) {
    spec["post_processor"] = processor;
    return Tokenizer::from_json(spec).opening();
  };
  const std::vector<int32_t> wanted = {bos};
  EXPECT_EQ(opening(post), wanted);
  EXPECT_EQ(opening({{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, post}}}),
            wanted);
  EXPECT_EQ(opening({{"type", "RobertaProcessing"}, {"cls", {"<s>", bos}}, {"sep", {"</s>", eos}}}),
            wanted);
  EXPECT_EQ(opening({{"type", "ByteLevel"}}), std::vector<int32_t>());

  spec["post_processor"] = post;
  const Tokenizer tokenizer = Tokenizer::from_json(spec);
  std::vector<int32_t> ids = tokenizer.encode("ab");
  EXPECT_EQ(tokenizer.encode_text("<s>ab"), tokenizer.encode("<s>ab"));
  ids.insert(ids.begin(), bos);
  EXPECT_EQ(tokenizer.encode_text("ab"), ids);
  EXPECT_EQ(tokenizer.encode_text(""), wanted);

  post["special_tokens"]["<s>"]["ids"] = {100000};
  EXPECT_EQ(code_of([&] { opening(post); }), ErrorCode::kFormat);
  post["special_tokens"].erase("<s>");
  EXPECT_EQ(code_of([&] { opening(post); }), ErrorCode::kFormat);
}

class Folder : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::path(testing::TempDir()) /
            testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
    write("tokenizer.json", tokenizer_json({}, {"<s>", "</s>"}));
  }
  void TearDown() override { std::filesystem::remove_all(path_); }
  void write(const char* name, const json& content) {
    write_file_atomically(path_ / name, content.dump());
  }

  std::filesystem::path path_;
};

TEST_F(Folder, GivesTheRolesOfSpecialTokens) {
  EXPECT_EQ(Tokenizer::from_folder(path_).eos(), std::nullopt);
  write("tokenizer_config.json", {{"bos_token", {{"content", "<s>"}}}, {"eos_token", "</s>"}});
  const Tokenizer tokenizer = Tokenizer::from_folder(path_);
  EXPECT_EQ(tokenizer.bos(), 256);
  EXPECT_EQ(tokenizer.eos(), 257);
  write("tokenizer_config.json", {{"bos_token", nullptr}});
  EXPECT_EQ(Tokenizer::from_folder(path_).bos(), std::nullopt);
}

TEST_F(Folder, FilesThatContradictEachOtherAreErrors) {
  const auto code = [&] { return code_of([&] { Tokenizer::from_folder(path_); }); };
  write("tokenizer_config.json", {{"eos_token", "<end>"}});
  EXPECT_EQ(code(), ErrorCode::kConflict);
  write("tokenizer_config.json", {{"added_tokens_decoder", {{"300", {{"content", "<s>"}}}}}});
  EXPECT_EQ(code(), ErrorCode::kConflict);
  write("tokenizer_config.json", {{"eos_token", 3}});
  EXPECT_EQ(code(), ErrorCode::kFormat);
  write_file_atomically(path_ / "tokenizer_config.json", "{");
  EXPECT_EQ(code(), ErrorCode::kFormat);
  std::filesystem::remove(path_ / "tokenizer.json");
  EXPECT_EQ(code(), ErrorCode::kNotFound);
}

TEST(StreamDecoder, HandsOutWholeCharacters) {
  const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_json({}, {"<s>"}));
  const auto pieces = [&](std::string_view bytes) {
    StreamDecoder stream(tokenizer);
    std::vector<std::string> result;
    for (const char c : bytes) {
      for (int32_t id = 0; id < 256; ++id)
        if (tokenizer.decode(Ids{id}) == std::string(1, c)) result.push_back(stream.push(id));
    }
    result.push_back(stream.finish());
    return result;
  };
  EXPECT_THAT(pieces("aé😀"), ElementsAre("a", "", "é", "", "", "", "😀", ""));
  EXPECT_THAT(pieces("\xF0\x9F\x98"), ElementsAre("", "", "", "\uFFFD"));
  EXPECT_THAT(pieces("\xF0\x9F"
                     "a"),
              ElementsAre("", "", "\uFFFDa", ""));
  EXPECT_THAT(pieces("\xFF\x80"), ElementsAre("\uFFFD", "\uFFFD", ""));
  EXPECT_THAT(pieces("\xED\xA0\x80"), ElementsAre("", "\uFFFD\uFFFD", "\uFFFD", ""));
  EXPECT_THAT(pieces(""), ElementsAre(""));
}

TEST(StreamDecoder, SkipsSpecialTokensUnlessTold) {
  const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_json({}, {"<s>"}));
  EXPECT_EQ(StreamDecoder(tokenizer).push(256), "");
  EXPECT_EQ(StreamDecoder(tokenizer, false).push(256), "<s>");
}

TEST(StreamDecoder, CanBeUsedAgainAfterFinish) {
  StreamDecoder stream(gpt2());
  stream.push(187);
  EXPECT_EQ(stream.finish(), "");  // 0xFF was broken at once
  stream.push(127);                // 0xC2 may begin a character
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(stream.push(64), "a");
}

// The default model, whose ids are those of Hugging Face `tokenizers` (parity_text.py has more).
TEST(Tokenizer, SmolLM2) {
  const char* given = std::getenv("ACCRETE_TEST_GGUF");
  const std::filesystem::path path =
      given ? given : ACCRETE_SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path))
    GTEST_SKIP() << "no " << path << "; set ACCRETE_TEST_GGUF to SmolLM2-135M-Instruct's GGUF";
  const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_json_from_gguf(GgufFile::open(path)));
  EXPECT_EQ(tokenizer.vocab_size(), 49152);
  EXPECT_EQ(tokenizer.token_id("<|im_end|>"), 2);
  EXPECT_THAT(tokenizer.encode("<|im_start|>user\nWhat is 2+2?<|im_end|>\n"),
              ElementsAre(1, 4093, 198, 1780, 314, 216, 34, 27, 34, 47, 2, 198));
  // It has no token for a few control bytes, and leaves them out as Hugging Face does.
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a\x1d"
                                              "b")),
            "ab");
  Rng rng(9);
  for (int round = 0; round < 500; ++round) {
    const std::string text = random_text(rng, rng.below(20));
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

}  // namespace
}  // namespace accrete
