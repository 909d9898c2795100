// The packed passes against the readable ones, and values that make a model say what was taught.
#include "learn/fact_values.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"
#include "../model/tiny_model.h"
#include "base/format.h"
#include "model/ask.h"

namespace accrete {
namespace {

using testing::TemporaryFolder;

class FactValues_ : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder();
    testing::write_tiny_chat_model(*folder_ / "model");
    model_ = new LanguageModel(LanguageModel::open(*folder_ / "model", {.threads = 1}));
  }
  static void TearDownTestSuite() {
    delete model_;
    delete folder_;
  }
  static const Transformer& net() { return model_->net(); }

  static FactExample example(const std::string& prompt, const std::string& answer, int64_t fact,
                             bool chat = true) {
    AskRequest request;
    request.raw = !chat;
    if (chat)
      request.messages = {{"user", prompt}};
    else
      request.text = prompt;
    FactExample e;
    e.fact = fact;
    e.tokens = encode_request(*model_, request);
    e.prompt = static_cast<int64_t>(e.tokens.size());
    const auto said = encode_answer(*model_, prompt, answer, !chat);
    e.tokens.insert(e.tokens.end(), said.begin(), said.end());
    return e;
  }
  // Two of most shapes: chats, raw texts of 1 to 4 tokens, answers of one token and of 60.
  static std::vector<FactExample> many() {
    const std::string long_answer =
        "this answer has more tokens than three vectors hold, so it has more";
    return {example("How much does the Zorb weigh?", "ab", 0),
            example("And the weight of Zorb?", "ab", 0),
            example("a", "x", 1, false),
            example("So a", "x", 1, false),
            example("ab", "yz", 2, false),
            example("abc", long_answer, 3, false),
            example("How long is it?", long_answer, 3),
            example("abcd", "0123456789", 4, false),
            example("Who?", "0123456789a", 5),
            example("", "b", 6)};
  }
  static FactSites sites() { return {.block = 1, .at_end = 3, .every = 10}; }
  static std::vector<int64_t> first_rows(const std::vector<FactExample>& examples,
                                         const FactSites& s) {
    std::vector<int64_t> first = {0};
    for (const FactExample& e : examples) {
      if (static_cast<size_t>(e.fact) + 1 == first.size()) first.push_back(first.back());
      const int64_t n = s.vectors(static_cast<int64_t>(e.tokens.size()) - e.prompt);
      first.back() = std::max(first.back(), first[first.size() - 2] + n);
    }
    return first;
  }

  static TemporaryFolder* folder_;
  static LanguageModel* model_;
};
TemporaryFolder* FactValues_::folder_ = nullptr;
LanguageModel* FactValues_::model_ = nullptr;
using FactPassesTest = FactValues_;
using FactValuesTest = FactValues_;

TEST(FactSites, VectorsHaveTheirTokens) {
  const FactSites s{.block = 0, .at_end = 3, .every = 10};
  EXPECT_EQ(s.vectors(1), 3);
  EXPECT_EQ(s.vectors(10), 3);
  EXPECT_EQ(s.vectors(11), 4);
  EXPECT_EQ(s.vectors(21), 5);
  EXPECT_EQ(s.token(50, 0), 47);
  EXPECT_EQ(s.token(50, 2), 49);  // the prompt's last
  EXPECT_EQ(s.token(50, 3), 59);  // the tenth of the answer
  EXPECT_EQ(s.token(50, 4), 69);
  EXPECT_LT(s.token(2, 0), 1);  // no place
}

