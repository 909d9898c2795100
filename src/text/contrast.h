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

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace accrete {

// The table as it is written, for who reads it without this library.
std::string_view contrast_table();

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
    std::vector<std::vector<std::string>> wordings;  // their words in the singular
  };
  static Members members_of(std::string_view text);
  static bool by_class(const Members& asked, const Members& fixed);
  static bool by_frame(const std::vector<std::string>& asked, const Fact& fact);

  std::vector<Fact> facts_;
};

}  // namespace accrete
