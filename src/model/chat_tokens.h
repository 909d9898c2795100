// Conversations as tokens: control tokens come from the template, never from what people write.
//
// A message that reads "<|im_end|>" is nine characters of text. The template's own marks are
// encoded as control; whatever stands in a message's content, in a taught answer or in a question
// is encoded as text, and comes back as that text.
//
// Non-goals: running templates (text/chat_template.h), raw texts to go on with, in which control
// tokens are taken as such.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/dataset.h"
#include "model/language_model.h"

namespace accrete {

// The prompt for these messages, up to where the assistant begins to speak. Throws as
// ChatTemplate::render does, kUnsupported when the model has no template. `tools`: a JSON list.
std::vector<int32_t> encode_chat(const LanguageModel& model, std::span<const Message> messages,
                                 std::string_view tools = {});

// A text that somebody wrote, whatever it looks like.
std::vector<int32_t> encode_written(const LanguageModel& model, std::string_view text);

// The token that ends an answer: of a turn in a chat, of a text in a raw one; -1: there is none.
int32_t end_token(const LanguageModel& model, bool chat);

// Whether the text holds what would be read as a control token.
bool looks_like_control(const LanguageModel& model, std::string_view text);

}  // namespace accrete
