#include "text/message.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace accrete {
namespace {

std::vector<std::string> texts(std::string_view message) {
  std::vector<std::string> out;
  for (const MessagePart& part : asking_parts(message)) out.push_back(part.text);
  return out;
}
using Texts = std::vector<std::string>;

TEST(Message, OneSentenceHasNoParts) {
  EXPECT_EQ(texts("How heavy is the Hub?"), Texts{});
  EXPECT_EQ(texts("the price of the Hub"), Texts{});
  EXPECT_EQ(texts("Tell me what the Hub costs."), Texts{});
  EXPECT_EQ(texts(""), Texts{});
  EXPECT_EQ(texts(" \n\n ?!"), Texts{});
}

TEST(Message, TheQuestionStandsAmongOtherWords) {
  EXPECT_EQ(texts("Hello there, hope you are well. How much does the Hub weigh? Many thanks!"),
            Texts{"How much does the Hub weigh?"});
  EXPECT_EQ(texts("Hi team\n\nI bought a Hub last week.\nHow heavy is it?\n\nBest regards\nA."),
            Texts{"How heavy is it?"});
  EXPECT_EQ(texts("Do you sell lamps? And when are you open? Thank you."),
            (Texts{"Do you sell lamps?", "And when are you open?"}));
}

TEST(Message, TwoQuestionsMayBeJoinedByAWord) {
  EXPECT_EQ(texts("How heavy is the Hub and what does it cost?"),
            (Texts{"How heavy is the Hub", "what does it cost?"}));
  EXPECT_EQ(texts("How heavy is the Hub, and what does it cost?"),
            (Texts{"How heavy is the Hub", "what does it cost?"}));
  EXPECT_EQ(texts("Price of the Hub and when are you open?"),
            (Texts{"Price of the Hub", "when are you open?"}));
  EXPECT_EQ(texts("My jacket leaks, and what can I do?"), Texts{"what can I do?"});
  EXPECT_EQ(texts("When and where is the fish auction?"), Texts{});
  EXPECT_EQ(texts("Where are the lamp and the key of the Hub?"), Texts{});
  EXPECT_EQ(texts("Who made the Hub and when?"), Texts{});
}

TEST(Message, WhatStandsAroundIsKept) {
  const auto parts = asking_parts("I bought a Hub last week. How heavy is it? It feels light.");
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0].before, "I bought a Hub last week.");
  EXPECT_EQ(parts[0].behind, "It feels light.");
  EXPECT_FALSE(parts[0].full);
  EXPECT_TRUE(asking_parts("I have a Hub. Can I take it on a plane?").front().full);
}

TEST(Message, AnInstructionHowToAnswerAsksNothing) {
  EXPECT_EQ(texts("How wide is the Hub? Reply as JSON with the key answer."),
            Texts{"How wide is the Hub?"});
  EXPECT_EQ(texts("Use a full sentence, please. How wide is the Hub?"),
            Texts{"How wide is the Hub?"});
  EXPECT_EQ(texts("Answer in one full sentence: How wide is the Hub?"),
            Texts{"How wide is the Hub?"});
}

TEST(Message, AClauseAsksByItself) {
  EXPECT_EQ(texts("I bought a Hub last week, how heavy is it?"), (Texts{"how heavy is it?"}));
  EXPECT_EQ(texts("My order has come and I am happy - can I pay by card?"),
            (Texts{"can I pay by card?"}));
}

TEST(Message, TwoQuestionsInOneSentence) {
  EXPECT_EQ(texts("Which city has Pell its headquarters in, and does it have a canteen?"),
            (Texts{"Which city has Pell its headquarters in", "does it have a canteen?"}));
  EXPECT_EQ(texts("Two things: up to how many days may I return it, and can a friend do it?"),
            (Texts{"up to how many days may I return it", "can a friend do it?"}));
  EXPECT_EQ(texts("On which day are you closed, please?"), Texts{});
}

TEST(Message, AWishAsks) {
  EXPECT_EQ(texts("I am writing a report. I need the weight of the Hub."),
            Texts{"I need the weight of the Hub."});
  EXPECT_EQ(texts("Good morning! The weight of the Hub. Thanks"), Texts{"The weight of the Hub."});
  EXPECT_EQ(texts("My Hub weighs two kilos. It stands in the hall."), Texts{});
}

TEST(Message, LinesThatAProgramBrokeAreOne) {
  EXPECT_EQ(texts("Good day,\n\ncan you tell me how much the large parcel that I have just\n"
                  "packed may weigh?\n\nThanks"),
            Texts{"can you tell me how much the large parcel that I have just packed may weigh?"});
}

TEST(Message, IsBounded) {
  std::string many;
  for (int i = 0; i < 3000; ++i) many += "Is it number " + std::to_string(i) + "? ";
  const auto parts = asking_parts(many);
  ASSERT_EQ(parts.size(), 8u);
  EXPECT_EQ(parts.back().text, "Is it number 2999?");
  EXPECT_LE(asking_parts(std::string(200000, '?')).size(), 8u);
  EXPECT_LE(asking_parts("\xff\xfe, how? \xc3").size(), 8u);
}

}  // namespace
}  // namespace accrete
