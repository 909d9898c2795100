#include "measure/text_metrics.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <sstream>
#include <vector>

#include "text/wording.h"

namespace accrete {
namespace {

std::vector<std::string> words(std::string_view text) {
  std::istringstream in(normalize_answer(text));
  std::vector<std::string> out;
  for (std::string w; in >> w;) out.push_back(w);
  return out;
}

bool ascii_digit(char c) {
  return c >= '0' && c <= '9';
}
bool byte_of_letter(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0;
}

// Whether the mark at `at` is part of a value: -3.5, 1:30, 5 %, $5, C++, C#. The comma of 1,000
// only groups digits.
bool is_part_of_value(std::string_view text, size_t at) {
  const char c = text[at];
  const char before = at > 0 ? text[at - 1] : ' ';
  const char after = at + 1 < text.size() ? text[at + 1] : ' ';
  switch (c) {
    case '.':
    case ':':
    case '/':
      return ascii_digit(before) && ascii_digit(after);
    case ',': {
      if (!ascii_digit(before) || !ascii_digit(after)) return false;
      size_t digits = 0;
      while (at + 1 + digits < text.size() && ascii_digit(text[at + 1 + digits])) ++digits;
      return digits != 3;
    }
    case '-':
      return ascii_digit(after) && !ascii_digit(before) && !byte_of_letter(before);
    case '+':
      return ascii_digit(after) || byte_of_letter(before) || before == '+';
    case '#':
      return byte_of_letter(before) || ascii_digit(after);
    case '%':
      return ascii_digit(before) || before == ' ';
    case '$':
      return ascii_digit(after);
    default:
      return false;
  }
}

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  if (text.size() > 1 && text.back() == '.' && text[text.size() - 2] != '.') text.remove_suffix(1);
  return text;
}

}  // namespace

bool says_exactly(std::string_view output, std::string_view answer) {
  return same_text(trimmed(output), trimmed(answer));
}
bool says_exactly(std::string_view output, std::span<const std::string> answers) {
  return std::any_of(answers.begin(), answers.end(),
                     [&](const std::string& a) { return says_exactly(output, a); });
}

std::string normalize_answer(std::string_view text) {
  std::string out, word;
  const auto end_word = [&] {
    if (!word.empty() && word != "a" && word != "an" && word != "the") {
      if (!out.empty()) out += ' ';
      out += word;
    }
    word.clear();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto u = static_cast<unsigned char>(c);
    if (u < 128 && std::ispunct(u) && !is_part_of_value(text, i)) continue;
    if (u < 128 && std::isspace(u))
      end_word();
    else
      word += static_cast<char>(u < 128 ? std::tolower(u) : u);
  }
  end_word();
  return out;
}

bool exact_match(std::string_view output, std::string_view answer) {
  return normalize_answer(output) == normalize_answer(answer);
}

double token_f1(std::string_view output, std::string_view answer) {
  const auto a = words(output), b = words(answer);
  if (a.empty() || b.empty()) return a.empty() && b.empty() ? 1 : 0;
  std::map<std::string, int> count;
  for (const auto& w : b) ++count[w];
  int common = 0;
  for (const auto& w : a)
    if (count[w]-- > 0) ++common;
  if (common == 0) return 0;
  const double p = static_cast<double>(common) / static_cast<double>(a.size());
  const double r = static_cast<double>(common) / static_cast<double>(b.size());
  return 2 * p * r / (p + r);
}

AnswerScore best_answer(std::string_view output, std::span<const std::string> answers) {
  AnswerScore best;
  for (const auto& answer : answers) {
    best.exact = best.exact || exact_match(output, answer);
    best.f1 = std::max(best.f1, token_f1(output, answer));
  }
  return best;
}

}  // namespace accrete
