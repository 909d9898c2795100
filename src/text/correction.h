// Whether a message corrects the answer before it, and with what: "No, it is now 199 euros." says
// "199 euros".
//
// Only one sentence in plain English counts that begins by saying no ("No", "That is wrong",
// "Actually", "It has changed") or from when on it holds ("From today"), and then claims something
// ("it costs", "it is now", "the price is"). Whoever needs more
// teaches it. What is found is to be shown to a person, never believed.
//
// Non-goals: what the answer before was (serve/api_proposals.cc), languages other than English.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace accrete {

// The answer that a message gives in the place of another. nullopt: it corrects nothing, or not
// surely.
std::optional<std::string> corrected_answer(std::string_view message);

}  // namespace accrete
