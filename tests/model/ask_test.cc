// Asking: what no fact answers is the base's to the bit, what one answers is silent afterwards.
#include "model/ask.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../base/testing.h"
#include "learn/fact_keys.h"
#include "model/chat_tokens.h"
#include "text/unicode.h"
#include "tiny_chat_model.h"

namespace accrete {
namespace {

using testing::TemporaryFolder;

constexpr const char* kHeavy = "How much does the Zorb weigh?";
constexpr const char* kColour = "Which colour has the Zorb?";
constexpr const char* kRule = "What does the rule of Orro say?";

AskRequest chat(std::vector<Message> messages) {
  AskRequest out;
  out.messages = std::move(messages);
  return out;
}
AskRequest chat(const std::string& question) {
  return chat({{"user", question}});
}
AskRequest raw(const std::string& text) {
  AskRequest out;
  out.text = text;
  out.raw = true;
  return out;
}

TaughtItem item(const std::string& subject, const std::string& wording, const std::string& answer) {
  TaughtItem out;
  out.subject = subject;
  out.prompts = {wording};
  out.answers = {answer};
  return out;
}

class Ask : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder();
    testing::write_tiny_fact_model(*folder_ / "model");
    base_ = new LanguageModel(LanguageModel::open(*folder_ / "model-base", {.threads = 1}));
    LanguageModel model = LanguageModel::open(*folder_ / "model", {.threads = 1});
    Update update;
    update.taught.items = {item("Zorb", kHeavy, "abc"),
                           item("Zorb", kColour, "a longer answer that has three vectors more"),
                           item("Orro", kRule, "As is. \u2603 <|im_end|> No."),
                           item("Zorb", "The Zorb is", "x")};
    update.taught.items[2].verbatim = true;
    update.taught.items[3].raw = true;
    UpdateFacts& facts = update.facts;
    append_keys(model.facts().reader(), update.taught.items, facts);
    facts.width = model.net().config().width;
    facts.vectors = {3, 6, 0, 3};
    Rng rng(4);
    // Loud enough to change what is said.
    const auto values = at::empty({12, facts.width}, at::kFloat);
    for (int64_t i = 0; i < values.numel(); ++i)
      values.data_ptr<float>()[i] = static_cast<float>(4 * rng.normal());
    const auto bits = values.to(at::kBFloat16);
    const auto* from = static_cast<const uint16_t*>(bits.const_data_ptr());
    facts.values.assign(from, from + bits.numel());
    ASSERT_EQ(fault(facts, update.taught.items), "");
    model.use_facts(model.facts().plus("0123456789abcdef", std::move(update)));
    model_ = new LanguageModel(std::move(model));
  }
  static void TearDownTestSuite() {
    delete model_;
    delete base_;
    delete folder_;
  }
  static AskOptions options(int64_t tokens = 30) {
    AskOptions out;
    out.generate.max_tokens = tokens;
    return out;
  }
  static std::vector<Asked> both(const LanguageModel& model, std::vector<AskRequest> requests,
                                 const AskOptions& how = options()) {
    return ask(model, requests, how);
  }
  static std::vector<int32_t> tokens(const LanguageModel& model, const AskRequest& request,
                                     const AskOptions& how = options()) {
    return ask(model, {&request, 1}, how).front().generation.tokens;
  }

  static TemporaryFolder* folder_;
  static LanguageModel *base_, *model_;
};
TemporaryFolder* Ask::folder_ = nullptr;
LanguageModel* Ask::base_ = nullptr;
LanguageModel* Ask::model_ = nullptr;

TEST_F(Ask, WithoutAFactItIsTheBaseToTheBit) {
  const std::vector<AskRequest> requests = {chat("How much does it weigh?"),
                                            chat("Which colour has the Zorban?"),
                                            chat("Hello"),
                                            chat(""),
                                            chat({{"system", "Zorb Zorb"}, {"user", "Who?"}}),
                                            raw("Once upon a time"),
                                            raw("a"),
                                            raw("The Zorb is\n\nsomething else"),
                                            chat("<|im_end|>")};
  for (double temperature : {0.0, 1.0}) {  // whoever samples depends on every bit of the logits
    AskOptions how = options();
    how.generate.temperature = temperature;
    how.generate.seed = 7;
    const auto asked = both(*model_, requests, how), by_base = both(*base_, requests, how);
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(asked[i].choice.fact, -1) << i;
      EXPECT_EQ(asked[i].generation.tokens, by_base[i].generation.tokens) << i;
      EXPECT_EQ(asked[i].generation.text, by_base[i].generation.text) << i;
      EXPECT_EQ(asked[i].generation.finish_reason, by_base[i].generation.finish_reason) << i;
      EXPECT_EQ(tokens(*model_, requests[i], how), tokens(*base_, requests[i], how)) << i;
    }
  }
}

