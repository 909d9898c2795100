#include "model/reader.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "model/kernels/dense.h"
#include "text/wordpiece.h"
#include "tiny_reader.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using accrete::testing::kReaderBlocks;
using accrete::testing::kReaderFfn;
using accrete::testing::kReaderHeads;
using accrete::testing::kReaderWidth;
using accrete::testing::Tensors;
using accrete::testing::tiny_reader_config;
using accrete::testing::tiny_reader_tensors;
using accrete::testing::write_tensors;
using accrete::testing::write_tiny_reader;
using nlohmann::json;
using ::testing::HasSubstr;
using text_testing::wordpiece_json;

// A plain pass over one text, its tokens a row each.
at::Tensor expected(const Tensors& t, const std::string& text, const std::string& act = "gelu",
                    bool first = false) {
  const auto ids = WordPiece::parse(wordpiece_json().dump(), "test").encode(text, 24);
  const auto n = static_cast<int64_t>(ids.size());
  const auto get = [&](const std::string& name) { return t.at(name).to(at::kFloat); };
  const auto dense = [&](const std::string& name, const at::Tensor& x) {
    return at::linear(x, get(name + ".weight"), get(name + ".bias"));
  };
  const auto norm = [&](const std::string& name, const at::Tensor& x) {
    return at::layer_norm(x, {kReaderWidth}, get(name + ".weight"), get(name + ".bias"), 1e-12);
  };
  auto h = at::zeros({n, kReaderWidth});
  for (int64_t i = 0; i < n; ++i)
    h[i] = get("embeddings.word_embeddings.weight")[ids[static_cast<size_t>(i)]] +
           get("embeddings.position_embeddings.weight")[i] +
           get("embeddings.token_type_embeddings.weight")[0];
  h = norm("embeddings.LayerNorm", h);
  for (int64_t b = 0; b < kReaderBlocks; ++b) {
    const std::string p = "encoder.layer." + std::to_string(b) + ".";
    const auto heads = [&](const std::string& part) {
      return dense(p + "attention.self." + part, h).view({n, kReaderHeads, -1}).transpose(0, 1);
    };
    const auto scores = at::matmul(heads("query"), heads("key").transpose(1, 2)) /
                        std::sqrt(static_cast<double>(kReaderWidth / kReaderHeads));
    const auto seen = at::matmul(at::softmax(scores, -1), heads("value"));
    const auto flat = seen.transpose(0, 1).reshape({n, kReaderWidth});
    h = norm(p + "attention.output.LayerNorm", dense(p + "attention.output.dense", flat) + h);
    auto x = dense(p + "intermediate.dense", h);
    x = act == "relu" ? at::relu(x) : at::gelu(x, act == "gelu" ? "none" : "tanh");
    h = norm(p + "output.LayerNorm", dense(p + "output.dense", x) + h);
  }
  const auto pooled = first ? h[0] : h.mean(0);
  return pooled / pooled.norm();
}

class ReaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        fs::path(::testing::TempDir()) /
        (std::string("reader-") + ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    write_tiny_reader(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, const json& content) {
    fs::create_directories((folder_ / name).parent_path());
    write_file_atomically(folder_ / name, content.dump());
  }
  void write(const Tensors& tensors) { write_tensors(folder_ / "model.safetensors", tensors); }
  at::Tensor read(const std::vector<std::string>& texts) const {
    return Reader::open(folder_).read(texts);
  }
  // How opening is refused, "code: message".
  std::string refusal() const {
    try {
      Reader::open(folder_);
    } catch (const Error& error) {
      EXPECT_NE(error.hint(), "") << error.what();
      return accrete::format("{}: {}", error_code_name(error.code()), error.what());
    }
    return "not refused";
  }
  void expect_vectors(const Tensors& tensors, const std::string& act = "gelu", bool first = false) {
    const at::Tensor got = read(texts_);
    ASSERT_EQ(got.sizes(), at::IntArrayRef({static_cast<int64_t>(texts_.size()), kReaderWidth}));
    for (size_t i = 0; i < texts_.size(); ++i) {
      const auto difference =
          got[static_cast<int64_t>(i)] - expected(tensors, texts_[i], act, first);
      EXPECT_LT(difference.abs().max().item<float>(), 1e-5) << texts_[i];
    }
  }

  fs::path folder_;
  const std::vector<std::string> texts_ = {"",         "How much does it weigh?",
                                           "a",        "weighing b",
                                           "how much", "a b c a b c a b c a b c a b c a b c a b c"};
};

