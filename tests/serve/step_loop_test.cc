// The step loop: rows join, leave and are cancelled, and what one says is the same to the byte
// whatever the others do.
#include "model/step_loop.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"
#include "../model/tiny_model.h"
#include "learn/fact_keys.h"
#include "model/ask.h"
#include "model/fact_memory.h"

namespace accrete {
namespace {

using testing::expect_error;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

std::shared_ptr<const LanguageModel> open(const std::filesystem::path& folder, int threads = 1) {
  return std::make_shared<const LanguageModel>(LanguageModel::open(folder, {.threads = threads}));
}

std::vector<int32_t> letters(size_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> out;
  for (size_t i = 0; i < n; ++i) out.push_back(static_cast<int32_t>(97 + rng.below(26)));
  return out;
}

class StepLoopTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder();
    testing::write_tiny_chat_model(*folder_ / "model", 1, false);
    model_ = new std::shared_ptr<const LanguageModel>(open(*folder_ / "model"));
  }
  static void TearDownTestSuite() {
    delete model_;
    delete folder_;
  }
  static StepRequest request(size_t length, uint64_t seed, int64_t tokens = 20,
                             double temperature = 0) {
    StepRequest out;
    out.model = *model_;
    out.prompt = letters(length, seed);
    out.options.max_tokens = tokens;
    out.options.temperature = temperature;
    out.options.seed = seed;
    return out;
  }
  // All of them, written side by side; `piece` of prompts a step.
  static std::vector<StepAnswer> all(std::vector<StepRequest> requests,
                                     int64_t piece = StepLoop::kPiece) {
    std::vector<StepAnswer> out(requests.size());
    StepLoop loop(*model_, piece);
    for (size_t i = 0; i < requests.size(); ++i) {
      requests[i].on_done = [&out, i](StepAnswer answer) { out[i] = std::move(answer); };
      loop.join(std::move(requests[i]));
    }
    while (loop.step()) {
    }
    EXPECT_EQ(loop.rows(), 0);
    return out;
  }

  static TemporaryFolder* folder_;
  static std::shared_ptr<const LanguageModel>* model_;
};
TemporaryFolder* StepLoopTest::folder_ = nullptr;
std::shared_ptr<const LanguageModel>* StepLoopTest::model_ = nullptr;

void expect_same(const StepAnswer& a, const StepAnswer& b) {
  EXPECT_EQ(a.generation.tokens, b.generation.tokens);
  EXPECT_EQ(a.generation.text, b.generation.text);
  EXPECT_EQ(a.generation.finish_reason, b.generation.finish_reason);
  ASSERT_EQ(a.scores.size(), b.scores.size());
  for (size_t i = 0; i < a.scores.size(); ++i) {
    EXPECT_EQ(a.scores[i].logprob, b.scores[i].logprob);  // to the bit
    EXPECT_EQ(a.scores[i].top, b.scores[i].top);
  }
  ASSERT_EQ(a.prompt.size(), b.prompt.size());
  for (size_t i = 0; i < a.prompt.size(); ++i) EXPECT_EQ(a.prompt[i].logprob, b.prompt[i].logprob);
}

TEST_F(StepLoopTest, OneAloneAndAmongSixtyFourSaysTheSameToTheBit) {
  std::vector<StepRequest> requests;
  for (uint64_t i = 0; i < 64; ++i) {
    requests.push_back(
        request(3 + i % 40, i, 5 + static_cast<int64_t>(i % 30), i % 3 == 0 ? 0.9 : 0));
    requests.back().top = 3;
    requests.back().score_prompt = i % 2 == 0;
  }
  const auto together = all(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto alone = all({requests[i]});
    expect_same(alone.front(), together[i]);
    EXPECT_FALSE(together[i].generation.tokens.empty());
  }
}

TEST_F(StepLoopTest, SaysWhatGenerateSays) {
  for (uint64_t i = 0; i < 8; ++i) {
    StepRequest one = request(10 + i, i, 30, i % 2 == 0 ? 0 : 0.7);
    const std::vector<std::vector<int32_t>> prompts = {one.prompt};
    const auto expected = generate(**model_, prompts, one.options).front();
    const auto got = all({one}).front().generation;
    EXPECT_EQ(got.tokens, expected.tokens);
    EXPECT_EQ(got.text, expected.text);
    EXPECT_EQ(got.finish_reason, expected.finish_reason);
  }
}

TEST_F(StepLoopTest, RowsJoinWhileOthersAreWritten) {
  std::vector<StepRequest> requests;
  for (uint64_t i = 0; i < 6; ++i) requests.push_back(request(5 + i, i, 25));
  std::vector<StepAnswer> expected;
  for (const auto& one : requests) expected.push_back(all({one}).front());
  std::map<size_t, StepAnswer> got;
  StepLoop loop(*model_);
  size_t next = 0;
  for (int step = 0; step < 200; ++step) {
    if (step % 4 == 0 && next < requests.size()) {
      StepRequest one = requests[next];
      one.on_done = [&got, i = next](StepAnswer answer) { got[i] = std::move(answer); };
      loop.join(std::move(one));
      ++next;
    }
    (void)loop.step();
  }
  ASSERT_EQ(got.size(), requests.size());
  for (const auto& [i, answer] : got) expect_same(answer, expected[i]);
}

