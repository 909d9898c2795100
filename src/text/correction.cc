#include "text/correction.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "text/trimmed.h"

namespace accrete {
namespace {

constexpr size_t kLongest = 300, kLongestAnswer = 120;
constexpr std::string_view kBlank = " \t\r\n";

// With "that is" and "that's" before them.
constexpr std::array<std::string_view, 10> kNoLonger = {
    "no longer correct", "no longer right", "no longer true", "not correct", "not right",
    "out of date",       "incorrect",       "outdated",       "old news",    "wrong"};
constexpr std::array<std::string_view, 22> kOpenings = {"it has changed",
                                                        "this has changed",
                                                        "that has changed",
                                                        "it's changed",
                                                        "that's changed",
                                                        "it changed",
                                                        "this changed",
                                                        "that changed",
                                                        "we changed it",
                                                        "small correction",
                                                        "correction",
                                                        "not any more",
                                                        "not anymore",
                                                        "update",
                                                        "i'm afraid",
                                                        "i am afraid",
                                                        "sorry",
                                                        "nope",
                                                        "wrong",
                                                        "no longer",
                                                        "not quite",
                                                        "no"};
// From when on a claim holds: "from today", "as of 1 May", "starting next week".
constexpr std::array<std::string_view, 6> kFrom = {
    "as of", "from", "starting", "effective", "with effect from", "since"};
constexpr std::array<std::string_view, 28> kTimes = {
    "today",     "tomorrow",  "now",      "this",     "next",     "the",    "monday",
    "tuesday",   "wednesday", "thursday", "friday",   "saturday", "sunday", "january",
    "february",  "march",     "april",    "may",      "june",     "july",   "august",
    "september", "october",   "november", "december", "summer",   "winter", "autumn"};
constexpr std::array<std::string_view, 24> kVerbs = {
    "is called", "should be", "must be", "opens at", "closes at", "starts at", "ends at", "weighs",
    "weigh",     "closes",    "lasts",   "costs",    "starts",    "takes",     "opens",   "cost",
    "last",      "take",      "have",    "ends",     "has",       "are",       "is",      "was"};
constexpr std::array<std::string_view, 8> kPronouns = {"it",  "that", "this", "they",
                                                       "she", "he",   "we",   "you"};
// What these begin is about the answer, and is none.
constexpr std::array<std::string_view, 42> kNoAnswers = {
    "not",    "no",      "wrong",     "right",     "fine",     "ok",      "okay",
    "good",   "correct", "true",      "false",     "all",      "enough",  "great",
    "what",   "that",    "this",      "because",   "why",      "nothing", "nice",
    "bad",    "there",   "different", "incorrect", "outdated", "it",      "broken",
    "so",     "very",    "too",       "really",    "still",    "already", "never",
    "always", "just",    "welcome",   "sorry",     "raining",  "me",      "us"};

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '\'' || (c & 0x80) != 0;
}

// Takes a phrase off the front, where a word ends behind it.
bool take(std::string_view& low, std::string_view& text, std::string_view phrase) {
  if (!low.starts_with(phrase) || (low.size() > phrase.size() && is_word(low[phrase.size()])))
    return false;
  low.remove_prefix(phrase.size());
  text.remove_prefix(phrase.size());
  return true;
}

void skip(std::string_view& low, std::string_view& text, std::string_view characters) {
  const size_t n = std::min(low.find_first_not_of(characters), low.size());
  low.remove_prefix(n);
  text.remove_prefix(n);
}

// "No, that is wrong." and the pause behind it.
bool take_opening(std::string_view& low, std::string_view& text) {
  const auto begins = [&](std::string_view l, std::string_view t, bool must_pause) {
    skip(l, t, kBlank);
    // "No problem" and "no one" do not pause.
    if (must_pause &&
        (l.empty() || std::string_view(",.;:!-").find(l.front()) == std::string_view::npos))
      return false;
    skip(l, t, " ,.;:!-");
    (void)take(l, t, "but");
    skip(l, t, " ");
    low = l;
    text = t;
    return true;
  };
  std::string_view l = low, t = text;
  if (take(l, t, "actually") || take(l, t, "in fact")) return begins(l, t, false);
  l = low, t = text;
  if (take(l, t, "that is") || take(l, t, "that's") || take(l, t, "this is")) {
    skip(l, t, " ");
    for (const std::string_view phrase : kNoLonger)
      if (take(l, t, phrase)) return begins(l, t, true);
  }
  l = low, t = text;
  for (const std::string_view opening : kOpenings)
    if (take(l, t, opening))
      return begins(l, t,
                    opening != "sorry" && opening != "i'm afraid" && opening != "i am afraid");
  return false;
}

// Whom the claim is about: a pronoun, or "the", "its", "our" and at most four words.
bool take_subject_and_verb(std::string_view& low, std::string_view& text) {
  std::string_view l = low, t = text;
  if (take(l, t, "it's") || take(l, t, "that's") || take(l, t, "they're") || take(l, t, "we're") ||
      take(l, t, "you're")) {
    low = l;
    text = t;
    return true;
  }
  constexpr int kMost = 4;
  int words = -1;  // none may follow a pronoun
  for (const std::string_view pronoun : kPronouns)
    if (words < 0 && take(l, t, pronoun)) words = 0;
  if (words < 0 &&
      (take(l, t, "the") || take(l, t, "its") || take(l, t, "our") || take(l, t, "your")))
    words = kMost;
  if (words < 0) return false;
  for (;; --words) {
    skip(l, t, " ");
    (void)(take(l, t, "now") || take(l, t, "only"));
    skip(l, t, " ");
    for (const std::string_view verb : kVerbs) {
      if (words == kMost || !take(l, t, verb)) continue;  // "the last ferry" has no verb yet
      low = l;
      text = t;
      return true;
    }
    if (words <= 0) return false;
    const size_t end =
        std::min(l.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789'-"), l.size());
    if (end == 0) return false;
    l.remove_prefix(end);
    t.remove_prefix(end);
  }
}

// "From today on,": a claim that holds from now on gives way to another.
bool take_time(std::string_view& low, std::string_view& text) {
  for (const std::string_view from : kFrom) {
    std::string_view l = low, t = text;
    if (!take(l, t, from)) continue;
    skip(l, t, " ");
    const bool digit = !l.empty() && std::isdigit(static_cast<unsigned char>(l.front())) != 0;
    bool time = digit;
    for (const std::string_view word : kTimes) {
      std::string_view ll = l, tt = t;
      time = time || take(ll, tt, word);
    }
    if (!time) return false;
    // At most five words of it; then the claim.
    for (int words = 0; words < 6; ++words) {
      std::string_view ll = l, tt = t;
      skip(ll, tt, " ,:");
      if (take(ll, tt, "to") || take(ll, tt, "until") || take(ll, tt, "till")) return false;
      if (words > 0 && take_subject_and_verb(ll, tt)) {
        skip(l, t, " ,:");
        low = l;
        text = t;
        return true;
      }
      const size_t end = std::min(ll.find_first_of(" ,:"), ll.size());
      if (end == 0) return false;
      ll.remove_prefix(end);
      tt.remove_prefix(end);
      l = ll;
      t = tt;
    }
    return false;
  }
  return false;
}

// Up to where a sentence ends: 3.5 goes on.
std::string_view first_sentence(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const bool last = i + 1 == text.size() || text[i + 1] == ' ';
    if (text[i] == ';' || ((text[i] == '.' || text[i] == '!') && last)) return text.substr(0, i);
  }
  return text;
}

}  // namespace