TEST_F(ReaderTest, ComputesWhatBertComputes) {
  expect_vectors(tiny_reader_tensors());
  const Reader reader = Reader::open(folder_);
  EXPECT_EQ(reader.width(), kReaderWidth);
  EXPECT_EQ(reader.max_tokens(), 24);
}

TEST_F(ReaderTest, ReadsOtherActivations) {
  for (const char* act : {"gelu_new", "gelu_pytorch_tanh", "relu"}) {
    json config = tiny_reader_config();
    config["hidden_act"] = act;
    write("config.json", config);
    expect_vectors(tiny_reader_tensors(), act);
  }
}

TEST_F(ReaderTest, ReadsHalfPrecisionAndTensorsBehindAPrefix) {
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16}) {
    Tensors tensors, prefixed;
    for (const auto& [name, t] : tiny_reader_tensors())
      prefixed["bert." + name] = tensors[name] = t.to(type);
    prefixed["bert.embeddings.position_ids"] = at::arange(24);
    prefixed["cls.predictions.bias"] = at::zeros({3});
    write(prefixed);
    expect_vectors(tensors);
  }
}

TEST_F(ReaderTest, PoolsAsTheFolderSays) {
  write("1_Pooling/config.json", {{"word_embedding_dimension", kReaderWidth},
                                  {"pooling_mode_cls_token", true},
                                  {"pooling_mode_mean_tokens", false}});
  expect_vectors(tiny_reader_tensors(), "gelu", /*first=*/true);
  const std::string by_first = Reader::open(folder_).digest();
  write("1_Pooling/config.json",
        {{"pooling_mode_cls_token", false}, {"pooling_mode_mean_tokens", true}});
  expect_vectors(tiny_reader_tensors());
  EXPECT_NE(Reader::open(folder_).digest(), by_first);
  write("1_Pooling/config.json", {{"pooling_mode_max_tokens", true}});
  EXPECT_THAT(refusal(), HasSubstr("pooling_mode_max_tokens"));
  write("1_Pooling/config.json",
        {{"pooling_mode_cls_token", true}, {"pooling_mode_mean_tokens", true}});
  EXPECT_THAT(refusal(), HasSubstr("unsupported"));
}

TEST_F(ReaderTest, ReadsEqualTextsOnceAndGivesEachItsVector) {
  const Reader reader = Reader::open(folder_);
  const std::vector<std::string> texts = {"hello world", "", "world", "hello world", "world", ""};
  for (const bool words_only : {false, true}) {
    const auto all = reader.read(texts, words_only);
    for (size_t i = 0; i < texts.size(); ++i)
      EXPECT_TRUE(
          at::equal(all[static_cast<int64_t>(i)], reader.read({&texts[i], 1}, words_only)[0]))
          << i;
  }
}

// Factors of one layer; what peft would write.
json write_adapter(const fs::path& folder, const std::string& layer, const at::Tensor& a,
                   const at::Tensor& b) {
  fs::create_directories(folder / "adapter");
  write_tensors(folder / "adapter" / "adapter_model.safetensors",
                {{"base_model.model." + layer + ".lora_A.weight", a},
                 {"base_model.model." + layer + ".lora_B.weight", b}});
  return {{"peft_type", "LORA"}, {"r", a.size(0)}, {"lora_alpha", 6}, {"bias", "none"}};
}

