#include "text/wording.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <set>

#include "text/unicode.h"

namespace accrete {
namespace {

using unicode::Category;

Category category_of(char32_t c) {
  return static_cast<Category>(unicode::properties()[c] & unicode::kCategoryMask);
}

bool is_letter(Category c) {
  return (c >= unicode::kLu && c <= unicode::kLo) || (c >= unicode::kMn && c <= unicode::kMe);
}
bool is_digit(Category c) {
  return c >= unicode::kNd && c <= unicode::kNo;
}
bool is_symbol(char32_t c, Category category) {
  return (category >= unicode::kSm && category <= unicode::kSo) || c == '#' || c == '&' ||
         c == '%' || c == '@' || c == '*' || c == U'°';
}
bool is_space(char32_t c) {
  return (unicode::properties()[c] & unicode::kSpace) != 0;
}

// Scripts whose words no space parts.
bool stands_alone(char32_t c) {
  return (c >= 0x0E00 && c <= 0x0EFF) ||                                  // Thai, Lao
         (c >= 0x1000 && c <= 0x109F) ||                                  // Myanmar
         (c >= 0x1780 && c <= 0x17FF) ||                                  // Khmer
         (c >= 0x3040 && c <= 0x30FF) ||                                  // kana
         (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x4E00 && c <= 0x9FFF) ||  // Han
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x20000 && c <= 0x3FFFF);
}

std::string mapped(std::string_view text, int options) {
  utf8proc_uint8_t* out = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &out,
                                 static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> held(out, &std::free);
  // Not UTF-8: as it is.
  return size < 0 ? std::string(text)
                  : std::string(reinterpret_cast<const char*>(out), static_cast<size_t>(size));
}

std::string folded(std::string_view text) {
  return mapped(text, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD |
                          UTF8PROC_IGNORE);
}

// One character of valid or broken UTF-8: bytes that are none count as U+FFFD.
std::pair<char32_t, size_t> next(std::string_view text, size_t at) {
  const unicode::Step step = unicode::step(text.substr(at));
  if (step.kind != unicode::Step::kCharacter) return {0xFFFD, step.size};
  return unicode::decode(text.data() + at);
}

bool is_article(const std::string& form) {
  static const std::set<std::string> kArticles = {"the", "a",    "an",   "my",   "this",
                                                  "our", "that", "your", "their"};
  return kArticles.contains(form);
}

// Whether words [at, at + name.size()) of `words` are those of `name`.
bool matches(std::span<const Word> words, size_t at, std::span<const Word> name) {
  if (at + name.size() > words.size()) return false;
  for (size_t i = 0; i < name.size(); ++i)
    if (words[at + i].form != name[i].form) return false;
  return true;
}

// What may stand inside a name without a capital.
bool is_connector(const std::string& form) {
  static const std::set<std::string> kWords = {
      "of",  "the", "and", "&",   "de", "la", "le", "du", "da", "di", "von", "van",
      "der", "den", "del", "for", "s",  "+",  "#",  "y",  "e",  "et", "und"};
  return kWords.contains(form);
}

bool is_number(const std::string& form) {
  return std::all_of(form.begin(), form.end(), [](unsigned char c) {
    return (c >= '0' && c <= '9') || c == '.' || c == ',' || c == ':';
  });
}

// Days and months stand in questions about anybody: alone they name nothing.
bool is_calendar_word(const std::string& form) {
  static const std::set<std::string> kWords = {
      "monday",  "tuesday",   "wednesday",  "thursday",  "friday",  "saturday",  "sunday",
      "mondays", "tuesdays",  "wednesdays", "thursdays", "fridays", "saturdays", "sundays",
      "january", "february",  "march",      "april",     "may",     "june",      "july",
      "august",  "september", "october",    "november",  "december"};
  return kWords.contains(form);
}

// A capital there says as little as one at the beginning of the text.
bool begins_sentence(const std::string& text, const Word& word) {
  size_t at = word.begin;
  while (at > 0 && (text[at - 1] == ' ' || text[at - 1] == '"' || text[at - 1] == '\'')) --at;
  return at == 0 || text[at - 1] == '.' || text[at - 1] == '!' || text[at - 1] == '?' ||
         text[at - 1] == ':' || text[at - 1] == '\n';
}

}  // namespace

