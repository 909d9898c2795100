#include "text/message.h"

#include <algorithm>
#include <set>

#include "text/passages.h"
#include "text/trimmed.h"
#include "text/wording.h"

namespace accrete {
namespace {

constexpr size_t kMost = 8;            // parts
constexpr size_t kLongest = 16 << 10;  // bytes that are looked at, the last of a message
constexpr size_t kShortLine = 6;       // words; a shorter line is no line of a paragraph

using Forms = std::set<std::string, std::less<>>;
const Forms kAsking = {"how", "what", "when", "where", "who", "whom", "whose", "which", "why"};
const Forms kHelping = {"is",    "are",  "was",   "were",   "do",  "does", "did", "can",
                        "could", "will", "would", "should", "may", "must", "has", "have"};
const Forms kWhom = {"i",   "we",  "you",   "it",  "he",   "she",  "they",   "there",    "the",
                     "a",   "an",  "my",    "our", "your", "this", "that",   "these",    "those",
                     "one", "its", "their", "his", "her",  "any",  "anyone", "somebody", "someone"};
const Forms kLeading = {"up",   "to",    "for",  "from",  "in",      "on",      "at",     "by",
                        "with", "until", "till", "since", "of",      "after",   "under",  "within",
                        "per",  "about", "over", "into",  "between", "through", "during", "before"};
// Ahead of a question, and no part of it.
const Forms kAhead = {"and",  "so",   "but",    "also",   "now",  "then", "ok",
                      "okay", "well", "please", "kindly", "just", "or"};
const Forms kWish = {"need",    "want",   "wonder", "wondering", "tell",       "let",
                     "looking", "please", "pls",    "curious",   "interested", "wish"};
// How a sentence begins that says how to answer.
const Forms kInstructs = {"answer", "reply", "respond", "use",    "write",   "keep",
                          "format", "give",  "return",  "output", "explain", "phrase",
                          "put",    "say",   "be",      "in",     "no",      "as"};
const Forms kForm = {"json",   "sentence", "sentences", "words",    "word",   "german",   "spanish",
                     "french", "english",  "italian",   "list",     "bullet", "bullets",  "yaml",
                     "short",  "brief",    "briefly",   "markdown", "table",  "child",    "simple",
                     "key",    "format",   "only",      "xml",      "csv",    "language", "points",
                     "polite", "friendly", "caps",      "capitals", "emoji",  "rhyme",    "line"};
const Forms kThanks = {"thanks",    "thank",     "thx",   "regards", "cheers",
                       "sincerely", "greetings", "yours", "bye",     "ty"};
const Forms kGreets = {"hi", "hello", "hey", "dear", "good", "hallo", "howdy"};

bool holds(const std::vector<Word>& words, const Forms& any) {
  return std::any_of(words.begin(), words.end(),
                     [&](const Word& word) { return any.contains(word.form); });
}

// Behind what stands ahead of a question at word i.
size_t behind_ahead(const std::vector<Word>& words, size_t i) {
  while (i + 1 < words.size() && kAhead.contains(words[i].form)) ++i;
  return i;
}

// Whether a question begins at word i; be it "Up to how many ..." or "On which day ...".
bool begins_question(const std::vector<Word>& words, size_t i) {
  for (size_t k = 0; k < 2 && i + 1 < words.size() && kLeading.contains(words[i].form); ++k) ++i;
  if (i >= words.size()) return false;
  if (kAsking.contains(words[i].form)) return true;
  return i + 1 < words.size() && kHelping.contains(words[i].form) &&
         kWhom.contains(words[i + 1].form);
}

bool says_thanks(const std::vector<Word>& words) {
  return words.size() <= 9 && holds(words, kThanks);
}

bool greets(const std::vector<Word>& words) {
  return words.size() <= 4 && !words.empty() && kGreets.contains(words.front().form);
}

bool says_how_to_answer(const std::vector<Word>& words, bool question) {
  if (question || words.empty() || words.size() > 16) return false;
  return kInstructs.contains(words[behind_ahead(words, 0)].form) && holds(words, kForm);
}

void add(std::string& to, std::string_view text) {
  if (text.empty()) return;
  if (!to.empty()) to += ' ';
  to += text;
}

// The lines of a message, of which those are joined that a program has broken.
std::vector<std::string> paragraphs_of(std::string_view message) {
  std::vector<std::string> out;
  bool open = false;  // the last line may go on
  for (size_t at = 0; at <= message.size();) {
    const size_t end = std::min(message.find('\n', at), message.size());
    const std::string_view line = trimmed(message.substr(at, end - at));
    at = end + 1;
    if (line.empty()) {
      open = false;
      continue;
    }
    const bool lower = line.front() >= 'a' && line.front() <= 'z';
    if (open && lower)
      add(out.back(), line);
    else
      out.emplace_back(line);
    open = std::string_view(".?!:").find(line.back()) == std::string_view::npos &&
           words_of(line).size() >= kShortLine;
  }
  return out;
}

// Where in a sentence clauses begin that ask by themselves, in bytes; behind its first word.
std::vector<size_t> later_questions(std::string_view sentence, const std::vector<Word>& words) {
  std::vector<size_t> out;
  for (size_t i = 1; i < words.size(); ++i) {
    const std::string_view between =
        sentence.substr(words[i - 1].end, words[i].begin - words[i - 1].end);
    const bool parted = between.find_first_of(",;:.!?-)(\"") != std::string_view::npos ||
                        between.find("\u2013") != std::string_view::npos ||
                        between.find("\u2014") != std::string_view::npos;
    // "... and what does it cost": three words at least on both sides.
    const bool joined = words[i - 1].form == "and" && i > 3 && words.size() >= i + 3;
    if (!parted && !joined) continue;
    const size_t from = behind_ahead(words, i);
    if (begins_question(words, from) && (out.empty() || out.back() != words[from].begin))
      out.push_back(words[from].begin);
  }
  return out;
}

// Whether nothing but "and" stands before the clause at `at`: then what is before it asks as well
// ("Price of the Hub and when are you open?").
bool joined_by_and(std::string_view sentence, size_t at) {
  std::string_view before = trimmed(sentence.substr(0, at));
  if (!before.ends_with(" and")) return false;
  before = trimmed(before.substr(0, before.size() - 4));
  return !before.empty() &&
         std::string_view(",;:.!?-)(\"").find(before.back()) == std::string_view::npos;
}

// A clause without what joins it to the next one.
std::string_view without_joint(std::string_view clause) {
  for (bool more = true; more;) {
    clause = trimmed(clause);
    more = false;
    for (const std::string_view joint :
         {",", ";", ":", "-", "(", " and", " or", " but", " so", " also"})
      if (clause.ends_with(joint)) {
        clause.remove_suffix(joint.size());
        more = true;
      }
  }
  return clause;
}

}  // namespace

std::vector<MessagePart> asking_parts(std::string_view message) {
  if (message.size() > kLongest) message.remove_prefix(message.size() - kLongest);
  std::vector<std::string> sentences;
  for (const std::string& paragraph : paragraphs_of(message))
    for (std::string& sentence : sentences_of(paragraph)) sentences.push_back(std::move(sentence));
  struct Part {
    size_t sentence;
    size_t from, end;  // bytes
    bool full = false, clause = false;
  };
  std::vector<Part> asks, rest;
  for (size_t s = 0; s < sentences.size(); ++s) {
    const std::string& sentence = sentences[s];
    const auto words = words_of(sentence);
    const size_t last = sentence.find_last_not_of("\"')] ");
    const size_t first = behind_ahead(words, 0);
    const bool asking = (last != std::string::npos && sentence[last] == '?') ||
                        sentence.ends_with("？") || begins_question(words, first);
    if (words.empty() || says_thanks(words) || greets(words) || says_how_to_answer(words, asking))
      continue;
    const bool wishes = holds(words, kWish) || sentence.find("d like") != std::string::npos;
    const bool alone = sentences.size() == 1;
    const auto own = std::count_if(words.begin(), words.end(),
                                   [](const Word& word) { return is_content_word(word.form); });
    if (!alone) (asking || wishes ? asks : rest).push_back({s, 0, sentence.size(), own >= 2});
    const auto later = later_questions(sentence, words);
    if (later.empty()) continue;
    if (begins_question(words, first) || joined_by_and(sentence, later.front()))
      asks.push_back({s, words[first].begin, later.front(), false, true});
    for (size_t k = 0; k < later.size(); ++k)
      asks.push_back(
          {s, later[k], k + 1 < later.size() ? later[k + 1] : sentence.size(), false, true});
  }
  // What is left of courtesies and instructions is what the message is about.
  if (asks.empty() && rest.size() == 1) asks = rest;
  if (asks.size() > kMost) asks.erase(asks.begin(), asks.end() - static_cast<int64_t>(kMost));
  std::vector<MessagePart> out;
  for (const Part& part : asks) {
    const std::string_view sentence = sentences[part.sentence];
    MessagePart one;
    one.text = without_joint(sentence.substr(part.from, part.end - part.from));
    one.full = part.full;
    one.sentence = part.sentence;
    one.clause = part.clause;
    for (size_t k = 0; k < part.sentence; ++k) add(one.before, sentences[k]);
    add(one.before, trimmed(sentence.substr(0, part.from)));
    add(one.behind, trimmed(sentence.substr(part.end)));
    for (size_t k = part.sentence + 1; k < sentences.size(); ++k) add(one.behind, sentences[k]);
    out.push_back(std::move(one));
  }
  return out;
}

}  // namespace accrete