TEST_F(ReaderTest, AddsAnAdapter) {
  const std::string layer = "encoder.layer.1.intermediate.dense";
  const auto a = at::randn({3, kReaderWidth}), b = at::randn({kReaderFfn, 3}) * 0.1;
  Tensors tensors = tiny_reader_tensors();
  const std::string before = Reader::open(folder_).digest();
  const json config = write_adapter(folder_, layer, a, b);
  EXPECT_EQ(Reader::open(folder_).digest(), before);  // nothing says what the factors are
  write("adapter/adapter_config.json", config);
  tensors[layer + ".weight"] += 2 * b.mm(a);
  expect_vectors(tensors);
  const std::string with = Reader::open(folder_).digest();
  EXPECT_NE(with, before);
  write_adapter(folder_, layer, a, b + 1);
  EXPECT_NE(Reader::open(folder_).digest(), with);
}

TEST_F(ReaderTest, RefusesAnAdapterThatItDoesNotUnderstandOrThatIsAnothersModel) {
  const std::string layer = "encoder.layer.0.attention.self.query";
  const auto a = at::randn({2, kReaderWidth}), b = at::randn({kReaderWidth, 2});
  const json config = write_adapter(folder_, layer, a, b);
  const auto refused_with = [&](const char* key, const json& value) {
    json other = config;
    other[key] = value;
    write("adapter/adapter_config.json", other);
    return refusal();
  };
  EXPECT_THAT(refused_with("peft_type", "LOHA"), HasSubstr("LOHA"));
  EXPECT_THAT(refused_with("use_dora", true), HasSubstr("use_dora"));
  EXPECT_THAT(refused_with("rank_pattern", {{"query", 4}}), HasSubstr("rank_pattern"));
  EXPECT_THAT(refused_with("bias", "all"), HasSubstr("bias"));
  EXPECT_THAT(refused_with("lora_alpha", "much"), HasSubstr("lora_alpha"));
  EXPECT_THAT(refused_with("r", 0), HasSubstr("`r`"));
  write("adapter/adapter_config.json", config);
  EXPECT_EQ(refusal(), "not refused");
  write_adapter(folder_, layer, at::randn({2, kReaderWidth + 1}), b);
  EXPECT_THAT(refusal(), HasSubstr("lora_A"));
  write_adapter(folder_, layer, a, at::randn({kReaderWidth, 3}));
  EXPECT_THAT(refusal(), HasSubstr("do not go together"));
  write_adapter(folder_, "encoder.layer.9.attention.self.query", a, b);
  EXPECT_THAT(refusal(), HasSubstr("of no linear layer"));
  fs::remove(folder_ / "adapter" / "adapter_model.safetensors");
  EXPECT_THAT(refusal(), HasSubstr("adapter_model.safetensors"));
}

// A cross-encoder of one adapted layer and a head; of passages with `pool`.
void write_cross(const fs::path& folder, const std::string& layer, const at::Tensor& head,
                 const at::Tensor& bias, const at::Tensor& pool = {}) {
  const fs::path to = folder / (pool.defined() ? "passage_encoder" : "cross_encoder");
  fs::create_directories(to);
  at::manual_seed(5);
  testing::Tensors tensors = {
      {"base_model.model." + layer + ".lora_A.weight", at::randn({2, kReaderWidth})},
      {"base_model.model." + layer + ".lora_B.weight", at::randn({kReaderFfn, 2})},
      {"head.weight", head},
      {"head.bias", bias}};
  if (pool.defined()) tensors.emplace("pool.weight", pool);
  write_tensors(to / "adapter_model.safetensors", tensors);
}

