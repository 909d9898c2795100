// Byte-level BPE tokenizers (GPT-2, Llama 3, SmolLM2, Qwen families), from tokenizer.json.
//
// Encoding equals Hugging Face `tokenizers` id for id, added and special tokens, normalisers and
// pre-tokenisers included; what is not understood is refused at load, never approximated.
//
// Non-goals: training a tokenizer; SentencePiece/Unigram (a later family).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accrete {

class Tokenizer {
 public:
  // From a parsed tokenizer.json. Throws kFormat, kUnsupported (naming the part).
  static Tokenizer from_json(const nlohmann::json& json);
  // From `folder`/tokenizer.json and, for the special token roles, tokenizer_config.json.
  static Tokenizer from_folder(const std::filesystem::path& folder);

  // UTF-8 text to ids. Special tokens written in the text ("<|im_start|>") are parsed when
  // `parse_special`; nothing is added before (opening) or after. Invalid UTF-8 is encoded byte by
  // byte.
  std::vector<int32_t> encode(std::string_view text, bool parse_special = true) const;
  // Ids to bytes. Throws kInvalidArgument for an id out of range.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;

  // What the tokenizer's post-processor puts before a text, such as Llama's "<|begin_of_text|>".
  // May be empty.
  const std::vector<int32_t>& opening() const;
  // A text that is not a rendered chat as `transformers` gives it to a model: behind the opening,
  // unless it begins with that itself.
  std::vector<int32_t> encode_text(std::string_view text) const;

  int32_t vocab_size() const;                                     // ids are in [0, vocab_size)
  std::optional<int32_t> token_id(std::string_view token) const;  // exact vocabulary entry
  bool is_special(int32_t id) const;
  std::optional<int32_t> bos() const;
  std::optional<int32_t> eos() const;  // tokenizer_config.json's eos_token

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;  // immutable: copies are cheap and thread-safe
};

// Decodes a stream of ids and hands out only whole UTF-8 characters; what remains broken at the end
// comes out as U+FFFD.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special = true)
      : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}
  // The text that became complete with this id; may be empty.
  std::string push(int32_t id);
  // The rest.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  bool skip_special_;
  std::string pending_;
};

}  // namespace accrete