TEST_F(FactPassesTest, PackedPassesAreTheReadableOnes) {
  const auto examples = many();
  for (const int64_t block : {0, 1, 2})
    for (const auto& [at_end, every] : {std::pair<int64_t, int64_t>{3, 10}, {1, 2}, {5, 100}}) {
      SCOPED_TRACE(accrete::format("block {}, {} at the end, one each {}", block, at_end, every));
      FactPassOptions options;
      options.sites = {.block = block, .at_end = at_end, .every = every};
      FactPassOptions reference = options;
      reference.reference = true;
      options.rows = 40;  // several batches
      FactPasses packed(net(), examples, options, {}, "test"),
          readable(net(), examples, reference, {}, "test");
      EXPECT_NEAR(packed.scale(), readable.scale(), 1e-5 * readable.scale());
      const auto first = first_rows(examples, options.sites);
      Rng rng(9);
      const auto vectors = at::empty({first.back(), net().config().width}, at::kFloat);
      for (int64_t i = 0; i < vectors.numel(); ++i)
        vectors.data_ptr<float>()[i] = static_cast<float>(rng.normal());
      const std::vector<int64_t> which = {9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0};  // any order, one twice
      auto g = at::zeros_like(vectors), h = at::zeros_like(vectors);
      const auto a = packed.run(which, vectors, first, &g),
                 b = readable.run(which, vectors, first, &h);
      for (size_t i = 0; i < which.size(); ++i) {
        EXPECT_NEAR(a[i].nll, b[i].nll, 1e-4 * std::max(1.0, b[i].nll)) << i;
        EXPECT_EQ(a[i].exact, b[i].exact) << i;
      }
      EXPECT_LT((g - h).norm().item<double>(), 1e-4 * h.norm().item<double>());
      EXPECT_GT(h.norm().item<double>(), 0);
      const auto forward = packed.run(which, vectors, first, nullptr);
      for (size_t i = 0; i < which.size(); ++i)
        EXPECT_NEAR(forward[i].nll, a[i].nll, 1e-5 * std::max(1.0, a[i].nll));
      // What is settled has no gradient.
      auto none = at::zeros_like(vectors);
      packed.run(which, vectors, first, &none, 1e9);
      EXPECT_EQ(none.abs().max().item<float>(), 0);
      auto some = at::zeros_like(vectors), rest = at::zeros_like(vectors);
      const double limit = a[5].nll - 1e-3;
      packed.run(which, vectors, first, &some, limit);
      std::vector<int64_t> open;
      for (size_t i = 0; i < which.size(); ++i)
        if (a[i].nll > limit) open.push_back(which[i]);
      ASSERT_LT(open.size(), which.size());
      packed.run(open, vectors, first, &rest);
      EXPECT_LT((some - rest).norm().item<double>(), 1e-4 * rest.norm().item<double>());
    }
}

// The same of a model whose queries and keys have norms of their own.
TEST(FactPassesOfQwen3, PackedPassesAreTheReadableOnes) {
  const TemporaryFolder folder;
  testing::write_tiny_model(folder / "model", "qwen3");
  const auto model = LanguageModel::open(folder / "model", {.threads = 1});
  ASSERT_TRUE(model.net().config().head_norms);
  std::vector<FactExample> examples;
  for (const char* text :
       {"How much does it weigh? 21 kg", "Its weight is 21 kg", "Who? Ada Lunt"}) {
    FactExample e;
    e.fact = static_cast<int64_t>(examples.size());
    e.tokens = model.tokenizer().encode_text(text);
    e.prompt = static_cast<int64_t>(e.tokens.size()) - 5;
    examples.push_back(e);
  }
  FactPassOptions options;
  options.sites = {.block = 1, .at_end = 3, .every = 10};
  FactPassOptions reference = options;
  reference.reference = true;
  FactPasses packed(model.net(), examples, options, {}, "test"),
      readable(model.net(), examples, reference, {}, "test");
  at::manual_seed(4);
  const auto vectors = at::randn({9, model.net().config().width});
  const std::vector<int64_t> which = {0, 1, 2}, first = {0, 3, 6, 9};
  auto g = at::zeros_like(vectors), h = at::zeros_like(vectors);
  const auto a = packed.run(which, vectors, first, &g), b = readable.run(which, vectors, first, &h);
  for (size_t i = 0; i < which.size(); ++i)
    EXPECT_NEAR(a[i].nll, b[i].nll, 1e-4 * std::max(1.0, b[i].nll)) << i;
  EXPECT_GT(h.norm().item<double>(), 0);
  EXPECT_LT((g - h).norm().item<double>(), 1e-4 * h.norm().item<double>());
}