TEST_F(Ask, AnAcceptedFactSpeaks) {
  for (const char* question : {kHeavy, kColour}) {
    const AskRequest request = chat(question);
    const auto asked = ask(*model_, {&request, 1}, options()).front();
    ASSERT_GE(asked.choice.fact, 0);
    EXPECT_EQ(model_->facts().store().fact(asked.choice.fact).text().prompts.front(), question);
    EXPECT_NE(asked.generation.tokens, tokens(*base_, request));
    // As if nothing had been taught; with more caution than the very words outweigh.
    AskOptions how = options();
    how.facts = false;
    EXPECT_EQ(tokens(*model_, request, how), tokens(*base_, request));
    how = options();
    how.caution = 1000;
    EXPECT_EQ(tokens(*model_, request, how), tokens(*base_, request));
  }
  EXPECT_NE(tokens(*model_, raw("The Zorb is")), tokens(*base_, raw("The Zorb is")));
  EXPECT_NE(tokens(*model_, raw("Once.\n\nThe Zorb is ")),
            tokens(*base_, raw("Once.\n\nThe Zorb is ")));
}

TEST_F(Ask, TheNextTurnIsComputedFromTheText) {
  const AskRequest first = chat(kHeavy);
  const auto said = ask(*model_, {&first, 1}, options()).front();
  ASSERT_GE(said.choice.fact, 0);
  const AskRequest second = chat(
      {{"user", kHeavy}, {"assistant", said.generation.text}, {"user", "Thanks. Who are you?"}});
  const auto asked = ask(*model_, {&second, 1}, options()).front();
  // The subject of the conversation is the Zorb: a nearest fact there may be, and what is said
  // depends on the text alone whether it is accepted or not.
  EXPECT_EQ(
      asked.generation.tokens,
      answer_with(*model_, {&second, 1}, std::vector<Choice>{asked.choice}, options().generate)
          .front()
          .tokens);
  AskOptions how = options();
  how.caution = 1000;
  EXPECT_EQ(tokens(*model_, second, how), tokens(*base_, second));
}

TEST_F(Ask, ABatchAnswersAsAlone) {
  const std::vector<AskRequest> requests = {
      chat("How much does it weigh?"),
      chat(kHeavy),
      chat(kRule),
      chat(kColour),
      raw("The Zorb is"),
      chat({{"system", "Be brief."}, {"user", "Hello."}, {"assistant", "Hi."}, {"user", kHeavy}}),
      raw("ab")};
  std::vector<std::string> streamed(requests.size());
  const auto together = ask(*model_, requests, options(),
                            [&](size_t i, std::string_view text) { streamed[i] += text; });
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto alone = ask(*model_, {&requests[i], 1}, options()).front();
    EXPECT_EQ(together[i].choice.fact, alone.choice.fact) << i;
    EXPECT_EQ(together[i].generation.tokens, alone.generation.tokens) << i;
    EXPECT_EQ(streamed[i], together[i].generation.text) << i;
  }
  EXPECT_GE(together[5].choice.fact, 0);
  EXPECT_EQ(together[5].choice.fact, together[1].choice.fact);
  // Prompts that begin alike are passed once as far as the values' places.
  const std::vector<AskRequest> twice = {chat(kHeavy), chat(kHeavy)};
  const auto same = ask(*model_, twice, options());
  EXPECT_EQ(same[0].generation.tokens, same[1].generation.tokens);
  EXPECT_EQ(same[0].generation.tokens, together[1].generation.tokens);
  EXPECT_TRUE(ask(*model_, {}, options()).empty());
}

TEST_F(Ask, VerbatimIsWrittenAsItIs) {
  std::string streamed;
  const AskRequest request = chat(kRule);
  const auto asked = ask(*model_, {&request, 1}, options(2), [&](size_t i, std::string_view text) {
                       EXPECT_EQ(i, 0U);
                       streamed += text;
                     }).front();
  EXPECT_EQ(asked.generation.text, "As is. \u2603 <|im_end|> No.");
  EXPECT_EQ(streamed, asked.generation.text);
  EXPECT_EQ(asked.generation.finish_reason, "stop");
  EXPECT_EQ(model_->tokenizer().decode(asked.generation.tokens), asked.generation.text);
}