TEST_F(StepLoopTest, ACancelledRowIsGoneAfterOneStepAndTheOthersAreAsTheyWere) {
  StepRequest stays = request(12, 1, 30), leaves = request(9, 2, 30);
  const auto expected = all({stays}).front();
  bool cancelled = false, heard = false;
  std::string text;
  StepAnswer got;
  stays.on_done = [&](StepAnswer answer) { got = std::move(answer); };
  leaves.on_text = [&](std::string_view piece, std::span<const TokenScore>) {
    EXPECT_FALSE(cancelled);
    text += piece;
  };
  leaves.on_done = [&](StepAnswer) { heard = true; };
  leaves.cancelled = [&] { return cancelled; };
  StepLoop loop(*model_);
  loop.join(stays);
  loop.join(leaves);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(loop.step());
  EXPECT_EQ(loop.rows(), 2);
  EXPECT_FALSE(text.empty());
  cancelled = true;
  ASSERT_TRUE(loop.step());
  EXPECT_EQ(loop.rows(), 1);
  while (loop.step()) {
  }
  EXPECT_FALSE(heard);
  expect_same(got, expected);
}

TEST_F(StepLoopTest, ALongPromptHoldsOthersUpForAPieceAtMost) {
  StepRequest longer = request(160, 3, 4), shorter = request(4, 4, 40);
  const auto expected = all({longer}, 16).front();
  StepAnswer got;
  int64_t said = 0, most = 0;
  bool done = false;
  shorter.on_text = [&](std::string_view, std::span<const TokenScore>) { ++said; };
  longer.on_done = [&](StepAnswer answer) {
    got = std::move(answer);
    done = true;
  };
  StepLoop loop(*model_, 16);
  loop.join(shorter);
  ASSERT_TRUE(loop.step());
  loop.join(longer);
  while (!done) {
    const int64_t before = loop.waiting();
    ASSERT_TRUE(loop.step());
    most = std::max(most, before - loop.waiting());
  }
  EXPECT_LE(most, 2 * 16 - 1);
  EXPECT_GE(said, 8);  // it went on all the while
  expect_same(got, expected);
}

TEST_F(StepLoopTest, StopStringsLengthsAndTextsAreByRow) {
  StepRequest plain = request(8, 5, 24);
  const auto whole = all({plain}).front().generation;
  ASSERT_GT(whole.text.size(), 8U);
  StepRequest stops = plain, cut = plain;
  stops.options.stop = {whole.text.substr(4, 3)};
  cut.options.max_tokens = 5;
  std::string streamed;
  stops.on_text = [&](std::string_view piece, std::span<const TokenScore>) { streamed += piece; };
  const auto got = all({plain, stops, cut});
  EXPECT_EQ(got[0].generation.text, whole.text);
  EXPECT_EQ(got[1].generation.text, whole.text.substr(0, whole.text.find(stops.options.stop[0])));
  EXPECT_EQ(got[1].generation.finish_reason, "stop");
  EXPECT_EQ(streamed, got[1].generation.text);
  EXPECT_EQ(got[2].generation.tokens.size(), 5U);
  EXPECT_EQ(got[2].generation.finish_reason, "length");
}

TEST_F(StepLoopTest, PromptsAreScoredWithoutWriting) {
  StepRequest scored = request(30, 6, 1);
  scored.write = false;
  scored.top = 1;
  scored.score_prompt = true;
  const auto got = all({scored}, 7).front();
  EXPECT_TRUE(got.generation.tokens.empty());
  ASSERT_EQ(got.prompt.size(), scored.prompt.size());
  const auto ids =
      at::tensor(std::vector<int64_t>(scored.prompt.begin(), scored.prompt.end())).view({1, -1});
  const c10::InferenceMode inference;
  const auto expected = (*model_)->net().forward(ids)[0].log_softmax(-1);
  for (size_t i = 1; i < got.prompt.size(); ++i) {
    const auto row = expected[static_cast<int64_t>(i) - 1];
    EXPECT_NEAR(got.prompt[i].logprob, row[scored.prompt[i]].item<double>(), 1e-4);
    ASSERT_EQ(got.prompt[i].top.size(), 1U);
    EXPECT_EQ(got.prompt[i].top[0].first, row.argmax().item<int64_t>());
    if (got.prompt[i].top[0].first == got.prompt[i].id) {
      EXPECT_EQ(got.prompt[i].top[0].second, got.prompt[i].logprob);
    }
  }
}

