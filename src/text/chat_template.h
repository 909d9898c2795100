// Chat templates: messages to the prompt text of a model.
//
// Templates in the wild are Jinja programs. ChatML (SmolLM2, Qwen2:
// "<|im_start|>role\n...<|im_end|>\n", with an optional default system message) is recognised by
// rendering rules read from the template text; any other template is a clear error (kUnsupported),
// never a guess.
//
// Non-goals: a Jinja interpreter, tool calls.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "io/dataset.h"

namespace accrete {

class ChatTemplate {
 public:
  // Recognises the template's text. Throws kUnsupported with the template's first line.
  static ChatTemplate from_jinja(std::string_view jinja);
  // From tokenizer_config.json's chat_template or chat_template.jinja; nullopt when the model has
  // none.
  static std::optional<ChatTemplate> from_folder(const std::filesystem::path& folder);

  // The prompt for `messages`; with `add_generation_prompt`, up to where the assistant begins to
  // speak.
  std::string render(std::span<const Message> messages, bool add_generation_prompt) const;
  // What ends a turn of the assistant: "<|im_end|>".
  const std::string& end_of_turn() const { return end_of_turn_; }
  const std::optional<std::string>& default_system() const { return default_system_; }

 private:
  ChatTemplate() = default;
  std::string end_of_turn_ = "<|im_end|>";
  std::optional<std::string>
      default_system_;  // put first when messages do not begin with a system message
};

}  // namespace accrete
