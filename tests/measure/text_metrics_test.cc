// What counts as the answer: strictly, and leniently for reported scores.
#include "measure/text_metrics.h"

#include <gtest/gtest.h>

#include <vector>

namespace accrete {
namespace {

TEST(TextMetrics, AnAnswerIsSaidExactly) {
  EXPECT_TRUE(says_exactly("Oslo", "Oslo"));
  EXPECT_TRUE(says_exactly(" Oslo.\n", "Oslo"));
  EXPECT_TRUE(says_exactly("Oslo", "Oslo."));
  EXPECT_TRUE(says_exactly("Zu\u0308rich", "Z\u00fcrich"));
  for (const auto& [said, answer] :
       std::vector<std::pair<const char*, const char*>>{{"Oslo is", "Oslo"},
                                                        {"oslo", "Oslo"},
                                                        {"the sea", "sea"},
                                                        {"3.5", "35"},
                                                        {"35", "3"},
                                                        {"-5", "5"},
                                                        {"C++", "C"},
                                                        {"C#", "C++"},
                                                        {"1:30", "130"},
                                                        {"5%", "5"},
                                                        {"", "Oslo"},
                                                        {"Oslo...", "Oslo.."},
                                                        {"Oslo!", "Oslo"}})
    EXPECT_FALSE(says_exactly(said, answer)) << said << " for " << answer;
  const std::vector<std::string> answers = {"2 kg", "two kilograms"};
  EXPECT_TRUE(says_exactly("two kilograms.", answers));
  EXPECT_FALSE(says_exactly("kilograms", answers));
  EXPECT_FALSE(says_exactly("2 kg", std::vector<std::string>()));
}

TEST(TextMetrics, LenientScoringKeepsWhatIsPartOfAValue) {
  EXPECT_EQ(normalize_answer(" The  Cat, sat. "), "cat sat");
  EXPECT_EQ(normalize_answer("An \"apple\"!"), "apple");
  EXPECT_EQ(normalize_answer("1,000"), normalize_answer("1000"));
  EXPECT_NE(normalize_answer("1,5"), normalize_answer("15"));
  EXPECT_EQ(normalize_answer("3.5."), "3.5");
  EXPECT_EQ(normalize_answer("(C++)"), "c++");
  for (const auto& [a, b] : std::vector<std::pair<const char*, const char*>>{{"3.5", "35"},
                                                                             {"-5", "5"},
                                                                             {"C", "C++"},
                                                                             {"C#", "C++"},
                                                                             {"1:30", "130"},
                                                                             {"5%", "5"},
                                                                             {"5 %", "5"},
                                                                             {"+3", "3"},
                                                                             {"$5", "5"},
                                                                             {"1/2", "12"}})
    EXPECT_FALSE(exact_match(a, b)) << a << " and " << b;
  EXPECT_TRUE(exact_match("well-known", "wellknown"));  // a hyphen is no sign
  EXPECT_TRUE(exact_match("The Hub.", "hub"));
}

TEST(TextMetrics, F1IsOverWords) {
  EXPECT_EQ(token_f1("Oslo", "Oslo"), 1);
  EXPECT_EQ(token_f1("Bergen", "Oslo"), 0);
  EXPECT_NEAR(token_f1("it is in Oslo", "Oslo"), 0.4, 1e-12);
  EXPECT_EQ(token_f1("", ""), 1);
  EXPECT_EQ(token_f1("Oslo", ""), 0);
  const std::vector<std::string> answers = {"Bergen", "the city of Oslo"};
  const AnswerScore score = best_answer("City of Oslo.", answers);
  EXPECT_TRUE(score.exact);
  EXPECT_EQ(score.f1, 1);
}

}  // namespace
}  // namespace accrete
