// Corrections: what counts as one, and what only begins like one.
#include "text/correction.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

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
      {"From today it is 199 euros.", "199 euros"},
      {"From today on, the price is 199 euros", "199 euros"},
      {"from now on it costs 12 euros", "12 euros"},
      {"As of 1 May it opens at 8 am.", "8 am"},
      {"As of Monday we are open until 9 pm", "open until 9 pm"},
      {"Starting next week the bar closes at 11 pm", "11 pm"},
      {"Effective 3 June, the fee is 20 euros.", "20 euros"},
      {"Since January it is Ida Morrenfeld", "Ida Morrenfeld"},
      {"From summer the last ferry is at 10 pm", "at 10 pm"},
      {"Actually you are open until 9 pm now.", "open until 9 pm"},
      {"Actually, you're closed on Mondays now", "closed on Mondays"},
      {"Actually we're open until ten", "open until ten"},
      {"In fact it weighs 2.5 kg.", "2.5 kg"},
      {"It changed: it is 4471 now", "4471"},
      {"It has changed, the code is 4471.", "4471"},
      {"This has changed. It costs 3 euros.", "3 euros"},
      {"That changed - our number is 0477 555 011.", "0477 555 011"},
      {"That's changed, it takes 40 minutes now", "40 minutes"},
      {"That's out of date, it is 199 euros.", "199 euros"},
      {"That is out of date. The director is Mette Sand.", "Mette Sand"},
      {"This is outdated, it is 12 euros.", "12 euros"},
      {"That's old news, it's Port Ellisane now", "Port Ellisane"},
      {"Correction: it is 14 days.", "14 days"},
      {"Small correction, it lasts two hours", "two hours"},
      {"Update: the fee is 5 euros", "5 euros"},
      {"Sorry, but it costs 30 euros.", "30 euros"},
      {"I'm afraid it is 45 euros now.", "45 euros"},
      {"Sorry, that's wrong, it is 8 pm.", "8 pm"},
      {"Not quite, it is the green door", "the green door"},
      {"No, your opening hours are 8 to 6", "8 to 6"},
      {"Nope. It's called Old Marguerite", "called Old Marguerite"},
      {"No, since May it is 21 euros", "21 euros"},
      {"Not any more, our new opening time is 9 am instead.", "9 am"},
  };
  for (const auto& [message, answer] : cases)
    EXPECT_EQ(corrected_answer(message).value_or("nothing"), answer) << message;
}

TEST(Correction, WhatIsNoneIsLeft) {
  const std::vector<std::string> ends = {std::string(301, 'a'),
                                         std::string("No, it is ").append(121, 'a')};
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
                              "From what I heard it is 199 euros",
                              "From here it is 3 km",
                              "Since yesterday it is broken.",
                              "Since last week it is slow",
                              "From today I work here",
                              "From Monday to Friday we are at school",
                              "As of today it is broken",
                              "As far as I know it is fine",
                              "Starting the machine is hard",
                              "Sorry, I meant the other one.",
                              "Sorry, it is me again",
                              "Sorry, what is the price",
                              "I'm afraid of dogs",
                              "I'm afraid it is too late",
                              "Update me, please",
                              "Correction fluid is white",
                              "It changed my life",
                              "That changed everything",
                              "This has changed a lot",
                              "Actually you are very kind",
                              "Actually we are still waiting",
                              "Actually, never mind",
                              "Actually it is so good",
                              "In fact I agree",
                              "You are open until 9 pm",
                              "Your price is 3 euros",
                              "We are five people",
                              "It takes 40 minutes",
                              "Not quite sure what you mean",
                              "Not any more, thanks",
                              "No longer needed, thank you",
                              "That is out of the question",
                              "That's old",
                              "The update is out",
                              "Actually, I like it.",
                              "No, it is what it is.",
                              "Note, it is 199 euros",
                              "No, the very best and only price of this is 199 euros"})
    EXPECT_EQ(corrected_answer(message), std::nullopt) << message;
  for (const auto& message : ends) EXPECT_EQ(corrected_answer(message), std::nullopt);
}

}  // namespace
}  // namespace accrete