TEST_F(ReaderTest, ACrossEncoderReadsAQuestionAndAFactTogether) {
  const std::string layer = "encoder.layer.1.intermediate.dense";
  const Reader without = Reader::open(folder_);
  EXPECT_FALSE(without.has_cross_encoder());
  EXPECT_THROW((void)without.judge(std::span<const ReadPair>()), Error);
  const auto head = at::randn({1, 2 * kReaderWidth}), bias = at::full({1}, 0.25);
  write_cross(folder_, layer, head, bias);
  write("cross_encoder/adapter_config.json",
        {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 2}, {"bias", "none"}});
  const Reader reader = Reader::open(folder_);
  EXPECT_NE(reader.digest(), without.digest());
  EXPECT_TRUE(reader.has_cross_encoder());
  const std::vector<ReadPair> pairs = {{"hello world", {"world", "hello"}, "hello"},
                                       {"world", {"hello"}, "world"},
                                       {"hello world", {"world"}, "hello"},
                                       {"", {}, ""},
                                       {std::string(4000, 'a'), {std::string(4000, 'b')}, "c"}};
  const std::vector<double> odds = reader.judge(pairs);
  ASSERT_EQ(odds.size(), pairs.size());
  EXPECT_NE(odds[0], odds[2]);
  for (size_t i = 0; i < pairs.size(); ++i)
    EXPECT_EQ(reader.judge({&pairs[i], 1}).front(), odds[i]) << i;
  // What reads a text alone stays as it was.
  const std::vector<std::string> texts = {"hello world"};
  EXPECT_TRUE(at::equal(reader.read(texts), without.read(texts)));
}

TEST_F(ReaderTest, APassageEncoderReadsAQuestionAndAPassageTogether) {
  const std::string layer = "encoder.layer.1.intermediate.dense";
  const Reader without = Reader::open(folder_);
  EXPECT_FALSE(without.has_passage_encoder());
  std::string long_one;
  for (int i = 0; i < 800; ++i) long_one += "hello ";
  const std::vector<ReadPassage> passages = {
      {"hello world", "world", {"hello", "world world"}},
      {"world", "", {"hello"}},
      {"", "", {}},
      {std::string(4000, 'a'), std::string(4000, 'b'), {"hello", long_one, "world"}}};
  EXPECT_THROW((void)without.judge(passages), Error);
  write_cross(folder_, layer, at::randn({1, 2 * kReaderWidth}), at::full({1}, 0.25),
              at::randn({1, kReaderWidth}));
  write("passage_encoder/adapter_config.json",
        {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 2}, {"bias", "none"}});
  const Reader reader = Reader::open(folder_);
  EXPECT_NE(reader.digest(), without.digest());
  EXPECT_FALSE(reader.has_cross_encoder());
  const auto said = reader.judge(passages);
  ASSERT_EQ(said.size(), passages.size());
  for (size_t i = 0; i < passages.size(); ++i) {
    const auto alone = reader.judge({&passages[i], 1}).front();
    EXPECT_EQ(alone.log_odds, said[i].log_odds) << i;
    EXPECT_EQ(alone.pieces, said[i].pieces) << i;
    ASSERT_EQ(said[i].pieces.size(), passages[i].pieces.size());
    double parts = 0;
    for (const double part : said[i].pieces) parts += std::exp(part);
    EXPECT_LT(parts, 1 + 1e-6);  // the rest is the headings'
  }
  EXPECT_LT(said[3].pieces[2], -15);  // behind what is read
  fs::remove_all(folder_ / "passage_encoder");
  write_cross(folder_, layer, at::randn({1, 2 * kReaderWidth}), at::zeros({1}),
              at::randn({1, kReaderWidth + 1}));
  write("passage_encoder/adapter_config.json",
        {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 2}, {"bias", "none"}});
  EXPECT_THAT(refusal(), HasSubstr("pool.weight"));
}

