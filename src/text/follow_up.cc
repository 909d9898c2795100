#include "text/follow_up.h"

#include <algorithm>
#include <set>
#include <vector>

#include "text/contrast.h"
#include "text/wording.h"

namespace accrete {
namespace {

constexpr size_t kLongest = 6, kLongestBare = 3;  // words of a fragment, with and without "and"
constexpr size_t kTail = 5;                       // words of a last phrase that is replaced

const std::set<std::string> kAhead = {"and", "or", "but", "so"};
const std::set<std::string> kBehind = {"then", "too", "instead"};
const std::set<std::string> kPrepositions = {
    "for", "on",    "in",     "at",    "with", "without", "from",    "to",    "during", "by",
    "per", "after", "before", "until", "till", "via",     "through", "under", "over"};
const std::set<std::string> kOnes = {"one", "ones"};
const std::set<std::string> kThem = {"it", "he", "she", "they", "him", "her", "them"};
const std::set<std::string> kTheirs = {"its", "his", "their"};
// What has one of these is a question by itself, or none.
const std::set<std::string> kWhole = {
    "what",  "when", "where", "who",  "whom", "whose", "which", "why",  "how",   "is",     "are",
    "was",   "were", "do",    "does", "did",  "can",   "could", "will", "would", "should", "may",
    "might", "must", "has",   "have", "had",  "i",     "we",    "you",  "he",    "she",    "it",
    "they",  "him",  "her",   "them", "its",  "his",   "their", "tell", "show",  "give",   "there"};

struct Edit {
  size_t begin = 0, end = 0;  // bytes
  std::string text;
};

std::string edited(std::string_view text, std::vector<Edit> edits) {
  std::sort(edits.begin(), edits.end(),
            [](const Edit& a, const Edit& b) { return a.begin < b.begin; });
  std::string out;
  size_t at = 0;
  for (const Edit& edit : edits) {
    if (edit.begin < at) continue;  // two of one place
    out += text.substr(at, edit.begin - at);
    out += edit.text;
    at = edit.end;
  }
  return out + std::string(text.substr(at));
}

// The words of a fragment without what leads to it; empty: it is none.
std::vector<Word> rest_of(std::string_view fragment, bool& led) {
  std::vector<Word> words = words_of(fragment);
  size_t first = 0;
  const auto is = [&](size_t i, const char* form) {
    return i < words.size() && words[i].form == form;
  };
  if (!words.empty() && kAhead.contains(words.front().form)) ++first;
  if ((is(first, "what") || is(first, "how")) && is(first + 1, "about")) first += 2;
  led = first > 0;
  words.erase(words.begin(), words.begin() + static_cast<int64_t>(first));
  while (!words.empty() && kBehind.contains(words.back().form)) words.pop_back();
  if (words.size() > (led ? kLongest : kLongestBare)) return {};
  for (const Word& word : words)
    if (kWhole.contains(word.form)) return {};
  return words;
}

}  // namespace

std::string follow_up(std::string_view fragment, std::string_view before, std::string_view name,
                      std::string_view name_before) {
  bool led = false;
  const std::vector<Word> rest = rest_of(fragment, led);
  const std::vector<Word> words = words_of(before);
  if (rest.empty() || words.size() < 2) return {};
  std::vector<bool> covered(rest.size());
  std::vector<Edit> edits;
  const auto ranges_before = find_name(before, name_before);
  if (!name.empty()) {
    if (ranges_before.empty()) return {};
    for (const auto& [begin, end] : find_name(fragment, name))
      for (size_t i = 0; i < rest.size(); ++i)
        if (rest[i].begin >= begin && rest[i].end <= end) covered[i] = true;
    for (const auto& [begin, end] : ranges_before) edits.push_back({begin, end, std::string(name)});
  }
  const auto in_name = [&](const ClassMember& m) {
    return std::any_of(ranges_before.begin(), ranges_before.end(), [&](const auto& range) {
      return words[m.first].begin < range.second && words[m.last - 1].end > range.first;
    });
  };
  const auto members = class_members(words);
  for (const ClassMember& own : class_members(rest)) {
    if (covered[own.first]) continue;
    for (const ClassMember& other : members) {
      if (other.of_class != own.of_class || in_name(other)) continue;
      std::fill(covered.begin() + static_cast<int64_t>(own.first),
                covered.begin() + static_cast<int64_t>(own.last), true);
      if (other.member != own.member)
        edits.push_back(
            {words[other.first].begin, words[other.last - 1].end,
             std::string(fragment.substr(rest[own.first].begin,
                                         rest[own.last - 1].end - rest[own.first].begin))});
      break;
    }
  }
  bool all = true;
  for (size_t i = 0; i < rest.size(); ++i)
    all &= covered[i] || !is_content_word(rest[i].form) || kOnes.contains(rest[i].form) ||
           std::any_of(words.begin(), words.end(),
                       [&](const Word& word) { return word.form == rest[i].form; });
  if (all && !edits.empty()) return edited(before, std::move(edits));
  // "And for a week?": in the place of the last phrase of its kind, or at the end.
  const std::string& preposition = rest.front().form;
  if (!name.empty() || !kPrepositions.contains(preposition)) return {};
  const std::string tail(fragment.substr(rest.front().begin, rest.back().end - rest.front().begin));
  for (size_t i = words.size(); i-- > 1 && words.size() - i <= kTail;)
    if (words[i].form == preposition)
      return edited(before, {{words[i].begin, words.back().end, tail}});
  return edited(before, {{words.back().end, words.back().end, " " + tail}});
}

bool has_pronoun(std::span<const Word> words) {
  return std::any_of(words.begin(), words.end(), [](const Word& word) {
    return kThem.contains(word.form) || kTheirs.contains(word.form);
  });
}

bool leans_on_earlier(std::span<const Word> words) {
  size_t content = 0;
  for (const Word& word : words) content += is_content_word(word.form);
  return content < 3 || has_pronoun(words);
}

bool is_fragment(std::string_view text) {
  bool led = false;
  return !rest_of(text, led).empty() && led;
}

std::string with_name(const std::string& text, const std::string& name) {
  static const std::set<std::string> kAlso = {"and", "but", "also", "so"};
  std::vector<Word> words = words_of(text);
  size_t from = 0;
  if (words.size() > 1 && kAlso.contains(words.front().form)) {
    from = words[1].begin;
    words.erase(words.begin());
  }
  for (const Word& word : words) {
    const bool theirs = kTheirs.contains(word.form);
    if (!theirs && !kThem.contains(word.form)) continue;
    return text.substr(from, word.begin - from) + name + (theirs ? "'s" : "") +
           text.substr(word.end);
  }
  const size_t end = words.empty() ? text.size() : words.back().end;
  return text.substr(from, end - from) + " of " + name + text.substr(end);
}

}  // namespace accrete
