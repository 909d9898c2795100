#include "memory/readings.h"

#include <gtest/gtest.h>

namespace accrete {
namespace {

Choice choice(int64_t best, double probability, double needed) {
  Choice out;
  out.best.fact = best;
  out.best.probability = probability;
  out.needed = needed;
  if (probability >= needed) out.fact = best;
  return out;
}

// Of parts that are full sentences, or not.
Choice decided(const std::vector<Choice>& choices, bool full = true) {
  std::vector<Reading> readings(choices.size());
  for (size_t i = 1; i < readings.size(); ++i) readings[i].full = full;
  return decided_by(readings, choices);
}

TEST(Readings, TheWholeMessageComesFirst) {
  Question question;
  question.text = "I bought a Hub. How heavy is it? It feels light.";
  question.earlier = {"Hello."};
  const auto readings = readings_of(question);
  ASSERT_EQ(readings.size(), 2u);
  EXPECT_EQ(readings[0].question.text, question.text);
  EXPECT_EQ(readings[1].question.text, "How heavy is it?");
  EXPECT_EQ(readings[1].question.earlier,
            (std::vector<std::string>{"Hello.", "It feels light.", "I bought a Hub."}));
  question.raw = true;
  EXPECT_EQ(readings_of(question).size(), 1u);
}

TEST(Readings, APartIsAcceptedWhereTheWholeIsNot) {
  const std::vector<Choice> both = {choice(3, .4, .8), choice(3, .9, .8)};
  EXPECT_EQ(decided(both).fact, 3);
  const std::vector<Choice> none = {choice(3, .4, .8), choice(4, .7, .8)};
  EXPECT_EQ(decided(none).fact, -1);
  EXPECT_EQ(decided(none).best.fact, 4);  // the nearest, for explanations
}

TEST(Readings, TheSurerOneCounts) {
  const std::vector<Choice> part = {choice(3, .85, .8), choice(3, .7, .8), choice(4, .95, .8)};
  EXPECT_EQ(decided(part).fact, 4);
  const std::vector<Choice> whole = {choice(3, .99, .8), choice(3, .7, .8), choice(4, .95, .8)};
  EXPECT_EQ(decided(whole).fact, 3);
}

TEST(Readings, WhatWasOnlyToldIsNotAnswered) {
  const std::vector<Choice> told = {choice(3, .95, .8), choice(5, .1, .8)};
  EXPECT_EQ(decided(told).fact, -1);
  EXPECT_TRUE(decided(told).only_told);
  const std::vector<Choice> far = {choice(3, .7, .8), choice(5, .1, .8)};
  EXPECT_FALSE(decided(far).only_told);     // it lay too far anyway
  EXPECT_EQ(decided(told, false).fact, 3);  // "..., what now?" leans on what was told
}

TEST(Readings, TheVeryWordsAndWhatIsLeftCountAsAWhole) {
  std::vector<Choice> said = {choice(3, .9999, .8), choice(5, .99, .8)};
  said[0].best.same = true;
  EXPECT_EQ(decided(said).fact, 3);
  said[0] = choice(3, .1, .8);
  said[0].left = true;
  EXPECT_EQ(decided(said).fact, -1);
  EXPECT_TRUE(decided(said).left);
}

TEST(Readings, PassagesAreToldOfTheReadingThatTheyAnswerBest) {
  std::vector<Choice> two = {choice(3, .1, .8), choice(5, .2, .8)};
  PassageChoice weak, strong;
  weak.fact = 7, weak.probability = .6, strong.fact = 8, strong.probability = .9;
  two[0].passages = {weak}, two[1].passages = {strong};
  two[0].best_passage = weak, two[1].best_passage = strong;
  const Choice out = decided(two);
  ASSERT_EQ(out.passages.size(), 1u);
  EXPECT_EQ(out.passages[0].fact, 8);
  EXPECT_EQ(out.best_passage->fact, 8);
}

TEST(Readings, SeveralPartsMayAskForSeveralFacts) {
  Question question;
  question.text = "How heavy is the Hub? And what does it cost, and who made it?";
  const auto readings = readings_of(question);
  ASSERT_EQ(readings.size(), 5u);  // the whole, two sentences, and two clauses of the second
  const Choice none = choice(9, .1, .8), weight = choice(3, .9, .8), price = choice(4, .95, .8);
  const std::vector<Choice> both = {weight, weight, price, price, none};
  Choice out = decided_by(readings, both);
  EXPECT_EQ(out.fact, 3);  // in the message's order
  ASSERT_EQ(out.also.size(), 1u);
  EXPECT_EQ(out.also[0].fact, 4);
  // A sentence that is surer of itself than its clauses is one question.
  const Choice sure = choice(5, .99, .8);
  out = decided_by(readings, std::vector<Choice>{weight, weight, sure, price, none});
  ASSERT_EQ(out.also.size(), 1u);
  EXPECT_EQ(out.also[0].fact, 5);
  // The same fact twice is one.
  EXPECT_TRUE(
      decided_by(readings, std::vector<Choice>{weight, weight, none, weight, none}).also.empty());
  // What the message as a whole asks for, and no part does, stands alone.
  const std::vector<Choice> other = {choice(7, .99, .8), weight, none, price, choice(7, .2, .8)};
  out = decided_by(readings, other);
  EXPECT_EQ(out.fact, 7);
  EXPECT_TRUE(out.also.empty());
}

}  // namespace
}  // namespace accrete
