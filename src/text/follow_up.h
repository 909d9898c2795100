// A question that leaves out what was asked just before: "And on Sunday?" behind "When is the bar
// open on Saturday?" is "When is the bar open on Sunday?".
//
// Non-goals: pronouns and whom a conversation is about (memory/fact_store.h), languages other than
// English.
#pragma once

#include <string>
#include <string_view>

namespace accrete {

// The whole question, or nothing where `fragment` is none of this kind: it begins with "and", "what
// about" or a preposition, asks nothing by itself, and each of its words takes the place of one of
// its class in `before` (text/contrast.h), of the name there, or stands behind a preposition. Both
// are plain questions (wording.h). `name`, `name_before`: the last known names that stand in them,
// or empty.
std::string follow_up(std::string_view fragment, std::string_view before, std::string_view name,
                      std::string_view name_before);

}  // namespace accrete