bool is_function_word(const std::string& form) {
  static const std::set<std::string> kWords = {
      "a",      "an",    "the",   "i",     "i'm",  "is",    "are",    "was",   "were",  "do",
      "does",   "did",   "what",  "who",   "whom", "whose", "when",   "where", "which", "why",
      "how",    "can",   "could", "would", "will", "shall", "should", "may",   "might", "must",
      "please", "tell",  "say",   "give",  "name", "and",   "or",     "of",    "in",    "on",
      "at",     "to",    "for",   "from",  "by",   "with",  "about",  "my",    "your",  "our",
      "their",  "his",   "her",   "its",   "it",   "this",  "that",   "these", "those", "there",
      "you",    "we",    "they",  "he",    "she",  "me",    "us",     "has",   "have",  "had",
      "if",     "as",    "so",    "not",   "no",   "yes",   "hi",     "hello", "hey",   "s",
      "t",      "any",   "some",  "than",  "then", "be",    "been",   "under", "over",  "after",
      "before", "since", "until", "per",   "ok",   "okay",  "well",   "now"};
  return kWords.contains(form);
}

bool is_content_word(const std::string& form) {
  const char32_t first = form.empty() ? 0 : next(form, 0).first;
  return !form.empty() && !is_function_word(form) && !is_symbol(first, category_of(first));
}

std::vector<Word> words_of(std::string_view text) {
  std::vector<Word> words;
  for (size_t at = 0; at < text.size();) {
    const auto [c, size] = next(text, at);
    const Category category = category_of(c);
    const bool letter = is_letter(category), digit = is_digit(category);
    if (!letter && !digit && !is_symbol(c, category)) {
      at += size;
      continue;
    }
    Word word;
    word.begin = at;
    const auto upper = [](Category k) { return k == unicode::kLu || k == unicode::kLt; };
    word.capital = upper(category);
    word.number = digit;
    at += size;
    if ((letter || digit) && !stands_alone(c)) {
      bool after_digit = digit;
      while (at < text.size()) {
        const auto [d, more] = next(text, at);
        const Category kind = category_of(d);
        if (is_letter(kind) || is_digit(kind)) {
          if (stands_alone(d)) break;
          after_digit = is_digit(kind);
          word.number |= after_digit;
          word.capital |= upper(kind);
          at += more;
          continue;
        }
        // The point of 3.5, the colon of 1:30: inside a number alone.
        if (after_digit && (d == '.' || d == ':' || d == ',') && at + more < text.size()) {
          const auto [e, size_e] = next(text, at + more);
          if (is_digit(category_of(e))) {
            at += more + size_e;
            continue;
          }
        }
        break;
      }
    } else if (stands_alone(c)) {
      // Vowel signs and the like belong to the character before them.
      while (at < text.size()) {
        const auto [d, more] = next(text, at);
        const Category kind = category_of(d);
        if (kind < unicode::kMn || kind > unicode::kMe) break;
        at += more;
      }
    }
    word.end = at;
    word.form = folded(text.substr(word.begin, word.end - word.begin));
    if (!word.form.empty()) words.push_back(std::move(word));
  }
  return words;
}

std::string name_key(std::string_view name) {
  std::string out;
  for (const Word& word : words_of(name)) out += (out.empty() ? "" : " ") + word.form;
  return out;
}

std::vector<std::pair<size_t, size_t>> find_name(std::string_view text, std::string_view name) {
  const std::vector<Word> words = words_of(text), wanted = words_of(name);
  std::vector<std::pair<size_t, size_t>> out;
  if (wanted.empty()) return out;
  for (size_t i = 0; i + wanted.size() <= words.size();) {
    if (matches(words, i, wanted)) {
      out.emplace_back(words[i].begin, words[i + wanted.size() - 1].end);
      i += wanted.size();
    } else {
      ++i;
    }
  }
  return out;
}

std::string mask_name(std::string_view text, std::string_view name) {
  const std::vector<Word> words = words_of(text), wanted = words_of(name);
  if (wanted.empty()) return std::string(text);
  std::string out;
  size_t done = 0;
  for (size_t i = 0; i + wanted.size() <= words.size();) {
    if (!matches(words, i, wanted)) {
      ++i;
      continue;
    }
    size_t begin = words[i].begin;
    if (i > 0 && words[i - 1].begin >= done && is_article(words[i - 1].form) &&
        text.substr(words[i - 1].end, begin - words[i - 1].end).find_first_not_of(" \t\n\r") ==
            std::string_view::npos)
      begin = words[i - 1].begin;
    out += text.substr(done, begin - done);
    out += "something";
    done = words[i + wanted.size() - 1].end;
    i += wanted.size();
  }
  out += text.substr(done);
  return out;
}

