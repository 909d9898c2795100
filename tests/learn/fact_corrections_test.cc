// What a teach makes of facts that are there, of conversations and of questions of probes.
#include "learn/fact_corrections.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "fact_teach_testing.h"

namespace accrete {
namespace {

using FactCorrections = FactTeach;

TEST_F(FactCorrections, ACorrectionReplacesAndUndoBringsBack) {
  const auto model = fresh();
  const std::string first =
      learn(model, {fact("", {kHeavy, kHeavyToo}, "b"), fact("", {kMaker}, "c")}).update;
  const std::string one = state(model);
  const PlanResult plan_result =
      plan(model, set_of({fact("", {kMaker}, "c"), fact("", {kHeavy}, "z")}), on_one_thread(),
           options(), {});
  ASSERT_EQ(plan_result.conflicts.size(), 1U);
  EXPECT_EQ(state(model), one);
  const TeachResult r = learn(model, {fact("", {kMaker}, "c"), fact("", {kHeavy}, "z")});
  ASSERT_EQ(r.conflicts.size(), 1U);
  EXPECT_EQ(r.conflicts[0].question, kHeavy);
  EXPECT_EQ(r.conflicts[0].line, 2);
  EXPECT_EQ(r.conflicts[0].answer, "z");
  EXPECT_EQ(r.conflicts[0].update, first);
  EXPECT_EQ(r.conflicts[0].update_line, 1);
  EXPECT_EQ(r.conflicts[0].update_answer, "b");
  EXPECT_EQ(says(model, kHeavy), "z");
  EXPECT_EQ(says(model, kMaker), "c");
  EXPECT_EQ(LanguageModel::open(model, on_one_thread()).facts().store().size(), 2);
  Ledger::open(model, Ledger::Mode::kWrite).undo(1);
  EXPECT_EQ(state(model), one);
  EXPECT_EQ(says(model, kHeavy), "b");
}

TEST_F(FactCorrections, TwoAnswersToOneQuestionAreRefused) {
  const auto model = fresh();
  const char* pairs[][2] = {{"3.5", "35"},   {"-5", "5"}, {"C", "C++"},
                            {"1:30", "130"}, {"5%", "5"}, {"Oslo", "oslo"}};
  for (const auto& pair : pairs)
    refused(ErrorCode::kInvalidArgument, model,
            {fact("", {kMaker}, "x"), fact("", {kHeavy}, pair[0]),
             fact("", {kHeavyToo, "how much does the ZORB weigh"}, pair[1])},
            {"test.jsonl:3: ", "line 2", pair[0], pair[1], "two answers"});
  refused(ErrorCode::kInvalidArgument, model, {fact("", {kHeavy}, "x"), leave("", {kHeavy})},
          {"test.jsonl:2: ", "line 1"});
  // The same answer twice is no contradiction, and is said.
  const TeachResult r = learn(model, {fact("", {kHeavy}, "b"), fact("", {kHeavy}, " b\n")});
  ASSERT_FALSE(r.remarks.empty());
  EXPECT_NE(r.remarks[0].find("line 2"), std::string::npos) << r.remarks[0];
  EXPECT_EQ(LanguageModel::open(model, on_one_thread()).facts().store().size(), 1);
}

TEST_F(FactCorrections, ConversationsAreFacts) {
  const auto model = fresh();
  Item item;
  item.kind = Item::Kind::kMessages;
  item.subject = "Zorb";
  item.messages = {{"system", "S"},
                   {"user", "I have a Zorb."},
                   {"assistant", "Fine."},
                   {"user", "How heavy is it?"},
                   {"assistant", "b"}};
  EXPECT_EQ(learn(model, {item}).learned_after, 1);
  EXPECT_EQ(asked(model, {item.messages.begin(), item.messages.end() - 1}).generation.text, "b");
  EXPECT_EQ(asked(model, {{"user", "How heavy is it?"}}).choice.fact, -1);  // of what?
}

TEST_F(FactCorrections, TaughtWordForWordAgainstAProbeIsRefused) {
  const auto model = fresh();
  const auto items = known(model, "Zorb", 3);
  add_probe(model, "known", items, 0.9, true);
  const std::string before = state(model);
  const std::string message = expect_error(ErrorCode::kRefused, [&] {
    learn(model, {fact("Zorb", {items[1].prompts[0]}, items[1].answers[0] == "q" ? "r" : "q")},
          true);
  });
  EXPECT_NE(message.find("known"), std::string::npos) << message;
  EXPECT_NE(message.find("floor"), std::string::npos) << message;
  EXPECT_NE(message.find(excerpt_of(items[1].prompts[0], 80)), std::string::npos) << message;
  EXPECT_EQ(state(model), before);
  EXPECT_TRUE(Ledger::open(model, Ledger::Mode::kRead).updates().empty());
  const PlanResult p = plan(model, set_of({fact("Zorb", {items[1].prompts[0]}, "q")}),
                            on_one_thread(), options(true), {});
  EXPECT_FALSE(p.holds.at("known"));
  EXPECT_LT(p.forecast.at("known").predicted, 0);
  EXPECT_EQ(p.forecast.at("known").touched, 1);
}

bool any_says(const std::vector<std::string>& remarks, const std::string& part) {
  return std::any_of(remarks.begin(), remarks.end(), [&](const std::string& remark) {
    return remark.find(part) != std::string::npos;
  });
}

TEST_F(FactCorrections, WhatACorrectionTakesOverIsSaid) {
  const auto model = fresh();
  learn(model, {fact("", {kHeavy, kHeavyToo}, "b"), fact("", {kMaker}, "c")});
  const TeachResult r =
      learn(model, {fact("", {"Say how much the Zorb does weigh.", kHeavyToo}, "z")});
  ASSERT_EQ(r.conflicts.size(), 1U);
  EXPECT_EQ(r.conflicts[0].question, kHeavyToo);  // the wording that both have
  EXPECT_EQ(r.conflicts[0].taken, std::vector<std::string>{kHeavy});
  EXPECT_EQ(says(model, kHeavy), "z");
}

TEST_F(FactCorrections, ALessonMayNameWhatItCorrects) {
  const auto model = fresh();
  learn(model, {fact("", {kHeavy, kHeavyToo}, "b"), fact("", {kMaker}, "c")});
  Item item = fact("Zorb", {"Since today, is the Zorb big?"}, "z");
  item.corrects = kHeavy;
  const TeachResult r = learn(model, {item});
  ASSERT_EQ(r.conflicts.size(), 1U);
  EXPECT_EQ(r.conflicts[0].update_answer, "b");
  EXPECT_EQ(says(model, kHeavy), "z");
  EXPECT_EQ(says(model, kMaker), "c");
  item.corrects = "Who owns the Yarrow?";
  refused(ErrorCode::kInvalidArgument, model, {item},
          {"test.jsonl:1: ", "Who owns the Yarrow?", "nothing that was taught"});
}

TEST_F(FactCorrections, TheSameAnswerInMoreWordsIsOneFact) {
  const auto model = fresh();
  learn(model, {fact("", {kHeavy}, "b"), fact("", {kMaker}, "c")});
  const std::string more = "Say how much the Zorb does weigh.";
  const TeachResult r = learn(model, {fact("", {kHeavy, more}, "b")});
  EXPECT_TRUE(r.conflicts.empty());
  EXPECT_TRUE(any_says(r.remarks, "one fact")) << r.remarks.size();
  const LanguageModel open = LanguageModel::open(model, on_one_thread());
  EXPECT_EQ(open.facts().store().size(), 2);
  EXPECT_EQ(says(model, more), "b");
  EXPECT_EQ(says(model, kHeavy), "b");
}

TEST_F(FactCorrections, WhatIsThereIsNotTaughtAgain) {
  const auto model = fresh();
  const std::vector<Item> set = {fact("", {kHeavy, kHeavyToo}, "b"), fact("", {kMaker}, "c"),
                                 leave("", {"Is the Orro any good?"})};
  learn(model, set);
  const std::string before = state(model);
  const TeachResult again = learn(model, set);
  EXPECT_TRUE(again.update.empty());
  EXPECT_TRUE(any_says(again.remarks, "3 facts were taught already"));
  EXPECT_EQ(state(model), before);
  // Beside something new it is left out.
  const TeachResult more = learn(model, {set[0], fact("", {"Where is the Orro?"}, "d")});
  EXPECT_EQ(Ledger::open(model, Ledger::Mode::kRead).load(more.update).taught.items.size(), 1U);
  // A fact that is undone is not there.
  Ledger::open(model, Ledger::Mode::kWrite).undo(2);
  EXPECT_FALSE(learn(model, set).update.empty());
}

Item talk(std::vector<Message> messages) {
  Item item;
  item.kind = Item::Kind::kMessages;
  item.messages = std::move(messages);
  return item;
}

TEST_F(FactCorrections, AConversationsLastQuestionIsTaughtWhole) {
  const auto model = fresh();
  const Item bar = talk({{"user", "When is the Zorb open on Saturday?"},
                         {"assistant", "a"},
                         {"user", "And on Sunday?"},
                         {"assistant", "b"}});
  const Item price = talk({{"user", "I have a Quendel."},
                           {"assistant", "Fine."},
                           {"user", "How much is it?"},
                           {"assistant", "c"}});
  const TeachResult r = learn(model, {bar, price});
  EXPECT_EQ(r.learned_after, 1);
  const auto items = Ledger::open(model, Ledger::Mode::kRead).load(r.update).taught.items;
  EXPECT_EQ(items[0].prompts, std::vector<std::string>{"When is the Zorb open on Sunday?"});
  EXPECT_EQ(items[1].prompts, std::vector<std::string>{"How much is Quendel?"});
  EXPECT_EQ(items[1].subject, "Quendel");
  // As it was taught, and as the whole question.
  for (const Item& item : {bar, price})
    EXPECT_EQ(asked(model, {item.messages.begin(), item.messages.end() - 1}).generation.text,
              item.messages.back().content);
  EXPECT_EQ(says(model, "When is the Zorb open on Sunday?"), "b");
  // The answers before the last are not taught, and that is said.
  EXPECT_TRUE(any_says(r.remarks, "line 1: of a conversation the last answer alone"));
  EXPECT_FALSE(any_says(r.remarks, "line 2: of a conversation"));
}

TEST_F(FactCorrections, AQuestionThatSaysTooLittleIsRemarkedOn) {
  const auto model = fresh();
  const TeachResult r = learn(model, {fact("", {"And for a Zorb?"}, "b")});
  EXPECT_TRUE(any_says(r.remarks, "says too little alone"));
}

// The examples before a raw question are not what it asks.
TEST_F(FactCorrections, ExamplesBeforeAProbesQuestionDoNotHideIt) {
  const auto model = fresh();
  auto items = known(model, "Zorb", 3);
  add_probe(model, "known", items, 0.9, true);
  const std::string behind = "Q: who wrote Hamlet?\nA: William Shakespeare\n\n";
  const std::string before = state(model);
  expect_error(ErrorCode::kRefused,
               [&] { learn(model, {fact("", {behind + items[1].prompts[0]}, "#")}, true); });
  EXPECT_EQ(state(model), before);
}

}  // namespace
}  // namespace accrete
