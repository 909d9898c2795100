// Words by which a question asks for another thing than a fact answers: "Are you open on Sunday?"
// beside what was taught about Saturday. A sentence encoder puts such questions side by side.
//
// A question contrasts with a fact by one of two rules.
// - By class (contrast_classes.inc, a table of words of which one is asked for or the other): all
//   wordings of the fact hold one member of a class, and the question holds others alone. Numbers
//   are a class for each thing that they count: "60 minutes" is another than "30 minutes", and
//   neither is one of "2 people".
// - By frame: the question is a wording but for one word, no wording of the fact holds that word,
//   and all hold the one that it replaces (or the two are members of one class).
// What a fact's wordings leave open, or say in other words, contrasts with nothing.
//
// Non-goals: synonyms, languages other than English, negation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/wording.h"

namespace accrete {

// The table as it is written, for who reads it without this library.
std::string_view contrast_table();

// Words [first, last) of a text that are a member of a class. A class of numbers is "#" and what
// they count.
struct ClassMember {
  size_t first = 0, last = 0;
  std::string of_class, member;
};
// In order of the text; a word may be a member of several classes. None of those that count in a
// frame alone.
std::vector<ClassMember> class_members(std::span<const Word> words);

// Texts are plain questions (wording.h) with the subject masked.
class TaughtContrasts {
 public:
  // The next fact, with all its wordings.
  void add(std::span<const std::string> wordings);
  // Of each fact in order whether the question contrasts with it.
  std::vector<bool> with(std::string_view question) const;

 private:
  // A class and a member of it that a text holds; sorted.
  using Members = std::vector<std::pair<std::string, std::string>>;
  struct Fact {
    Members fixed;  // of the classes of which all wordings hold one member: what any holds
    size_t first = 0, last = 0;  // of wordings_
  };
  using Ids = std::span<const uint32_t>;
  static Members members_of(std::string_view text);
  static bool by_class(const Members& asked, const Members& fixed);
  bool by_frame(const std::vector<std::string>& asked, Ids asked_ids, const Fact& fact) const;
  Ids wording(size_t i) const {
    return Ids(words_).subspan(wordings_[i].first, wordings_[i].second);
  }

  std::vector<Fact> facts_;
  std::vector<std::pair<size_t, size_t>> wordings_;  // where in words_, and how many
  std::vector<uint32_t> words_;                      // in the singular, by number
  std::vector<std::string> names_;                   // of a number
  std::unordered_map<std::string, uint32_t> numbers_;
};

}  // namespace accrete
