#include "text/contrast.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace accrete {
namespace {

using Texts = std::vector<std::string>;

bool contrast(const std::string& question, const Texts& wordings) {
  TaughtContrasts taught;
  taught.add(wordings);
  const std::vector<bool> out = taught.with(question);
  EXPECT_EQ(out.size(), 1U);
  return out.front();
}

TEST(Contrast, OneMemberOfAClassIsNotAnother) {
  const Texts saturday = {"Are you open on Saturday?", "What are your hours on Saturdays?"};
  EXPECT_TRUE(contrast("When do you open on Sunday?", saturday));
  EXPECT_TRUE(contrast("and on mondays", saturday));
  EXPECT_FALSE(contrast("When do you open on Saturdays?", saturday));
  EXPECT_FALSE(contrast("open sat?", saturday));
  EXPECT_FALSE(contrast("When are you open?", saturday));
  EXPECT_FALSE(contrast("Are you open on Saturday and Sunday?", saturday));
  EXPECT_TRUE(contrast("What does the green light mean?", {"What does a red light mean?"}));
  EXPECT_TRUE(contrast("name of the cat?", {"What is our dog called?", "What's our dog's name?"}));
}

TEST(Contrast, AWordOfSeveralMembersIsNoneOfThemsContrast) {
  EXPECT_FALSE(contrast("Do you open on Saturday?", {"Are you there at weekends?"}));
  EXPECT_FALSE(contrast("Are you there at the weekend?", {"Do you open on Saturday?"}));
  EXPECT_TRUE(contrast("Do you open on Tuesday?", {"Are you there at weekends?"}));
  // Beside the name of one it says nothing.
  EXPECT_TRUE(
      contrast("When do Easter holidays begin?", {"When does the Christmas holiday begin?"}));
}

TEST(Contrast, WhatTheWordingsLeaveOpenContrastsWithNothing) {
  const Texts any = {"What will the weather be in Paris?", "Tell me London's weather."};
  EXPECT_FALSE(contrast("How is the weather in Rome today?", any));
  const Texts two = {"Can I pay by card?", "How can I pay?"};
  EXPECT_FALSE(contrast("Do you accept cash here?", two));
}

TEST(Contrast, NumbersContrastWhereTheyCountTheSame) {
  const Texts massage = {"What does the 30 minute massage cost?",
                         "Price of thirty minutes of massage?"};
  EXPECT_TRUE(contrast("How much is it for 60 minutes?", massage));
  EXPECT_TRUE(contrast("price 60min massage", massage));
  EXPECT_FALSE(contrast("price 30 min massage", massage));
  EXPECT_FALSE(contrast("What does the 30 minute massage cost for 2 people?", massage));
  EXPECT_FALSE(contrast("Is it heavier than 2 kg?", {"How heavy is it?"}));
  EXPECT_FALSE(contrast("I am 35, may I come?", {"May people under 40 come?"}));
  EXPECT_TRUE(contrast("How much for 3 nights?", {"How much for 2 nights?"}));
  EXPECT_FALSE(contrast("How much for two nights?", {"How much for 2 nights?"}));
  EXPECT_TRUE(contrast("Are you open at 8?", {"Are you open at 7?"}));
  EXPECT_FALSE(contrast("Open at 7:00?", {"Open at 7?"}));
}

TEST(Contrast, OneWordInAnothersPlace) {
  const Texts key = {"Where is the spare car key?", "Where do we keep the spare key of the car?"};
  EXPECT_TRUE(contrast("Where is the spare shed key?", key));
  EXPECT_TRUE(contrast("Where are the spare shed keys?", {"Where are the spare safe keys?"}));
  EXPECT_FALSE(contrast("Where is that spare car key?", key));       // a function word
  EXPECT_FALSE(contrast("Where did the spare shed key go?", key));   // more differs
  EXPECT_FALSE(contrast("Where are spare car keys?", key));          // no word is another
  EXPECT_FALSE(contrast("spare garden key?", {"spare safe key?"}));  // too short to tell
  // The wordings say it in two ways, and so may the question.
  const Texts hill = {"What is the highest peak there?", "What is the highest mountain there?"};
  EXPECT_FALSE(contrast("What is the highest hill there?", hill));
  EXPECT_TRUE(contrast("What is the lowest peak there?", hill));
  EXPECT_TRUE(contrast("Where is the room upstairs?",
                       {"Where is the room downstairs?", "Which room is on the floor?"}));
  EXPECT_FALSE(contrast("How long is a 60 minute massage in total?",
                        {"How long is a 60 min massage in total?"}));
  // Other words for one thing.
  EXPECT_FALSE(contrast("Where do you keep the little box?", {"Where do you keep the small box?"}));
}

TEST(Contrast, SomePairsCountInAFrameAlone) {
  EXPECT_TRUE(contrast("When do you close?", {"When do you open?", "When can I come?"}));
  EXPECT_FALSE(contrast("Until what time are you open?", {"When do you close?"}));
  EXPECT_TRUE(contrast("Do you buy old bikes?", {"Do you sell old bikes?"}));
  EXPECT_FALSE(contrast("Can I buy an old bike?", {"Do you sell old bikes?"}));
}

TEST(Contrast, WordsThatOnlyLookLikeMembers) {
  EXPECT_FALSE(contrast("May I bring a dog there?", {"Can I bring a dog in June?"}));
  EXPECT_FALSE(contrast("How long is the short tour?", {"How long does the short tour take?"}));
  EXPECT_FALSE(contrast("Do you have glasses for the eclipse?", {"Is the plastic bin there?"}));
}

TEST(Contrast, EachFactHasItsOwn) {
  TaughtContrasts taught;
  EXPECT_EQ(taught.with("Are you open on Sunday?"), std::vector<bool>());
  taught.add(Texts{"Are you open on Saturday?"});
  taught.add(Texts{"Are you open on Sunday?"});
  taught.add(Texts{"Where are you?"});
  EXPECT_EQ(taught.with("Sunday hours?"), (std::vector<bool>{true, false, false}));
  EXPECT_EQ(taught.with(""), (std::vector<bool>{false, false, false}));
  EXPECT_EQ(taught.with("\xff on Sunday \xff"), (std::vector<bool>{true, false, false}));
}

TEST(Contrast, TheTableIsWellFormed) {
  size_t classes = 0;
  for (size_t at = 0; at < contrast_table().size();) {
    const size_t end = std::min(contrast_table().find('\n', at), contrast_table().size());
    const std::string line(contrast_table().substr(at, end - at));
    at = end + 1;
    const size_t colon = line.find(':');
    if (line.empty() || line.front() == '#' || line == "frame:") continue;
    ASSERT_NE(colon, std::string::npos) << line;
    ++classes;
    EXPECT_EQ(line.find('|') == std::string::npos, line.substr(0, colon) == "not") << line;
    size_t borders = 0;
    for (const char c : line.substr(colon + 1)) {
      EXPECT_TRUE((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == ' ' || c == '|' ||
                  c == '_' || c == '~')
          << line;
      borders = c == ' ' ? 0 : borders + (c == '_' || c == '~');
      EXPECT_LE(borders, 1U) << line;  // two words at most
    }
  }
  EXPECT_GT(classes, 100U);
}

}  // namespace
}  // namespace accrete
