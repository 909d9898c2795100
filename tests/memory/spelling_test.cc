// Slips of typing: mended to what was taught or is a word, and nothing else is touched.
#include "memory/spelling.h"

#include <gtest/gtest.h>

#include <map>

namespace accrete {
namespace {

using Words = std::unordered_set<std::string>;

int32_t place(std::string_view word) {
  static const std::map<std::string, int32_t, std::less<>> kWords = {
      {"the", 1},    {"what", 2},   {"does", 3}, {"weight", 4}, {"weigh", 5},
      {"height", 6}, {"colour", 7}, {"from", 8}, {"form", 9}};
  const auto it = kWords.find(word);
  return it == kWords.end() ? -1 : it->second;
}

std::string mend(const std::string& text, const Words& taught = {}, const Words& subject = {}) {
  return mended(text, taught, subject, place);
}

TEST(Spelling, OneSlipIsMended) {
  EXPECT_EQ(mend("waht does it weigh"), "what does it weigh");
  EXPECT_EQ(mend("what deos it weigh?"), "what does it weigh?");
  EXPECT_EQ(mend("the colur"), "the colour");
  EXPECT_EQ(mend("the collour"), "the colour");
  EXPECT_EQ(mend("the colopr"), "the colour");
  EXPECT_EQ(mend("WAHT IS IT"), "what IS IT");
}

TEST(Spelling, WhatWasTaughtComesFirstThenTheMostCommon) {
  EXPECT_EQ(mend("the weighh"), "the weight");
  EXPECT_EQ(mend("the weighh", {"weigh"}), "the weigh");
  EXPECT_EQ(mend("a zorbic question", {"zorbix"}), "a zorbix question");
}

TEST(Spelling, WhatIsKnownOrANameStays) {
  EXPECT_EQ(mend("form"), "form");  // a word, though near another
  EXPECT_EQ(mend("the weighx", {"weighx"}), "the weighx");
  EXPECT_EQ(mend("the weighx", {}, {"weighx"}), "the weighx");  // whom it is about
  EXPECT_EQ(mend("the Waht"), "the Waht");                      // perhaps a name
  EXPECT_EQ(mend("wht"), "wht");                                // too short to tell
  EXPECT_EQ(mend("waht3 x-waht waht's caf\u00e9waht"), "waht3 x-waht waht's caf\u00e9waht");
  EXPECT_EQ(mend("xqzv"), "xqzv");
  EXPECT_EQ(mend(""), "");
  const std::string longer(100, 'w');
  EXPECT_EQ(mend(longer), longer);
  EXPECT_EQ(mend("\xff waht \xe2"), "\xff what \xe2");
}

TEST(Spelling, NoWordIsMadeAName) {
  EXPECT_EQ(mend("the orro", {}, {"orro"}), "the orro");
  EXPECT_EQ(mend("the orru", {"orrq"}, {"orro"}), "the orrq");
  EXPECT_EQ(mend("the orru", {}, {"orro"}), "the orru");
}

TEST(Spelling, WordsOfAText) {
  Words words;
  add_words("How heavy IS the Hub-3, it's 3.5?", words);
  EXPECT_EQ(words, (Words{"how", "heavy", "the", "hub"}));
}

}  // namespace
}  // namespace accrete
