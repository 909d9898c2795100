#include <nlohmann/json.hpp>

#include "io/hf_folder.h"
#include "llama_gguf.h"

namespace accrete {
namespace {

using nlohmann::json;
using testing::bytes_of;
using testing::expect_error;
using testing::LlamaGguf;

json tokenizer_of(const LlamaGguf& gguf) {
  const std::string bytes = gguf.build();
  return tokenizer_json_from_gguf(GgufFile::parse(bytes_of(bytes), "test"));
}

void tokenizer_refuses(const LlamaGguf& gguf, std::initializer_list<const char*> parts,
                       ErrorCode code = ErrorCode::kFormat) {
  expect_error(code, {"tokenizer"}, [&] { tokenizer_of(gguf); });
  expect_error(code, parts, [&] { tokenizer_of(gguf); });
}

TEST(GgufTokenizer, SmolLmSplitsDigitsThenWords) {
  const json t = tokenizer_of(LlamaGguf());
  EXPECT_EQ(t["model"]["type"], "BPE");
  EXPECT_EQ(t["model"]["vocab"],
            json::parse(R"({"<|end|>":0,"a":1,"b":2,"ab":3,"<user>":4,"c":5})"));
  EXPECT_EQ(t["model"]["merges"], json::parse(R"(["a b"])"));
  EXPECT_FALSE(t["model"]["ignore_merges"].get<bool>());
  const json& pre = t["pre_tokenizer"];
  EXPECT_EQ(pre["type"], "Sequence");
  ASSERT_EQ(pre["pretokenizers"].size(), 2u);
  EXPECT_EQ(pre["pretokenizers"][0], json::parse(R"({"type":"Digits","individual_digits":true})"));
  EXPECT_EQ(pre["pretokenizers"][1]["type"], "ByteLevel");
  EXPECT_TRUE(pre["pretokenizers"][1]["use_regex"].get<bool>());
  EXPECT_FALSE(pre["pretokenizers"][1]["add_prefix_space"].get<bool>());
  EXPECT_TRUE(t["normalizer"].is_null());
  EXPECT_TRUE(t["post_processor"].is_null());
  EXPECT_EQ(t["decoder"]["type"], "ByteLevel");
}

TEST(GgufTokenizer, AddsControlAndUserTokens) {
  const json t = tokenizer_of(LlamaGguf());
  ASSERT_EQ(t["added_tokens"].size(), 2u);
  EXPECT_EQ(t["added_tokens"][0]["content"], "<|end|>");
  EXPECT_EQ(t["added_tokens"][0]["id"], 0);
  EXPECT_TRUE(t["added_tokens"][0]["special"].get<bool>());
  EXPECT_EQ(t["added_tokens"][1]["content"], "<user>");
  EXPECT_FALSE(t["added_tokens"][1]["special"].get<bool>());
}

TEST(GgufTokenizer, WithoutTypesTheTokensWithARoleAreSpecial) {
  LlamaGguf gguf;
  gguf.pairs.erase("tokenizer.ggml.token_type");
  gguf.number("tokenizer.ggml.padding_token_id", 5);
  const json t = tokenizer_of(gguf);
  ASSERT_EQ(t["added_tokens"].size(), 2u);
  EXPECT_EQ(t["added_tokens"][0]["id"], 0);
  EXPECT_EQ(t["added_tokens"][1]["id"], 5);
}

TEST(GgufTokenizer, Gpt2) {
  LlamaGguf gguf;
  gguf.text("tokenizer.ggml.pre", "gpt-2");
  EXPECT_EQ(tokenizer_of(gguf)["pre_tokenizer"]["type"], "ByteLevel");
  EXPECT_TRUE(tokenizer_of(gguf)["pre_tokenizer"]["use_regex"].get<bool>());
}

TEST(GgufTokenizer, Llama3TakesWholeTokensAndBeginsATextWithBos) {
  for (const char* pre : {"llama-bpe", "llama3", "llama-v3"}) {
    LlamaGguf gguf;
    gguf.text("tokenizer.ggml.pre", pre);
    const json t = tokenizer_of(gguf);
    EXPECT_TRUE(t["model"]["ignore_merges"].get<bool>());
    const json& split = t["pre_tokenizer"]["pretokenizers"][0];
    EXPECT_EQ(split["type"], "Split");
    EXPECT_THAT(split["pattern"]["Regex"].get<std::string>(), ::testing::HasSubstr("\\p{N}{1,3}"));
    EXPECT_FALSE(t["pre_tokenizer"]["pretokenizers"][1]["use_regex"].get<bool>());
    const json& post = t["post_processor"];
    EXPECT_EQ(post["type"], "TemplateProcessing");
    EXPECT_EQ(post["single"], json::parse(R"([{"SpecialToken":{"id":"<|end|>","type_id":0}},)"
                                          R"({"Sequence":{"id":"A","type_id":0}}])"));
    EXPECT_EQ(post["special_tokens"]["<|end|>"]["ids"], json::parse("[0]"));
  }
}

TEST(GgufTokenizer, Qwen2NormalisesAndTakesDigitsOneByOne) {
  LlamaGguf gguf;
  gguf.text("tokenizer.ggml.pre", "qwen2");
  const json t = tokenizer_of(gguf);
  EXPECT_EQ(t["normalizer"]["type"], "NFC");
  const auto regex = t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"].get<std::string>();
  EXPECT_THAT(regex, ::testing::HasSubstr("|\\p{N}| ?"));
  EXPECT_TRUE(t["post_processor"].is_null());
}

TEST(GgufTokenizer, TheFileDecidesAboutBeginningAndEnd) {
  LlamaGguf gguf;
  gguf.boolean("tokenizer.ggml.add_bos_token", true);
  gguf.boolean("tokenizer.ggml.add_eos_token", true);
  EXPECT_EQ(tokenizer_of(gguf)["post_processor"]["single"].size(), 3u);
  EXPECT_EQ(tokenizer_of(gguf)["post_processor"]["pair"].size(), 6u);
  gguf.text("tokenizer.ggml.pre", "llama-bpe");
  gguf.boolean("tokenizer.ggml.add_bos_token", false);
  gguf.boolean("tokenizer.ggml.add_eos_token", false);
  EXPECT_TRUE(tokenizer_of(gguf)["post_processor"].is_null());
}

TEST(GgufTokenizer, RefusesWhatItDoesNotKnow) {
  LlamaGguf spm;
  spm.text("tokenizer.ggml.model", "llama");
  tokenizer_refuses(spm, {"\"llama\"", "byte-level BPE"}, ErrorCode::kUnsupported);
  for (const char* pre : {"tekken", "deepseek-llm", "smollm2"}) {
    LlamaGguf gguf;
    gguf.text("tokenizer.ggml.pre", pre);
    tokenizer_refuses(gguf, {pre}, ErrorCode::kUnsupported);
  }
  // A guess could be wrong in silence.
  LlamaGguf silent;
  silent.text("tokenizer.ggml.pre", "default");
  tokenizer_refuses(silent, {"tokenizer.ggml.pre"}, ErrorCode::kUnsupported);
  silent.pairs.erase("tokenizer.ggml.pre");
  tokenizer_refuses(silent, {"tokenizer.ggml.pre"}, ErrorCode::kUnsupported);
}

TEST(GgufTokenizer, RefusesTokensThatContradict) {
  LlamaGguf gguf;
  gguf.tokens({"a", "b", "a", "ab", "c", "d"}, {1, 1, 1, 1, 1, 1});
  tokenizer_refuses(gguf, {"\"a\"", "twice"});
  gguf.tokens({"<e>", "a", "b", "ab", "\xFF", "d"}, {1, 1, 1, 1, 1, 1});
  tokenizer_refuses(gguf, {"token 4", "UTF-8"});
  gguf.tokens({"<e>", "a", "b", "ab"}, {1, 1, 1});
  tokenizer_refuses(gguf, {"4 tokens but 3 token types"});
  gguf.tokens({"<e>", "a", "b", "ab"}, {7, 1, 1, 1});
  tokenizer_refuses(gguf, {"token 0 has the type 7"});
  gguf.tokens({"", "a", "b", "ab"}, {3, 1, 1, 1});
  tokenizer_refuses(gguf, {"token 0 is empty"});
  gguf.tokens({}, {});
  tokenizer_refuses(gguf, {"no tokens"});
}

TEST(GgufTokenizer, RefusesMergesOfNoTokens) {
  for (const char* merge : {"", "ab", "a", " ", "a b c", "a  b", "a x", "b a", "a b "}) {
    LlamaGguf gguf;
    gguf.texts("tokenizer.ggml.merges", {"a b", merge});
    tokenizer_refuses(gguf, {"merge 1"});
  }
}

TEST(GgufTokenizer, RefusesRolesOutsideTheVocabulary) {
  LlamaGguf gguf;
  gguf.boolean("tokenizer.ggml.add_bos_token", true);
  gguf.number("tokenizer.ggml.bos_token_id", 6);
  tokenizer_refuses(gguf, {"bos_token_id is 6 of 6"});
  gguf.pairs.erase("tokenizer.ggml.bos_token_id");
  tokenizer_refuses(gguf, {"beginning", "does not say which"});
}

TEST(GgufTokenizer, RefusesMissingAndMistypedKeys) {
  for (const char* key :
       {"tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
    LlamaGguf gguf;
    gguf.pairs.erase(key);
    expect_error(ErrorCode::kFormat, {key, "missing"}, [&] { tokenizer_of(gguf); });
    gguf.number(key, 1);
    expect_error(ErrorCode::kFormat, {key, "is not"}, [&] { tokenizer_of(gguf); });
  }
}

}  // namespace
}  // namespace accrete
