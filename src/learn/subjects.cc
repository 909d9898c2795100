#include "learn/subjects.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <map>
#include <set>
#include <string_view>

namespace accrete {
namespace {

struct SpacedWord {
  size_t begin;
  size_t end;
};

bool is_ascii_space(char c) {
  return std::strchr(" \t\n\r", c) != nullptr && c != '\0';
}

// Words without the punctuation around them.
std::vector<SpacedWord> spaced_words(std::string_view text) {
  std::vector<SpacedWord> words;
  const auto outer = [](char c) { return std::strchr(".,;:!?\"()[]", c) != nullptr && c != '\0'; };
  for (size_t i = 0; i < text.size();) {
    while (i < text.size() && is_ascii_space(text[i])) ++i;
    size_t end = i;
    while (end < text.size() && !is_ascii_space(text[end])) ++end;
    size_t b = i, e = end;
    while (b < e && outer(text[b])) ++b;
    while (e > b && outer(text[e - 1])) --e;
    // The genitive is not part of a name.
    if (e - b > 2 && text.substr(e - 2, 2) == "'s") e -= 2;
    if (b < e) words.push_back({b, e});
    i = end;
  }
  return words;
}

bool is_function_word(std::string_view w) {
  static const std::set<std::string, std::less<>> kWords = {
      "a",    "an",    "the", "of",   "in",    "on",   "at",   "to",   "is",     "are",  "was",
      "were", "be",    "by",  "for",  "with",  "from", "and",  "or",   "what",   "who",  "where",
      "when", "which", "how", "did",  "does",  "do",   "that", "this", "it",     "its",  "as",
      "has",  "have",  "had", "whom", "whose", "why",  "can",  "name", "please", "tell", "me"};
  std::string lower;
  for (const char c : w) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return kWords.contains(lower);
}

bool looks_like_name(std::string_view w) {
  const auto c = static_cast<unsigned char>(w.front());
  if (std::isupper(c) || c >= 0xC3) return true;
  return std::any_of(w.begin(), w.end(), [](unsigned char d) { return std::isdigit(d); });
}

bool contains_words(std::string_view text, std::string_view needle) {
  for (size_t at = text.find(needle); at != std::string_view::npos;
       at = text.find(needle, at + 1)) {
    const auto boundary = [&](size_t i) {
      return i >= text.size() || !std::isalnum(static_cast<unsigned char>(text[i]));
    };
    if ((at == 0 || boundary(at - 1)) && boundary(at + needle.size())) return true;
  }
  return false;
}

// Candidates: runs of words of `prompt`, longest first, that neither begin nor end with a function
// word.
std::vector<std::string> runs_of(std::string_view prompt) {
  const auto words = spaced_words(prompt);
  std::vector<std::string> runs;
  const size_t most = std::min<size_t>(words.size(), 12);
  for (size_t n = most; n >= 1; --n)
    for (size_t i = 0; i + n <= words.size(); ++i) {
      const auto first = prompt.substr(words[i].begin, words[i].end - words[i].begin);
      const auto last =
          prompt.substr(words[i + n - 1].begin, words[i + n - 1].end - words[i + n - 1].begin);
      // A leading article may belong to a title ("The Hobbit"), a lower-case one does not.
      if (is_function_word(last) && !looks_like_name(last)) continue;
      if (is_function_word(first) && (!looks_like_name(first) || n == 1)) continue;
      runs.emplace_back(prompt.substr(words[i].begin, words[i + n - 1].end - words[i].begin));
    }
  return runs;
}

}  // namespace

std::string find_subject(std::span<const std::string> prompts,
                         std::span<const std::vector<std::string>> others) {
  if (prompts.empty()) return "";
  std::string rarest;
  size_t fewest = SIZE_MAX;
  for (const std::string& run : runs_of(prompts.front())) {
    const bool shared = std::all_of(prompts.begin() + 1, prompts.end(),
                                    [&](const std::string& p) { return contains_words(p, run); });
    if (!shared) continue;
    bool named = true;
    for (const SpacedWord& w : spaced_words(run)) {
      const auto word = std::string_view(run).substr(w.begin, w.end - w.begin);
      named = named && (looks_like_name(word) || is_function_word(word));
    }
    size_t elsewhere = 0;
    for (const auto& other : others)
      elsewhere += std::any_of(other.begin(), other.end(),
                               [&](const std::string& p) { return contains_words(p, run); });
    // Several facts may be about one subject; a phrase of the template occurs in many. One phrasing
    // alone says nothing about what is shared, so only a name is taken at once.
    const bool rare = elsewhere <= std::max<size_t>(2, others.size() / 20);
    if (rare && (named || prompts.size() > 1)) return run;
    // Otherwise the rarest words that there are: of one phrasing, a single one.
    const bool candidate = prompts.size() > 1 || run.find(' ') == std::string::npos;
    const bool longer = elsewhere == fewest && run.size() > rarest.size();
    if (candidate && (elsewhere < fewest || longer)) {
      fewest = elsewhere;
      rarest = run;
    }
  }
  return rarest;
}

int64_t fill_subjects(std::span<Item> items) {
  std::vector<std::vector<std::string>> all;
  for (Item& item : items) {
    // A question and its answer as a conversation are a fact too.
    if (item.kind == Item::Kind::kMessages && item.messages.size() == 2 &&
        item.messages[0].role == "user" && item.messages[1].role == "assistant") {
      item.kind = Item::Kind::kFact;
      item.prompts = {item.messages[0].content};
      item.answers = {item.messages[1].content};
    }
    all.push_back(item.prompts);
  }
  int64_t found = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    Item& item = items[i];
    if (item.kind != Item::Kind::kFact) continue;
    if (item.subject.empty()) {
      // Leave this item's own prompts out of "the others".
      std::vector<std::string> own;
      own.swap(all[i]);
      item.subject = find_subject(item.prompts, all);
      own.swap(all[i]);
    }
    found += !item.subject.empty();
  }
  return found;
}