TEST_F(ReaderTest, RefusesACrossEncoderThatIsNotWhole) {
  const std::string layer = "encoder.layer.1.intermediate.dense";
  write("acceptance.json", {{"cross", 0.5}});
  EXPECT_THAT(refusal(), HasSubstr("cross_encoder"));
  write_cross(folder_, layer, at::randn({1, kReaderWidth}), at::zeros({1}));
  write("cross_encoder/adapter_config.json",
        {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 2}, {"bias", "none"}});
  EXPECT_THAT(refusal(), HasSubstr("head.weight"));
  write_cross(folder_, "encoder.layer.9.intermediate.dense", at::randn({1, 2 * kReaderWidth}),
              at::zeros({1}));
  EXPECT_THAT(refusal(), HasSubstr("of no linear layer"));
  write_cross(folder_, layer, at::randn({1, 2 * kReaderWidth}), at::zeros({1}));
  EXPECT_EQ(refusal(), "not refused");
  write_cross(folder_, layer, at::full({1, 2 * kReaderWidth}, NAN), at::zeros({1}));
  const Reader broken = Reader::open(folder_);
  const std::vector<ReadPair> pair = {{"hello", {"world"}, "hello"}};
  EXPECT_THROW((void)broken.judge(pair), Error);
}

TEST_F(ReaderTest, TheDecisionIsTheFolders) {
  EXPECT_EQ(Reader::open(folder_).acceptance().bias, acceptance_rule().bias);
  const std::string before = Reader::open(folder_).digest();
  write("acceptance.json", {{"bias", -3.5}, {"open", 0.25}});
  const Reader reader = Reader::open(folder_);
  EXPECT_EQ(reader.acceptance().bias, -3.5);
  EXPECT_EQ(reader.acceptance().open, 0.25);
  EXPECT_EQ(reader.acceptance().whole, acceptance_rule().whole);
  EXPECT_NE(reader.digest(), before);
  write("acceptance.json", {{"biass", 1}});
  EXPECT_THAT(refusal(), HasSubstr("biass"));
  write("acceptance.json", {{"bias", "low"}});
  EXPECT_THAT(refusal(), HasSubstr("bias"));
  write("acceptance.json", {{"few", 0}});
  EXPECT_THAT(refusal(), HasSubstr("few"));
}

TEST_F(ReaderTest, AVectorDoesNotDependOnWhatIsReadBesideIt) {
  std::vector<std::string> many;
  for (int i = 0; i < 700; ++i) many.push_back(texts_[static_cast<size_t>(i * i) % texts_.size()]);
  const Reader reader = Reader::open(folder_);
  const int threads = at::get_num_threads();
  for (const int n : {1, 3}) {
    at::set_num_threads(n);
    const at::Tensor together = reader.read(many);
    for (size_t i = 0; i < texts_.size() * 2; ++i)
      EXPECT_TRUE(at::equal(reader.read({&many[i], 1})[0], together[static_cast<int64_t>(i)])) << i;
  }
  at::set_num_threads(threads);
}

TEST_F(ReaderTest, SeveralThreadsMayRead) {
  const Reader reader = Reader::open(folder_);
  const at::Tensor alone = reader.read(texts_);
  std::vector<at::Tensor> results(4);
  std::vector<std::thread> threads;
  for (at::Tensor& result : results) threads.emplace_back([&] { result = reader.read(texts_); });
  for (std::thread& thread : threads) thread.join();
  for (const at::Tensor& result : results) EXPECT_TRUE(at::equal(result, alone));
}

TEST_F(ReaderTest, AnyTextHasAVectorOfUnitLength) {
  std::string question;
  while (question.size() < 50000) question += "How much does it weigh? \u6f22\u00e9\U0001f600 ";
  const std::vector<std::string> texts = {
      "",           "   ", question, std::string(50000, 'x'), "\xff\xfe", std::string("\0\0", 2),
      "[CLS] [SEP]"};
  const at::Tensor vectors = read(texts);
  EXPECT_TRUE(at::isfinite(vectors).all().item<bool>());
  EXPECT_LT((vectors.norm(2, -1) - 1).abs().max().item<float>(), 1e-5);
  EXPECT_TRUE(at::equal(vectors[0], vectors[1]));
  EXPECT_EQ(read({}).sizes(), at::IntArrayRef({0, kReaderWidth}));
}