TEST_F(FactPassesTest, ExactIsWhatGenerationSays) {
  // The first tokens that the model says with some vectors are the answer; then they are not.
  const auto sites = FactValues_::sites();
  std::vector<FactExample> examples;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<FactUse> uses;
  Rng rng(3);
  std::vector<int64_t> first = {0};
  std::vector<at::Tensor> all;
  for (const char* text : {"How much?", "What is the Zorb?", "a b c d e f g", "ab", "a"}) {
    AskRequest request;
    request.raw = std::string(text).size() < 3;
    request.text = text;
    request.messages = {{"user", text}};
    FactExample e;
    e.tokens = encode_request(*model_, request);
    e.prompt = static_cast<int64_t>(e.tokens.size());
    e.fact = static_cast<int64_t>(examples.size());
    auto v = at::empty({4, net().config().width}, at::kFloat);
    for (int64_t i = 0; i < v.numel(); ++i)
      v.data_ptr<float>()[i] = static_cast<float>(2 * rng.normal());
    prompts.push_back(e.tokens);
    uses.push_back({sites, v.narrow(0, 0, 3), {}});
    all.push_back(v);
    first.push_back(first.back() + 4);
    examples.push_back(e);
  }
  GenerateOptions how;
  how.max_tokens = 10;
  auto said = generate(*model_, prompts, how, nullptr, {}, uses);
  for (size_t i = 0; i < examples.size(); ++i) {
    ASSERT_EQ(said[i].tokens.size(), 10U);
    uses[i].vectors = all[i];
    uses[i].answer = said[i].tokens;
  }
  how.max_tokens = 15;  // with the fourth vector behind the tenth token
  said = generate(*model_, prompts, how, nullptr, {}, uses);
  for (size_t i = 0; i < examples.size(); ++i) {
    FactExample& e = examples[i];
    e.tokens.insert(e.tokens.end(), said[i].tokens.begin(), said[i].tokens.end());
  }
  FactPassOptions options;
  options.sites = sites;
  for (const bool reference : {false, true}) {
    options.reference = reference;
    FactPasses passes(net(), examples, options, {}, "test");
    const std::vector<int64_t> which = {0, 1, 2, 3, 4};
    for (const auto& o : passes.run(which, at::cat(all), first, nullptr)) EXPECT_TRUE(o.exact);
    auto wrong = examples;
    for (FactExample& e : wrong) e.tokens.back() = (e.tokens.back() + 1) % 256;
    FactPasses others(net(), wrong, options, {}, "test");
    for (const auto& o : others.run(which, at::cat(all), first, nullptr)) EXPECT_FALSE(o.exact);
  }
}

FactValueOptions quick() {
  FactValueOptions o;
  o.steps = 80;
  o.more_steps = 80;
  o.rate = 1;
  return o;
}

