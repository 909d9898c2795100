#include "memory/spelling.h"

#include <algorithm>
#include <limits>
#include <set>

namespace accrete {
namespace {

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}
// What a word may not be a part of.
bool joins(char c) {
  return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '\'' || c == '-' ||
         (static_cast<unsigned char>(c) & 0x80) != 0;
}

// Words one slip away: two letters swapped, one left out, one too many, another one. The first
// letter stays but for a swap.
std::set<std::string> slips(const std::string& w) {
  std::set<std::string> out;
  for (size_t i = 0; i + 1 < w.size(); ++i) {
    std::string s = w;
    std::swap(s[i], s[i + 1]);
    out.insert(std::move(s));
  }
  for (size_t i = 1; i < w.size(); ++i) out.insert(w.substr(0, i) + w.substr(i + 1));
  for (char x = 'a'; x <= 'z'; ++x) {
    for (size_t i = 1; i <= w.size(); ++i) out.insert(w.substr(0, i) + x + w.substr(i));
    for (size_t i = 1; i < w.size(); ++i) out.insert(w.substr(0, i) + x + w.substr(i + 1));
  }
  out.erase(w);
  return out;
}

}  // namespace

void add_words(std::string_view text, std::unordered_set<std::string>& to) {
  constexpr size_t kShortest = 3;
  std::string word;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && is_letter(text[i])) {
      word += lower(text[i]);
      continue;
    }
    if (word.size() >= kShortest) to.insert(word);
    word.clear();
  }
}

std::string mended(std::string_view text, const std::unordered_set<std::string>& taught,
                   const std::unordered_set<std::string>& subject, const Vocabulary& vocabulary) {
  constexpr size_t kShortest = 4, kLongest = 24;
  const bool capitals =
      std::none_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && is_letter(text[end])) ++end;
    if (end == at) {
      out += text[at++];
      continue;
    }
    const std::string_view written = text.substr(at, end - at);
    const bool whole =
        (at == 0 || !joins(text[at - 1])) && (end == text.size() || !joins(text[end]));
    at = end;
    std::string word;
    for (const char c : written) word += lower(c);
    if (!whole || word.size() < kShortest || word.size() > kLongest ||
        (word != written && !capitals) || taught.contains(word) || subject.contains(word) ||
        vocabulary(word) >= 0) {
      out += written;
      continue;
    }
    std::string best;
    bool known = false;
    int32_t rank = std::numeric_limits<int32_t>::max();
    for (const std::string& slip : slips(word)) {  // by alphabet
      if (slip.size() < 3 || subject.contains(slip)) continue;
      if (taught.contains(slip)) {
        best = slip;
        known = true;
        break;
      }
      if (known) continue;
      if (const int32_t id = vocabulary(slip); id >= 0 && id < rank) {
        rank = id;
        best = slip;
      }
    }
    out += best.empty() ? std::string(written) : best;
  }
  return out;
}

}  // namespace accrete