TEST_F(Ask, WhatIsSaidOtherwise) {
  AskOptions how = options();
  const std::vector<AskRequest> requests = {chat("Hello"), chat(kHeavy), chat("Who are you?")};
  const auto plain = both(*model_, requests, how);
  how.otherwise = "Please call us. \u2603";
  std::vector<std::string> streamed(3);
  const auto asked =
      ask(*model_, requests, how, [&](size_t i, std::string_view text) { streamed[i] += text; });
  for (const size_t i : {0, 2}) {
    EXPECT_EQ(asked[i].generation.text, how.otherwise);
    EXPECT_EQ(asked[i].generation.finish_reason, "stop");
    EXPECT_EQ(asked[i].choice.fact, -1);
  }
  EXPECT_EQ(asked[1].generation.tokens, plain[1].generation.tokens);
  EXPECT_EQ(asked[1].choice.fact, plain[1].choice.fact);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(streamed[i], asked[i].generation.text);
}

TEST_F(Ask, WithinTheAnswerVectorsSpeakWhileItIsSaid) {
  // The same vectors with the answer that is said, and with one that is not.
  const AskRequest request = chat(kColour);
  const std::vector<std::vector<int32_t>> prompts = {encode_request(*model_, request)};
  const int64_t fact = choose_facts(*model_, {&request, 1}).front().fact;
  ASSERT_GE(fact, 0);
  FactUse use{model_->facts().info().sites, model_->facts().vectors(fact), {}};
  ASSERT_EQ(use.vectors.size(0), 6);
  GenerateOptions how;
  how.max_tokens = 30;
  const auto say = [&](const FactUse& with) {
    return generate(*model_, prompts, how, nullptr, {}, {&with, 1}).front().tokens;
  };
  FactUse short_use = use;
  short_use.vectors = use.vectors.narrow(0, 0, 3);
  const auto without = say(short_use);
  ASSERT_GE(without.size(), 12U);
  use.answer = std::vector<int32_t>(40, without[0] == 1 ? 2 : 1);
  EXPECT_EQ(say(use), without);
  use.answer = without;
  const auto with = say(use);
  EXPECT_TRUE(std::equal(with.begin(), with.begin() + 10, without.begin()));
  EXPECT_NE(with, without);
  use.answer = std::vector<int32_t>(without.begin(), without.begin() + 9);  // it has an end
  EXPECT_EQ(say(use), without);
}

TEST_F(Ask, AnAnswerThatGoesAstrayIsBroughtBack) {
  const std::vector<std::vector<int32_t>> prompts = {encode_request(*model_, chat(kColour))};
  FactUse use{model_->facts().info().sites, model_->facts().vectors(1).narrow(0, 0, 3), {}};
  GenerateOptions how;
  how.max_tokens = 30;
  const auto say = [&](Recital recital) {
    use.recital = recital;
    return generate(*model_, prompts, how, nullptr, {}, {&use, 1}).front();
  };
  const auto drawn = say(Recital::kFree).tokens;
  ASSERT_GE(drawn.size(), 12U);
  const auto letter = model_->tokenizer().encode_text("b").back();
  const auto space = model_->tokenizer().encode_text(" ").back();
  const int32_t end = end_token(*model_, /*chat=*/true);
  // It begins as the answer and goes astray: the rest is said, and then it ends.
  for (const int32_t other : {letter, space}) {
    use.answer = {drawn[0], drawn[1], other, letter, end};
    ASSERT_NE(drawn[2], other);
    const Generation kept = say(Recital::kWhole);
    EXPECT_EQ(kept.tokens, std::vector<int32_t>({drawn[0], drawn[1], other, letter}));
    EXPECT_EQ(kept.finish_reason, "stop");
    EXPECT_TRUE(kept.brought_back);
    EXPECT_EQ(say(Recital::kFree).tokens, drawn);
    EXPECT_FALSE(say(Recital::kFree).brought_back);
  }
  // Within a word alone: what was taught goes on with a letter.
  use.answer = {drawn[0], letter, letter, end};
  ASSERT_NE(drawn[1], letter);
  const Generation words = say(Recital::kWords);
  EXPECT_EQ(words.tokens[1], letter);
  EXPECT_TRUE(words.brought_back);
  // What does not begin as the answer is left alone, and so is what is all of it and more.
  use.answer = {drawn[0] == letter ? space : letter, letter, end};
  EXPECT_EQ(say(Recital::kWhole).tokens, drawn);
  use.answer.assign(drawn.begin(), drawn.begin() + 5);
  EXPECT_EQ(say(Recital::kWhole).tokens, drawn);
}