TEST_F(FactValuesTest, TheModelSaysWhatItWasTaught) {
  std::vector<FactExample> examples = {
      example("How much does the Zorb weigh?", "ab", 0),
      example("What is the weight of the Zorb?", "ab", 0), example("Who made the Zorb?", "cd.", 1),
      example("The Zorb is", "z", 2, false), example("abcd", "q", 3, false)};
  const FactValues values = solve_fact_values(net(), examples, 4, sites(), quick(), {});
  ASSERT_EQ(values.first, (std::vector<int64_t>{0, 3, 6, 9, 12}));
  ASSERT_EQ(values.vectors.size(), static_cast<size_t>(12 * net().config().width));
  EXPECT_EQ(values.exact, std::vector<uint8_t>(5, 1));
  EXPECT_EQ(values.before, std::vector<uint8_t>(5, 0));
  EXPECT_GT(values.steps, 0);
  EXPECT_GT(values.tokens, 0);
  const auto all = at::from_blob(const_cast<uint16_t*>(values.vectors.data()),
                                 {12, net().config().width}, at::kBFloat16)
                       .to(at::kFloat);
  for (const FactExample& e : examples) {
    const std::vector<std::vector<int32_t>> prompts = {
        {e.tokens.begin(), e.tokens.begin() + e.prompt}};
    const std::vector<int32_t> answer(e.tokens.begin() + e.prompt, e.tokens.end() - 1);
    const FactUse use{sites(), all.narrow(0, 3 * e.fact, 3), answer};
    const auto said = generate(*model_, prompts, {}, nullptr, {}, {&use, 1}).front();
    EXPECT_EQ(said.tokens, answer);
    EXPECT_EQ(said.finish_reason, "stop");
  }
  const auto said = [&](const FactValues& with) {
    return said_exactly(net(), examples, sites(), with, quick(), {});
  };
  EXPECT_EQ(said(values), values.exact);
  const auto facts = static_cast<int64_t>(values.first.size()) - 1;
  EXPECT_EQ(said(no_values(examples, facts, sites(), net().config().width)), values.before);
}

TEST_F(FactValuesTest, FactsAreSolvedEachForItself) {
  std::vector<FactExample> examples = {example("How much does the Zorb weigh?", "ab", 0),
                                       example("Who made the Zorb?", "cd.", 1),
                                       example("The Zorb is", "z", 2, false)};
  const FactValues together = solve_fact_values(net(), examples, 3, sites(), quick(), {});
  // The same seed, the same bytes; in one group or in three, too.
  const FactValues again = solve_fact_values(net(), examples, 3, sites(), quick(), {});
  EXPECT_EQ(together.vectors, again.vectors);
  FactValueOptions small = quick();
  small.cache_bytes = 1;
  const FactValues apart = solve_fact_values(net(), examples, 3, sites(), small, {});
  EXPECT_EQ(apart.exact, together.exact);
  EXPECT_EQ(apart.first, together.first);
  EXPECT_EQ(said_exactly(net(), examples, sites(), apart, small, {}), apart.exact);
}

TEST_F(FactValuesTest, TheReadablePathLearnsToo) {
  std::vector<FactExample> examples = {example("How much does the Zorb weigh?", "ab", 0)};
  FactValueOptions o = quick();
  o.reference = true;
  const FactValues values = solve_fact_values(net(), examples, 1, sites(), o, {});
  EXPECT_EQ(values.exact, std::vector<uint8_t>{1});
}

TEST_F(FactValuesTest, FactsWithoutExamplesHaveNoVectors) {
  std::vector<FactExample> examples = {example("How much does the Zorb weigh?", "ab", 1)};
  const FactValues values = solve_fact_values(net(), examples, 3, sites(), quick(), {});
  EXPECT_EQ(values.first, (std::vector<int64_t>{0, 0, 3, 3}));
  const FactValues none = solve_fact_values(net(), {}, 2, sites(), quick(), {});
  EXPECT_EQ(none.first, (std::vector<int64_t>{0, 0, 0}));
  EXPECT_TRUE(none.vectors.empty());
  EXPECT_TRUE(said_exactly(net(), {}, sites(), none, quick(), {}).empty());
}

TEST_F(FactValuesTest, ItCanBeInterrupted) {
  std::vector<FactExample> examples = {example("How much does the Zorb weigh?", "ab", 0)};
  Reporter reporter;
  reporter.cancelled = [] { return true; };
  testing::expect_error(ErrorCode::kInterrupted,
                        [&] { solve_fact_values(net(), examples, 1, sites(), quick(), reporter); });
}

}  // namespace
}  // namespace accrete
