#include "eval/text_metrics.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <sstream>
#include <vector>

namespace accrete {
namespace {

std::vector<std::string> words(std::string_view text) {
  std::istringstream in(normalize_answer(text));
  std::vector<std::string> out;
  for (std::string w; in >> w;) out.push_back(w);
  return out;
}

}  // namespace

std::string normalize_answer(std::string_view text) {
  std::string out, word;
  const auto end_word = [&] {
    if (!word.empty() && word != "a" && word != "an" && word != "the") {
      if (!out.empty()) out += ' ';
      out += word;
    }
    word.clear();
  };
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 128 && std::ispunct(u)) continue;
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
