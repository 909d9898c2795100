// Answers compared as text: SQuAD's normalisation, exact match and token F1 (Rajpurkar et al.
// 2016).
//
// Non-goals: semantic similarity.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace accrete {

// Lower case (ASCII), without punctuation and articles, white space squeezed.
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