TEST_F(ReaderTest, ReadsNoMoreThanTheTokenizerAllows) {
  json tokenizer = wordpiece_json();
  tokenizer["truncation"] = {{"max_length", 4}, {"strategy", "LongestFirst"}, {"stride", 0}};
  write("tokenizer.json", tokenizer);
  EXPECT_EQ(Reader::open(folder_).max_tokens(), 4);
  const at::Tensor vectors = read({"a b", "a b c"});
  EXPECT_TRUE(at::equal(vectors[0], vectors[1]));
  tokenizer["truncation"]["max_length"] = 1;
  write("tokenizer.json", tokenizer);
  EXPECT_THAT(refusal(), HasSubstr("special"));
}

TEST_F(ReaderTest, DigestsTellReadersApart) {
  const std::string digest = Reader::open(folder_).digest();
  const std::string full = Reader::open(folder_).full_digest();
  EXPECT_EQ(digest.size(), 64u);
  EXPECT_NE(digest, full);
  EXPECT_EQ(Reader::open(folder_).digest(), digest);
  EXPECT_EQ(Reader::open(folder_).full_digest(), full);

  Tensors tensors = tiny_reader_tensors();  // the middle of a large tensor
  tensors["encoder.layer.0.intermediate.dense.weight"].view(-1)[900] += 1;
  write(tensors);
  EXPECT_EQ(Reader::open(folder_).digest(), digest);
  EXPECT_NE(Reader::open(folder_).full_digest(), full);
  tensors["encoder.layer.0.intermediate.dense.weight"].view(-1)[3] += 1;  // an end
  write(tensors);
  EXPECT_NE(Reader::open(folder_).digest(), digest);

  write_tiny_reader(folder_);
  EXPECT_EQ(Reader::open(folder_).digest(), digest);
  json tokenizer = wordpiece_json();
  tokenizer["model"]["vocab"]["d"] = 9;
  tokenizer["model"]["vocab"]["i"] = 8;
  write("tokenizer.json", tokenizer);
  EXPECT_NE(Reader::open(folder_).digest(), digest);
}

TEST_F(ReaderTest, RefusesOtherModels) {
  const auto with = [&](const char* key, const json& value) {
    json config = tiny_reader_config();
    config[key] = value;
    write("config.json", config);
    return refusal();
  };
  EXPECT_THAT(with("model_type", "llama"), HasSubstr("unsupported"));
  EXPECT_THAT(with("model_type", "mpnet"), HasSubstr("mpnet"));
  EXPECT_THAT(with("model_type", nullptr), HasSubstr("unsupported"));
  EXPECT_THAT(with("hidden_act", "silu"), HasSubstr("silu"));
  EXPECT_THAT(with("position_embedding_type", "relative_key"), HasSubstr("relative_key"));
  EXPECT_THAT(with("is_decoder", true), HasSubstr("is_decoder"));
  EXPECT_THAT(with("hidden_size", 0), HasSubstr("format: "));
  EXPECT_THAT(with("hidden_size", "x"), HasSubstr("hidden_size"));
  EXPECT_THAT(with("hidden_size", 1e300), HasSubstr("hidden_size"));
  EXPECT_THAT(with("num_attention_heads", 5), HasSubstr("multiple"));
  EXPECT_THAT(with("layer_norm_eps", "x"), HasSubstr("layer_norm_eps"));
  EXPECT_THAT(with("vocab_size", 10), HasSubstr("tokens"));

  write("config.json", tiny_reader_config());
  write("modules.json", {{{"type", "sentence_transformers.models.Transformer"}},
                         {{"type", "sentence_transformers.models.Pooling"}},
                         {{"type", "sentence_transformers.models.Normalize"}}});
  EXPECT_EQ(refusal(), "not refused");
  write("modules.json", {{{"type", "sentence_transformers.models.Dense"}}});
  EXPECT_THAT(refusal(), HasSubstr("models.Dense"));
}

