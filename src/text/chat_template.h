// Chat templates: messages to the prompt text of a model.
//
// Templates in the wild are Jinja programs. ChatML ("<|im_start|>role\n...<|im_end|>\n", with an
// optional default system message: SmolLM2, Qwen2, ...) is recognised by what the template does,
// evaluated with unknown contents on all shapes of conversation that it can tell apart; tools are
// absent in all of them. Any other template is a clear error (kUnsupported), never a guess.
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
  // Recognises the template's text. Throws kUnsupported with the template's first line and the
  // reason.
  static ChatTemplate from_jinja(std::string_view jinja);
  // From chat_template.jinja or else tokenizer_config.json's chat_template (the "default" of
  // several); nullopt when the model has none. Throws also kIo, kFormat.
  static std::optional<ChatTemplate> from_folder(const std::filesystem::path& folder);

  // The prompt for `messages`, as `transformers` renders it; with `add_generation_prompt`, up to
  // where the assistant begins to speak. Throws kInvalidArgument for no messages and for roles
  // other than system, user and assistant.
  std::string render(std::span<const Message> messages, bool add_generation_prompt) const;
  // What ends a turn of the assistant: "<|im_end|>".
  const std::string& end_of_turn() const { return end_of_turn_; }
  const std::optional<std::string>& default_system() const { return default_system_; }

 private:
  ChatTemplate() = default;
  std::string end_of_turn_ = "<|im_end|>";
  // Put first when messages do not begin with a system message.
  std::optional<std::string> default_system_;
  bool closes_last_ = true;              // end_of_turn also behind the last message
  bool prompts_after_assistant_ = true;  // add_generation_prompt acts whoever spoke last
};

}  // namespace accrete
