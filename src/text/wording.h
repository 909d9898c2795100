// Words of a question, names in it, and when two texts are the same.
//
// A name is found as a run of whole words, in the compatibility form of Unicode and without regard
// to case: "Ada" is not in "Adana", "Hub 3" is not "Hub 4", "ＨＵＢ 3" is "Hub 3". Scripts that are
// written without spaces (Han, kana, Thai, ...) have a border at every character.
//
// Non-goals: stemming, spelling, languages.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace accrete {

// A run of letters, marks and digits, a number with its point or colon inside ("3.5", "1:30"), or
// one symbol ("+", "#", "%"). Punctuation and spaces part words and are none.
struct Word {
  std::string form;  // NFKC, case folded
  size_t begin = 0;  // bytes in the text
  size_t end = 0;
  bool capital = false;  // holds an upper-case letter
  bool number = false;   // holds a digit
};
std::vector<Word> words_of(std::string_view text);

// Of forms: a word that stands in many questions and in no name by itself ("the", "which"); and one
// that is neither such a word nor a sign.
bool is_function_word(const std::string& form);
bool is_content_word(const std::string& form);

// The forms of a name's words, joined by spaces: equal keys, the same name. Empty: it has no word.
std::string name_key(std::string_view name);

// Byte ranges [begin, end) of every occurrence of `name` in `text`, in order, without overlaps.
std::vector<std::pair<size_t, size_t>> find_name(std::string_view text, std::string_view name);

// `text` with each occurrence of `name`, and an article or possessive before it, replaced by
// "something": the question without whom it is about.
std::string mask_name(std::string_view text, std::string_view name);

// Whether the name that words [begin, end) of a text are goes on behind them, so that another is
// meant: "Quillo 7 Pro" is not "Quillo 7", "Tilda Swinton" not "Tilda", "Hub 3" not "Hub". A
// number, a word as products are told apart by, or a capital that neither stands in a headline nor
// is said of the name ("Is Tilda Dutch?").
bool name_goes_on(std::string_view text, std::span<const Word> words, size_t begin, size_t end);

// A question as it is read: NFKC, white space squeezed, one form of apostrophe, without "Hi,"
// before it and "please" behind it.
std::string plain_question(std::string_view text);

// Two questions are one when these are equal: the plain question, case folded, without "?" or "."
// at its end. Signs, articles and all that stands inside count.
std::string question_key(std::string_view text);

// Whom the wordings of one fact are about: the longest run of words that all of them share and that
// could be a name: words with capitals (not merely at the start of a sentence) or digits, and "of"
// and the like between them. Empty: about nothing in particular. As the first wording writes it.
std::string shared_name(std::span<const std::string> wordings);

// NFC without white space at the ends: equal, and two texts are one. What the program acts on is
// compared so, never by a rule made for scoring.
std::string identity_of(std::string_view text);
bool same_text(std::string_view a, std::string_view b);

// Whether a message asks for a text about something ("Write a short poem about ...", "Describe
// ...", "Tell me something about ..."), and not for one fact.
bool asks_to_write(std::string_view message);

}  // namespace accrete