TEST_F(ReaderTest, RefusesWeightsThatDoNotFitByName) {
  const std::string name = "encoder.layer.1.attention.self.key.weight";
  Tensors tensors = tiny_reader_tensors();
  tensors.erase(name);
  write(tensors);
  EXPECT_THAT(refusal(), HasSubstr("`" + name + "` is missing"));
  tensors[name] = at::zeros({kReaderWidth, kReaderWidth - 1});
  write(tensors);
  EXPECT_THAT(refusal(), HasSubstr("`" + name + "` has shape [36, 35]"));
  tensors[name] = at::zeros({kReaderWidth, kReaderWidth}, at::kLong);
  write(tensors);
  EXPECT_THAT(refusal(), HasSubstr("I64"));
}

TEST_F(ReaderTest, RefusesTornFilesAndFoldersThatAreNone) {
  const std::string weights = read_file(folder_ / "model.safetensors");
  for (const size_t size : {size_t{0}, size_t{7}, size_t{100}, weights.size() - 1}) {
    write_file_atomically(folder_ / "model.safetensors", weights.substr(0, size));
    EXPECT_THAT(refusal(), HasSubstr("format: ")) << size;
  }
  write_file_atomically(folder_ / "model.safetensors", weights);
  write_file_atomically(folder_ / "config.json", "{");
  EXPECT_THAT(refusal(), HasSubstr("config.json"));
  for (const char* file : {"config.json", "tokenizer.json", "model.safetensors"}) {
    write_tiny_reader(folder_);
    fs::remove(folder_ / file);
    EXPECT_THAT(refusal(), HasSubstr("not_found")) << file;
  }
  fs::remove_all(folder_);
  EXPECT_THAT(refusal(), HasSubstr("not_found"));
}

TEST_F(ReaderTest, RefusesVectorsThatAreNoNumbers) {
  const auto code = [&](const std::string& text) {
    const Reader reader = Reader::open(folder_);
    return text_testing::code_of([&] { reader.read({&text, 1}); });
  };
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Tensors tensors = tiny_reader_tensors();
    tensors["encoder.layer.0.output.dense.weight"][3][4] = bad;
    write(tensors);
    EXPECT_EQ(code("a"), ErrorCode::kFormat);
    tensors = tiny_reader_tensors();
    tensors["embeddings.word_embeddings.weight"][5][0] = bad;  // the token a
    write(tensors);
    EXPECT_EQ(code("a"), ErrorCode::kFormat);
    EXPECT_TRUE(at::isfinite(read({"b"})).all().item<bool>());
  }
}

TEST(DenseProduct, EqualsTheProductForAnyShape) {
  for (const int64_t columns : {1, 3, 16, 37, 384}) {
    for (const int64_t rows : {1, 4, 7, 66}) {
      const auto w = at::randn({rows, columns}), bias = at::randn({rows});
      for (const int64_t n : {1, 2, 5, 6, 7, 13, 200}) {
        const auto x = at::randn({n, columns});
        auto y = at::full({n, rows}, 7.0);
        const auto product = [&](int64_t begin, int64_t end) {
          kernels::dense_product(x.const_data_ptr<float>(), n, columns, w.const_data_ptr<float>(),
                                 bias.const_data_ptr<float>(), rows, begin, end,
                                 y.mutable_data_ptr<float>());
        };
        product(0, rows);
        EXPECT_LT((y - at::linear(x, w, bias)).abs().max().item<float>(), 1e-4);
        const auto whole = y.clone();
        y.fill_(7);
        product(rows / 8 * 4, rows);  // in two parts, of whole groups of columns
        EXPECT_EQ((y.narrow(1, 0, rows / 8 * 4) != 7).sum().item<int64_t>(), 0);
        product(0, rows / 8 * 4);
        EXPECT_TRUE(at::equal(y, whole));
      }
    }
  }
}

}  // namespace
}  // namespace accrete
