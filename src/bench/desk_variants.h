// The same question as other people, or the same ones on another day, would put it: in capitals,
// with a slip of the finger, with a space at its end, under a system prompt, as the third of a
// conversation.
//
// Non-goals: other words for it, which are the data's.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/rng.h"
#include "io/dataset.h"
#include "model/ask.h"

namespace accrete {

// ASCII letters in upper case.
std::string in_capitals(std::string_view text);
// Two letters change places inside one word, which `rng` draws and which is not of the subject
// (may be empty). A text without such a word stays as it is.
std::string with_typo(const std::string& text, const std::string& subject, Rng rng);

// The last message of the user, or the raw text, put another way.
AskRequest with_text(const AskRequest& request, std::string text);
const std::string& text_of(const AskRequest& request);

// Of a chat: with a system prompt, and as the third question of the user, after two exchanges that
// conversations begin with.
AskRequest under_system(const AskRequest& request, const std::string& system);
AskRequest in_third_turn(const AskRequest& request, std::span<const Message> first,
                         std::span<const Message> second);

}  // namespace accrete