std::string shared_name(std::span<const std::string> wordings) {
  if (wordings.empty()) return {};
  // Longer texts have their names somewhere at the beginning, and no name has more words.
  constexpr size_t kMostWords = 256, kLongestName = 12;
  std::vector<std::vector<Word>> all;
  for (const auto& w : wordings) {
    all.push_back(words_of(w));
    if (all.back().size() > kMostWords) all.back().resize(kMostWords);
  }
  const std::vector<Word>& first = all.front();
  // Where run [i, i + n) of the first wording stands in wording `w`; nothing: it is not there.
  const auto place = [&](size_t i, size_t n, size_t w) -> std::optional<size_t> {
    for (size_t at = 0; at + n <= all[w].size(); ++at)
      if (matches(all[w], at, std::span(first).subspan(i, n))) return at;
    return std::nullopt;
  };
  const auto shared = [&](size_t i, size_t n) {
    for (size_t w = 1; w < all.size(); ++w)
      if (!place(i, n, w)) return false;
    return true;
  };
  // Whether word k of the run, as any wording writes it, could be part of a name.
  const auto tells = [&](size_t i, size_t n, size_t k) {
    for (size_t w = 0; w < all.size(); ++w) {
      const size_t at = *place(i, n, w) + k;
      const Word& word = all[w][at];
      if (word.number) return true;
      if (!word.capital || is_function_word(word.form)) continue;
      if (!begins_sentence(wordings[w], word)) return true;
      // A capital at the beginning of a sentence says something where the next word goes on.
      if (k + 1 < n && (all[w][at + 1].capital || all[w][at + 1].number)) return true;
    }
    return false;
  };
  // No name goes on behind the end of a sentence or a heading ("Answer: ...").
  const auto ends_behind = [&](size_t k) {
    const std::string_view gap =
        std::string_view(wordings[0]).substr(first[k].end, first[k + 1].begin - first[k].end);
    return gap.find_first_of("?!:;\n") != std::string_view::npos;
  };
  const auto room_at = [&](size_t i) {
    size_t n = 1;
    while (i + n < first.size() && n < kLongestName && !ends_behind(i + n - 1)) ++n;
    return n;
  };
  size_t best_at = 0, best = 0;
  for (size_t i = 0; i < first.size(); ++i)
    for (size_t n = room_at(i); n > best; --n) {
      if (!shared(i, n)) continue;
      bool name = tells(i, n, 0) && tells(i, n, n - 1), letters = false, calendar = false;
      for (size_t k = 0; k < n && name; ++k) {
        name = tells(i, n, k) || is_connector(first[i + k].form);
        calendar |= is_calendar_word(first[i + k].form);
        letters |= !is_number(first[i + k].form) && !is_calendar_word(first[i + k].form);
      }
      if (!name) continue;
      if (calendar && !letters) break;
      if (letters) {
        best_at = i;
        best = n;
      } else if (i > 0 && n + 1 > best && !is_function_word(first[i - 1].form) &&
                 !is_number(first[i - 1].form) &&
                 shared(i - 1, n + 1)) {  // a number needs what it counts: "hub 3"
        best_at = i - 1;
        best = n + 1;
      }
      break;
    }
  if (best == 0) return {};
  const size_t begin = first[best_at].begin, end = first[best_at + best - 1].end;
  return wordings[0].substr(begin, end - begin);
}

bool name_goes_on(std::string_view text, std::span<const Word> words, size_t begin, size_t end) {
  if (end >= words.size() || begin >= end) return false;
  const auto digit = [](const std::string& form) {
    return form.front() >= '0' && form.front() <= '9';
  };
  const Word& next = words[end];
  if (digit(next.form)) return !digit(words[end - 1].form);
  for (size_t i = words[end - 1].end; i < next.begin; ++i)
    if (text[i] != ' ' && text[i] != '-') return false;
  // What makers tell their things apart by; some are words of questions too, where they are small.
  static const std::set<std::string> kVersions = {"pro",    "xl", "lite",   "ultra", "mini",
                                                  "junior", "jr", "senior", "sr"};
  static const std::set<std::string> kCapitalVersions = {"max", "plus", "se", "air", "gt", "neo",
                                                         "ii",  "iii",  "iv", "v",   "vi", "s"};
  if (kVersions.contains(next.form)) return true;
  if (!next.capital) return false;
  if (kCapitalVersions.contains(next.form)) return true;
  const std::string_view written = text.substr(next.begin, next.end - next.begin);
  const bool shout = written.size() > 1 && std::none_of(written.begin(), written.end(), [](char c) {
                       return (c >= 'a' && c <= 'z') || static_cast<unsigned char>(c) >= 0x80;
                     });
  if (shout || is_function_word(next.form)) return false;  // "the Hub 3 USB port"
  static const std::set<std::string> kIs = {"is", "are", "was", "were"};
  if (end + 1 == words.size() && begin <= 2 && kIs.contains(words.front().form)) return false;
  bool small = false;  // a word that a headline would write with a capital
  for (size_t k = 1; k < words.size(); ++k) {
    const Word& word = words[k];
    if ((k >= begin && k <= end) || word.number || word.form == "i" || word.form == "i'm") continue;
    if (word.capital && is_function_word(word.form)) return false;
    small |= !word.capital;
  }
  return small;
}

