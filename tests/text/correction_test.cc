// Corrections: what counts as one, and what only begins like one.
#include "text/correction.h"

#include <gtest/gtest.h>

namespace accrete {
namespace {

TEST(Correction, TheNewAnswerIsFound) {
  const std::pair<const char*, const char*> cases[] = {
      {"No, it is now 199 euros.", "199 euros"},
      {"no, it's 199 euros now", "199 euros"},
      {"That is wrong, it costs 199 euros.", "199 euros"},
      {"That's wrong. It weighs 2.5 kg!", "2.5 kg"},
      {"No - that is not right. The price is 3.50 euros. Please note it.", "3.50 euros"},
      {"Actually it opens at 8 am", "8 am"},
      {"  No! Its new director is Ida Morrenfeld.  ", "Ida Morrenfeld"},
      {"That's no longer true, they are closed on Monday; sorry", "closed on Monday"},
      {"Wrong, it should be Kraków", "Kraków"},
      {"Not any more, our new opening time is 9 am instead.", "9 am"},
  };
  for (const auto& [message, answer] : cases)
    EXPECT_EQ(corrected_answer(message).value_or("nothing"), answer) << message;
}

TEST(Correction, WhatIsNoneIsLeft) {
  const std::string ends[] = {std::string(301, 'a'), "No, it is " + std::string(121, 'a')};
  for (const char* message : {"",
                              "No.",
                              "No problem, it is fine.",
                              "No, it is not.",
                              "No, it isn't.",
                              "No, that is all.",
                              "No, that's fine, thanks.",
                              "No one is here.",
                              "Is it now 199 euros?",
                              "It is 199 euros.",
                              "No, is it 199 euros?",
                              "Nothing is wrong.",
                              "No, thanks.",
                              "That is wrong.",
                              "No, it is wrong.",
                              "No, it costs.",
                              "No, what is the price",
                              "Now it is 199 euros",
                              "No,\nit is 199 euros",
                              "No, it is ...",
                              "Actually, I like it.",
                              "No, it is what it is.",
                              "Note, it is 199 euros",
                              "No, the very best and only price of this is 199 euros"})
    EXPECT_EQ(corrected_answer(message), std::nullopt) << message;
  for (const auto& message : ends) EXPECT_EQ(corrected_answer(message), std::nullopt);
}

}  // namespace
}  // namespace accrete