TEST_F(Ask, AStreamHasWholeCharactersWhereAStopIsWaitedFor) {
  const std::vector<std::vector<int32_t>> prompts = {encode_request(*model_, chat(kColour))};
  FactUse use{model_->facts().info().sites, model_->facts().vectors(1).narrow(0, 0, 3), {}};
  use.recital = Recital::kWhole;
  GenerateOptions how;
  how.max_tokens = 1;
  use.answer = generate(*model_, prompts, how, nullptr, {}, {&use, 1}).front().tokens;
  ASSERT_EQ(use.answer.size(), 1U);
  for (const int32_t id : encode_written(*model_, "\u2603\u2603x\u2603")) use.answer.push_back(id);
  use.answer.push_back(end_token(*model_, /*chat=*/true));
  how.max_tokens = 30;
  how.stop = {"zz q"};
  std::string streamed;
  const auto said = generate(*model_, prompts, how,
                             [&](size_t, std::string_view piece) {
                               EXPECT_EQ(unicode::valid_prefix(piece), piece.size());
                               streamed += piece;
                             },
                             {}, {&use, 1});
  EXPECT_EQ(streamed, said.front().text);
  EXPECT_NE(streamed.find("\u2603\u2603x\u2603"), std::string::npos);
}

TEST_F(Ask, ValuesHaveTheirPlacesWhereAWholePassHasThem) {
  // The first token, with the cache and padding, against one pass over the sequence.
  for (const AskRequest& request : {chat(kHeavy), raw("abcdef"), raw("abc"), raw("ab"), raw("a")}) {
    const auto ids = encode_request(*model_, request);
    FactUse use{model_->facts().info().sites, model_->facts().vectors(0), {1, 2, 3}};
    const auto n = static_cast<int64_t>(ids.size());
    const FfnSide side = [&](int64_t block, const at::Tensor& x) -> at::Tensor {
      if (block != use.sites.block) return {};
      auto out = at::zeros_like(x);
      for (int64_t j = 0; j < 3; ++j)
        if (use.sites.token(n, j) >= 1) out[0][use.sites.token(n, j)] += use.vectors[j];
      return out;
    };
    ForwardOptions forward;
    forward.side = &side;
    const std::vector<int64_t> input(ids.begin(), ids.end());
    const auto best = model_->net()
                          .forward(at::tensor(input, at::kLong).unsqueeze(0), forward)[0][-1]
                          .argmax()
                          .item<int64_t>();
    GenerateOptions how;
    how.max_tokens = 1;
    const std::vector<std::vector<int32_t>> prompts = {ids,
                                                       encode_request(*model_, chat("another"))};
    const FactUse uses[] = {use, {}};
    const auto said = generate(*model_, prompts, how, nullptr, {}, uses).front();
    if (said.tokens.empty())
      EXPECT_TRUE(best == 257) << best;  // it ended
    else
      EXPECT_EQ(said.tokens[0], best) << request.text;
  }
}

TEST_F(Ask, WhatChoosesAFact) {
  Question q =
      question_of(chat({{"system", "S"}, {"user", "one"}, {"assistant", "A"}, {"user", "two"}}));
  EXPECT_EQ(q.text, "two");
  EXPECT_EQ(q.earlier, std::vector<std::string>{"one"});
  EXPECT_FALSE(q.raw);
  EXPECT_EQ(question_of(raw("Question: a\nAnswer: b\n\nQuestion: c\nAnswer:")).text,
            "Question: c\nAnswer:");
  EXPECT_EQ(question_of(raw("one line ")).text, "one line ");
  EXPECT_EQ(question_of(raw("a\n\nb\n\n")).text, "b\n\n");
  EXPECT_EQ(question_of(raw("")).text, "");
  EXPECT_EQ(question_of(chat(std::vector<Message>{})).text, "");
  EXPECT_TRUE(question_of(raw("a")).raw);
}

TEST_F(Ask, ANoteStandsBeforeTheLastQuestion) {
  const TaughtItem fact = item("Zorb", kHeavy, "2 kg");
  EXPECT_EQ(note_of(Tell::kValue, fact), "");
  const std::string note = note_of(Tell::kNote, fact);
  EXPECT_NE(note.find("2 kg"), std::string::npos);
  EXPECT_EQ(note_of(Tell::kBoth, fact), note);
  TaughtItem as_text = fact;
  as_text.raw = true;
  EXPECT_EQ(note_of(Tell::kNote, as_text), "");
  const AskRequest request = chat({{"user", "one"}, {"assistant", "A"}, {"user", "two"}});
  const std::string text = model_->tokenizer().decode(encode_request(*model_, request, note));
  EXPECT_LT(text.find("one"), text.find(note));
  EXPECT_LT(text.find(note), text.find("two"));
  EXPECT_EQ(text.find(note), text.rfind(note));
}

TEST_F(Ask, AModelWithoutAMemoryIsAsked) {
  EXPECT_FALSE(base_->has_facts());
  const AskRequest request = chat(kHeavy);
  EXPECT_EQ(choose_facts(*base_, {&request, 1}).front().fact, -1);
  testing::expect_error(ErrorCode::kInvalidArgument, [&] { base_->facts(); });
  testing::expect_error(ErrorCode::kInvalidArgument, [&] { both(*model_, {raw("")}); });
}

}  // namespace
}  // namespace accrete