std::vector<std::string> find_names(std::span<const std::string> documents, size_t limit, Rng rng) {
  std::map<std::string, int> count;
  for (const std::string& text : documents) {
    const std::string_view view(text);
    const auto words = spaced_words(view);
    for (size_t i = 1; i < words.size(); ++i) {
      const auto gap = [&](size_t a) {
        return view.substr(words[a].end, words[a + 1].begin - words[a].end);
      };
      const auto word = [&](size_t a) {
        return view.substr(words[a].begin, words[a].end - words[a].begin);
      };
      // Inside a sentence, and the beginning of a run.
      if (gap(i - 1) != " " || !std::isupper(static_cast<unsigned char>(word(i).front()))) continue;
      if (std::isupper(static_cast<unsigned char>(word(i - 1).front()))) continue;
      size_t n = 1;
      while (i + n < words.size() && n < 5 && gap(i + n - 1) == " " &&
             std::isupper(static_cast<unsigned char>(word(i + n).front())))
        ++n;
      if (n == 5 || word(i).size() < 3) continue;
      ++count[std::string(view.substr(words[i].begin, words[i + n - 1].end - words[i].begin))];
      i += n;
    }
  }
  // Names that recur are names; what occurs once may be anything.
  std::vector<std::string> names;
  for (int least : {2, 1}) {
    names.clear();
    for (const auto& [name, n] : count)
      if (n >= least) names.push_back(name);
    if (names.size() >= limit) break;
  }
  rng.shuffle(std::span(names));
  if (names.size() > limit) names.resize(limit);
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> make_neighbours(std::span<const Item> items,
                                         std::span<const std::string> names, int64_t per_phrasing,
                                         Rng rng) {
  constexpr std::string_view kHole = "\x01";
  std::set<std::string> templates, subjects;
  for (const Item& item : items) {
    if (item.kind != Item::Kind::kFact || item.subject.empty()) continue;
    subjects.insert(item.subject);
    for (const std::string& prompt : item.prompts) {
      const size_t at = prompt.rfind(item.subject);
      if (at == std::string::npos) continue;
      templates.insert(
          prompt.substr(0, at).append(kHole).append(prompt.substr(at + item.subject.size())));
    }
  }
  std::vector<std::string> others;
  for (const auto& name : names)
    if (!subjects.contains(name)) others.push_back(name);
  std::vector<std::string> out;
  if (others.empty()) return out;
  for (const std::string& t : templates)
    for (int64_t i = 0; i < per_phrasing; ++i) {
      std::string prompt = t;
      prompt.replace(prompt.find(kHole), kHole.size(), others[rng.below(others.size())]);
      out.push_back(std::move(prompt));
    }
  return out;
}

}  // namespace accrete
