// Chat templates: messages to the prompt text of a model.
//
// Templates are Jinja programs, and are run as such (text/jinja): the text is that of
// `transformers`' apply_chat_template, with tools and without documents. Some templates write the
// day of today (strftime_now); SOURCE_DATE_EPOCH in the environment fixes it. What a template needs
// beyond that is a clear error (kUnsupported), never a guess.
//
// Non-goals: what a tool is (any JSON), images.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "io/dataset.h"

namespace accrete {

class ChatTemplate {
 public:
  // `special_tokens`: by the names that templates have for them, "bos_token". Throws kUnsupported,
  // with the template's first line and the reason, when a user's message and its answer cannot be
  // rendered.
  static ChatTemplate from_jinja(std::string_view jinja,
                                 const std::map<std::string, std::string>& special_tokens = {});
  // From chat_template.jinja or else tokenizer_config.json's chat_template (the "default" of
  // several), with that file's special tokens; nullopt when the model has none. Throws also kIo,
  // kFormat.
  static std::optional<ChatTemplate> from_folder(const std::filesystem::path& folder);

  // The prompt for `messages`, as `transformers` renders it; with `add_generation_prompt`, up to
  // where the assistant begins to speak. `tools`: a JSON list as text; empty: none. Throws
  // kInvalidArgument for no messages, for roles other than system, user, assistant and, where the
  // template takes tools, tool, and for what the template itself refuses (a system message, two of
  // one role in a row); kUnsupported (also: tools that it does not take).
  std::string render(std::span<const Message> messages, bool add_generation_prompt,
                     std::string_view tools = {}) const;
  // Whether it writes tools into the prompt.
  bool takes_tools() const { return takes_tools_; }
  // What ends a turn of the assistant: "<|im_end|>", "<|eot_id|>", "</s>". Empty when nothing does.
  const std::string& end_of_turn() const { return end_of_turn_; }

 private:
  struct Template;
  explicit ChatTemplate(std::shared_ptr<const Template> own) : own_(std::move(own)) {}

  std::shared_ptr<const Template> own_;  // immutable: copies are cheap and thread-safe
  std::string end_of_turn_;
  bool takes_tools_ = false;
};

}  // namespace accrete