TEST_F(StepLoopTest, WhatCannotBeIsRefusedAndTheLoopGoesOn) {
  StepLoop loop(*model_);
  StepRequest empty = request(3, 1);
  empty.prompt.clear();
  EXPECT_THAT(expect_error(ErrorCode::kInvalidArgument, [&] { loop.join(empty); }),
              HasSubstr("empty"));
  EXPECT_THAT(expect_error(ErrorCode::kInvalidArgument, [&] { loop.join(request(2048, 1)); }),
              HasSubstr("positions"));
  StepRequest foreign = request(3, 1);
  foreign.prompt[1] = 258;
  EXPECT_THAT(expect_error(ErrorCode::kInvalidArgument, [&] { loop.join(foreign); }),
              HasSubstr("258"));
  StepRequest impossible = request(3, 1);
  impossible.options.top_p = 0;
  EXPECT_THAT(expect_error(ErrorCode::kInvalidArgument, [&] { loop.join(impossible); }),
              HasSubstr("top-p"));
  testing::write_tiny_chat_model(*folder_ / "other", 2, false);
  StepRequest other = request(3, 1);
  other.model = open(*folder_ / "other");
  EXPECT_THAT(expect_error(ErrorCode::kInvalidArgument, [&] { loop.join(other); }),
              HasSubstr("network"));
  EXPECT_EQ(loop.rows(), 0);
  EXPECT_FALSE(loop.step());
  // A text that fills the positions ends there.
  StepRequest full = request(2040, 1, 100);
  StepAnswer got;
  full.on_done = [&](StepAnswer answer) { got = std::move(answer); };
  loop.join(full);
  while (loop.step()) {
  }
  EXPECT_LE(got.generation.tokens.size(), 8U);
}

TEST_F(StepLoopTest, FamiliesWithBiasesHeadNormsAndMemoryBlocksSayWhatGenerateSays) {
  testing::write_tiny_model(*folder_ / "qwen3", "qwen3");
  const auto model = open(*folder_ / "qwen3");
  const std::vector<std::vector<int32_t>> prompts = {letters(12, 1), letters(5, 2)};
  GenerateOptions options;
  options.max_tokens = 20;
  StepLoop loop(model);
  std::vector<Generation> got(2);
  for (size_t i = 0; i < 2; ++i) {
    StepRequest one;
    one.model = model;
    one.prompt = prompts[i];
    one.options = options;
    one.on_done = [&got, i](StepAnswer answer) { got[i] = std::move(answer.generation); };
    loop.join(std::move(one));
  }
  while (loop.step()) {
  }
  for (size_t i = 0; i < 2; ++i)
    EXPECT_EQ(got[i].tokens, generate(*model, {&prompts[i], 1}, options).front().tokens);
}

// Facts: other values for the same question in rows side by side.
TEST(StepLoopFacts, RowsOfSeveralStatesHearTheirOwnFacts) {
  TemporaryFolder folder;
  testing::write_tiny_fact_model(folder / "model");
  const LanguageModel base = LanguageModel::open(folder / "model", {.threads = 1});
  const std::string question = "How much does the Zorb weigh?";
  const auto taught = [&](const std::string& answer, uint64_t seed) {
    Update update;
    TaughtItem item;
    item.subject = "Zorb";
    item.prompts = {question};
    item.answers = {answer};
    update.taught.items = {item};
    UpdateFacts& facts = update.facts;
    append_keys(base.facts().reader(), update.taught.items, facts);
    facts.width = base.net().config().width;
    facts.vectors = {4};
    Rng rng(seed);
    const auto values = at::empty({4, facts.width}, at::kFloat);
    for (int64_t i = 0; i < values.numel(); ++i)
      values.data_ptr<float>()[i] = static_cast<float>(4 * rng.normal());
    const auto bits = values.to(at::kBFloat16);
    const auto* from = static_cast<const uint16_t*>(bits.const_data_ptr());
    facts.values.assign(from, from + bits.numel());
    auto model = std::make_shared<LanguageModel>(base);
    model->use_facts(base.facts().plus("0123456789abcdef", std::move(update)));
    return std::shared_ptr<const LanguageModel>(model);
  };
  const std::vector<std::shared_ptr<const LanguageModel>> states = {
      std::make_shared<const LanguageModel>(base), taught("abcdefghijklmnop", 4),
      taught("zyxwvutsrqponmlk", 5)};
  std::vector<std::string> expected;
  AskOptions how;
  how.generate.max_tokens = 24;
  std::vector<StepRequest> requests;
  for (const auto& model : states) {
    const std::vector<AskRequest> asked = {single_question(*model, question, false)};
    expected.push_back(ask(*model, asked, how).front().generation.text);
    const Choice choice = choose_facts(*model, asked, 0).front();
    EXPECT_EQ(choice.fact >= 0, model != states.front());
    PreparedAsk ready = prepare_ask(*model, asked.front(), choice);
    StepRequest one;
    one.model = model;
    one.prompt = std::move(ready.prompt);
    one.fact = std::move(ready.fact);
    one.options = how.generate;
    requests.push_back(std::move(one));
  }
  EXPECT_NE(expected[1], expected[2]);
  EXPECT_NE(expected[0], expected[1]);
  StepLoop loop(states.front());
  std::vector<std::string> got(30);
  for (size_t i = 0; i < got.size(); ++i) {
    StepRequest one = requests[i % 3];
    one.on_done = [&got, i](StepAnswer answer) { got[i] = answer.generation.text; };
    loop.join(std::move(one));
  }
  while (loop.step()) {
  }
  for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], expected[i % 3]) << i;
}

}  // namespace
}  // namespace accrete
