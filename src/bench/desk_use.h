// Taught facts that are used and not recited: the questions of data/desk/use_*.jsonl and what a
// right reply to them is, by the rules of data/desk/USE.md.
//
// Non-goals: asking (desk_measure.h), grammar, other languages than those of the file.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/dataset.h"

namespace accrete {

struct UseItem {
  std::string kind;
  std::vector<std::string> facts;  // ids
  std::string question;
  std::string system;                       // may be empty
  std::vector<Message> messages;            // the whole conversation; empty: the question alone
  std::string asked_in;                     // language of the question; may be empty
  std::vector<std::string> must, must_not;  // "a|b": one of them
  std::string answer;                       // "yes", "no" or empty
  std::string form;                         // empty: any
};

// One line of the file. `source` and `line` go into messages. Throws kFormat.
UseItem parse_use(const nlohmann::json& json, std::string_view source, int64_t line);

// Whether one of the alternatives `a|b` stands in the text on borders.
bool found_in(std::string_view alternatives, std::string_view text);

// Right content.
bool use_right(const UseItem& item, std::string_view reply);
// In the form that was asked for. `answers`: those that the facts were taught with.
bool use_form(const UseItem& item, std::string_view reply, std::span<const std::string> answers);

// The words that a language is told by: "german", "spanish", "english".
std::string_view language_words(std::string_view language);

}  // namespace accrete
