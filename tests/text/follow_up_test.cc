#include "text/follow_up.h"

#include <gtest/gtest.h>

namespace accrete {
namespace {

TEST(FollowUp, TakesThePlaceOfOneOfItsClass) {
  const char* bar = "When is the bar open on Saturday?";
  EXPECT_EQ(follow_up("And on Sunday?", bar, "", ""), "When is the bar open on Sunday?");
  EXPECT_EQ(follow_up("what about sunday", bar, "", ""), "When is the bar open on sunday?");
  EXPECT_EQ(follow_up("On Sundays?", bar, "", ""), "When is the bar open on Sundays?");
  EXPECT_EQ(follow_up("And a large one?", "How much is a small locker?", "", ""),
            "How much is a large locker?");
  EXPECT_EQ(follow_up("And a large locker?", "How much is a small locker?", "", ""),
            "How much is a large locker?");
  EXPECT_EQ(follow_up("And the large?", "How much is a small locker?", "", ""),
            "How much is a large locker?");
  EXPECT_EQ(follow_up("and for 3 people?", "Is there a room for 2 people?", "", ""),
            "Is there a room for 3 people?");
  EXPECT_EQ(follow_up("and check-out?", "What time is check-in?", "", ""),
            "What time is check-out?");
}

TEST(FollowUp, TakesThePlaceOfTheName) {
  EXPECT_EQ(follow_up("And the Kestrel Room?", "How big is the Otter Suite?", "Kestrel Room",
                      "Otter Suite"),
            "How big is the Kestrel Room?");
  EXPECT_EQ(follow_up("And the Kestrel Room on Sunday?",
                      "What does the Otter Suite cost on Monday?", "Kestrel Room", "Otter Suite"),
            "What does the Kestrel Room cost on Sunday?");
  EXPECT_EQ(follow_up("And the Kestrel Room?", "How big is it?", "Kestrel Room", ""), "");
}

TEST(FollowUp, PutsAPhraseInPlaceOrBehind) {
  EXPECT_EQ(follow_up("And for a week?", "What does parking cost for a day?", "", ""),
            "What does parking cost for a week?");
  EXPECT_EQ(follow_up("And for children?", "What does a ticket cost?", "", ""),
            "What does a ticket cost for children?");
  EXPECT_EQ(follow_up("And with a guide?", "What does a ticket cost?", "", ""),
            "What does a ticket cost with a guide?");
}

TEST(FollowUp, LeavesWhatAsksByItself) {
  const char* bar = "When is the bar open on Saturday?";
  for (const char* own : {"And how heavy is it?", "When is it open on Sunday?", "Where can I park?",
                          "Thanks!", "And you?", "And the pool?",
                          "Sunday was a lovely day and the sun shone on us all", "", "?", "and"})
    EXPECT_EQ(follow_up(own, bar, "", ""), "") << own;
  EXPECT_EQ(follow_up("And on Saturday?", bar, "", ""), "When is the bar open on Saturday?");
  EXPECT_EQ(follow_up("And on Sunday?", "", "", ""), "");
}

TEST(FollowUp, FragmentsAskNothingByThemselves) {
  for (const char* text : {"And on Sundays?", "and dvds", "What about children?", "or a large one"})
    EXPECT_TRUE(is_fragment(text)) << text;
  for (const char* text : {"On Sundays?", "And how much is it?", "When are you open?", "And?", ""})
    EXPECT_FALSE(is_fragment(text)) << text;
}

TEST(FollowUp, ThePronounTakesTheName) {
  EXPECT_EQ(with_name("And how heavy is it?", "the Hub"), "how heavy is the Hub?");
  EXPECT_EQ(with_name("what are its colours", "Hub"), "what are Hub's colours");
  EXPECT_EQ(with_name("and the price?", "Hub"), "the price of Hub?");
}

}  // namespace
}  // namespace accrete
