// Answers compared as text: SQuAD's normalisation, exact match and token F1 (Rajpurkar et al.
// 2016), which here keeps what is part of a value.
//
// Non-goals: semantic similarity.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace accrete {

// The answer and nothing else: equal (text/wording.h, identity_of) but for white space at the ends
// and one full stop. What a person reads is scored so.
bool says_exactly(std::string_view output, std::string_view answer);
bool says_exactly(std::string_view output, std::span<const std::string> answers);

// The rest is lenient scoring, for reported scores alone: what the program acts on is compared by
// identity.

// Lower case (ASCII), without articles and punctuation, white space squeezed. What is part of a
// value stays: signs, decimal points and colons of numbers, "%", the marks of "C++" and "C#".
std::string normalize_answer(std::string_view text);
bool exact_match(std::string_view output, std::string_view answer);
// Harmonic mean of precision and recall over the words.
double token_f1(std::string_view output, std::string_view answer);

struct AnswerScore {
  bool exact = false;
  double f1 = 0;
};
// The best over all accepted answers.
AnswerScore best_answer(std::string_view output, std::span<const std::string> answers);

}  // namespace accrete