std::optional<std::string> corrected_answer(std::string_view message) {
  std::string_view text = trimmed(message);
  if (text.empty() || text.size() > kLongest ||
      text.find_first_of("?\n\r") != std::string_view::npos)
    return std::nullopt;
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  std::string_view low = lower;
  int openings = 0;
  while (openings < 3 && take_opening(low, text)) ++openings;
  openings += take_time(low, text);
  if (openings == 0 || !take_subject_and_verb(low, text)) return std::nullopt;
  skip(low, text, " ");
  for (const std::string_view filler : {"now", "actually", "only"}) {
    (void)take(low, text, filler);
    skip(low, text, " ");
  }
  std::string_view answer = trimmed(first_sentence(text));
  for (const std::string_view end : {" now", " today", " instead"})
    if (answer.ends_with(end)) answer = trimmed(answer.substr(0, answer.size() - end.size()));
  if (answer.empty() || answer.size() > kLongestAnswer ||
      std::none_of(answer.begin(), answer.end(), is_word))
    return std::nullopt;
  const std::string_view first =
      low.substr(0, std::min(low.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), low.size()));
  if (std::find(kNoAnswers.begin(), kNoAnswers.end(), first) != kNoAnswers.end())
    return std::nullopt;
  return std::string(answer);
}

}  // namespace accrete
