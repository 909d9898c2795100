// WordPiece tokenizers (BERT and what descends from it), from tokenizer.json.
//
// Encoding equals Hugging Face `tokenizers` id for id: BertNormalizer, BertPreTokenizer, WordPiece,
// the special tokens round a text, truncation. What is not understood is refused when the file is
// read, never approximated. A text is a text: "[SEP]" written by a user is three words and no
// control token (`encode_special_tokens` of that library).
//
// Non-goals: decoding, pairs of texts, padding, training a tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace accrete {

class WordPiece {
 public:
  // From the content of a tokenizer.json; `source` names it in messages. Throws kFormat,
  // kUnsupported (naming the part).
  static WordPiece parse(std::string_view json, std::string_view source);
  // Throws kNotFound and kIo, too.
  static WordPiece from_file(const std::filesystem::path& path);

  // The ids of a text between the special tokens, `max_length` in all or fewer: the words that do
  // not fit are left out at its end. Bytes that are not UTF-8 count as U+FFFD, which cleaning
  // drops. Throws kInvalidArgument where not even the special tokens fit.
  std::vector<int32_t> encode(std::string_view text, int64_t max_length) const;

  // The id of a whole word as the vocabulary writes it; -1: it has none.
  int32_t word_id(std::string_view word) const;
  int32_t vocab_size() const;                 // ids are in [0, vocab_size)
  std::optional<int64_t> max_length() const;  // the file's own truncation

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;  // immutable: copies are cheap and thread-safe
};

}  // namespace accrete
