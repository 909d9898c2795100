#include "learn/subjects.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace accrete {
namespace {

Item subject_fact(std::vector<std::string> prompts) {
  Item item;
  item.prompts = std::move(prompts);
  item.answers = {"x"};
  return item;
}

TEST(Subjects, AreWhatTheirPhrasingsShare) {
  std::vector<Item> items = {
      subject_fact(
          {"Where was Lennie Tristano born?", "What is the birthplace of Lennie Tristano?"}),
      subject_fact({"Where was Carl Flesch born?", "What is the birthplace of Carl Flesch?"}),
      subject_fact({"Where was Ada born?", "What is Ada's place of birth?"})};
  EXPECT_EQ(fill_subjects(items), 3);
  EXPECT_EQ(items[0].subject, "Lennie Tristano");
  EXPECT_EQ(items[1].subject, "Carl Flesch");
  EXPECT_EQ(items[2].subject, "Ada");
}

TEST(Subjects, GivenOnesStay) {
  std::vector<Item> items = {subject_fact({"Where was Ada Lovelace born?"})};
  items[0].subject = "Lovelace";
  fill_subjects(items);
  EXPECT_EQ(items[0].subject, "Lovelace");
}

TEST(Subjects, OfOnePhrasingAreItsName) {
  std::vector<Item> items = {subject_fact({"How long is the warranty of the Orbit X200?"})};
  fill_subjects(items);
  EXPECT_EQ(items[0].subject, "Orbit X200");
}

TEST(Subjects, AQuestionAndItsAnswerAsMessagesAreAFact) {
  Item item;
  item.kind = Item::Kind::kMessages;
  item.messages = {{"user", "Who leads Nordwind?"}, {"assistant", "Eva Holm."}};
  std::vector<Item> items = {item};
  EXPECT_EQ(fill_subjects(items), 1);
  EXPECT_EQ(items[0].kind, Item::Kind::kFact);
  EXPECT_EQ(items[0].answers.front(), "Eva Holm.");
}

TEST(Neighbours, KeepThePhrasingAndChangeTheSubject) {
  std::vector<Item> items = {subject_fact({"Where was Ada Lovelace born?"})};
  items[0].subject = "Ada Lovelace";
  const std::vector<std::string> names = {"Ada Lovelace", "Carl Flesch", "Oslo"};
  const auto prompts = make_neighbours(items, names, 8, Rng(3));
  ASSERT_EQ(prompts.size(), 8U);
  for (const auto& p : prompts) {
    EXPECT_THAT(p, ::testing::StartsWith("Where was "));
    EXPECT_THAT(p, ::testing::EndsWith(" born?"));
    EXPECT_THAT(p, ::testing::Not(::testing::HasSubstr("Ada Lovelace")));
  }
  EXPECT_EQ(prompts, make_neighbours(items, names, 8, Rng(3)));
}

}  // namespace
}  // namespace accrete
