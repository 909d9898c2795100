// A question that leaves out what was asked just before: "And on Sunday?" behind "When is the bar
// open on Saturday?" is "When is the bar open on Sunday?".
//
// Non-goals: whom a conversation is about (memory/fact_store.h), languages other than English.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "text/wording.h"

namespace accrete {

// The whole question, or nothing where `fragment` is none of this kind: it begins with "and", "what
// about" or a preposition, asks nothing by itself, and each of its words takes the place of one of
// its class in `before` (text/contrast.h), of the name there, or stands behind a preposition. Both
// are plain questions (wording.h). `name`, `name_before`: the last known names that stand in them,
// or empty.
std::string follow_up(std::string_view fragment, std::string_view before, std::string_view name,
                      std::string_view name_before);

// Whether words speak of somebody named before: "it", "their".
bool has_pronoun(std::span<const Word> words);

// Whether a question says too little alone: with a pronoun, or hardly a word of its own.
bool leans_on_earlier(std::span<const Word> words);

// Whether a message goes on with what was asked before and asks nothing by itself: "And on
// Sundays?", "What about DVDs?".
bool is_fragment(std::string_view text);

// "And how heavy is it?" about somebody named before: "how heavy is NAME?". A question that has no
// pronoun ("and the price?") is asked of the name.
std::string with_name(const std::string& text, const std::string& name);

}  // namespace accrete