std::string plain_question(std::string_view text) {
  const std::string form = mapped(text, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
  std::string out;
  for (size_t at = 0; at < form.size();) {
    const auto [c, size] = next(form, at);
    if (is_space(c)) {
      if (!out.empty() && out.back() != ' ') out += ' ';
    } else if (c == 0x2019) {
      out += '\'';
    } else {
      out.append(form, at, size);
    }
    at += size;
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  std::string_view rest = out;
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  const auto begins = [&](std::string_view text_, std::string_view word) {
    if (text_.size() < word.size()) return false;
    for (size_t i = 0; i < word.size(); ++i)
      if (lower(text_[i]) != word[i]) return false;
    return true;
  };
  for (const std::string_view greeting : {"hi", "hello", "hey"}) {
    if (!begins(rest, greeting)) continue;
    std::string_view after = rest.substr(greeting.size());
    if (begins(after, " there")) after.remove_prefix(6);
    while (!after.empty() && after.front() == ' ') after.remove_prefix(1);
    if (after.empty() || std::string_view(",!.").find(after.front()) == std::string_view::npos)
      continue;
    after.remove_prefix(1);
    while (!after.empty() && after.front() == ' ') after.remove_prefix(1);
    rest = after;
    break;
  }
  size_t end = rest.size();
  while (end > 0 && std::string_view("?.! ").find(rest[end - 1]) != std::string_view::npos) --end;
  std::string kept(rest);
  if (end > 6 && begins(rest.substr(end - 6, 6), "please") &&
      (rest[end - 7] == ' ' || rest[end - 7] == ',')) {
    size_t cut = end - 6;
    while (cut > 0 && (rest[cut - 1] == ' ' || rest[cut - 1] == ',')) --cut;
    kept = std::string(rest.substr(0, cut)) + std::string(rest.substr(end));
  }
  return words_of(kept).empty() ? out : kept;
}

std::string question_key(std::string_view text) {
  std::string key = folded(plain_question(text));
  while (!key.empty() && std::string_view("?. ").find(key.back()) != std::string_view::npos)
    key.pop_back();
  return key.empty() ? identity_of(text) : key;
}

std::string identity_of(std::string_view text) {
  size_t begin = 0, end = text.size();
  while (begin < end) {
    const auto [c, size] = next(text, begin);
    if (!is_space(c)) break;
    begin += size;
  }
  // Backwards by characters of valid UTF-8; what is broken is kept.
  while (end > begin) {
    size_t at = end - 1;
    while (at > begin && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    const auto [c, size] = next(text, at);
    if (!is_space(c) || at + size != end) break;
    end = at;
  }
  return mapped(text.substr(begin, end - begin), UTF8PROC_STABLE | UTF8PROC_COMPOSE);
}

bool same_text(std::string_view a, std::string_view b) {
  return identity_of(a) == identity_of(b);
}

bool asks_to_write(std::string_view message) {
  static const std::set<std::string, std::less<>> kAhead = {
      "please", "can", "could", "would", "you", "now", "and", "then", "i", "want", "to", "kindly"};
  static const std::set<std::string, std::less<>> kWrite = {
      "write",     "describe",  "compose",   "draft",  "summarise",
      "summarize", "advertise", "introduce", "praise", "invent"};
  const auto words = words_of(message);
  bool opening = true;  // nothing but courtesies since the sentence began
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) {
      const std::string_view between =
          message.substr(words[i - 1].end, words[i].begin - words[i - 1].end);
      if (between.find_first_of(".!?:;\n") != std::string_view::npos) opening = true;
    }
    const std::string& form = words[i].form;
    if (opening && kWrite.contains(form)) return true;
    // "Tell me about ..." is open, "Tell me the weight of ..." is not.
    if (opening && form == "tell" && i + 2 < words.size() && words[i + 1].form == "me" &&
        (words[i + 2].form == "about" || words[i + 2].form == "something" ||
         words[i + 2].form == "more"))
      return true;
    if (!kAhead.contains(form)) opening = false;
  }
  return false;
}

}  // namespace accrete
