// A small WordPiece tokenizer for tests.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text_testing.h"

namespace accrete::text_testing {

// An uncased BERT tokenizer.json with a few words; words of more than 20 characters are unknown.
inline json wordpiece_json() {
  const std::vector<std::string> words = {
      "[PAD]", "[UNK]", "[CLS]", "[SEP]",  "[MASK]", "a",      "b",      "c",
      "d",     "i",     "abc",   "weigh",  "how",    "much",   "does",   "it",
      "##a",   "##b",   "##c",   "##ing",  "##s",    ".",      "?",      "!",
      "[",     "]",     "#",     "\u00bf", "\u6f22", "\u00e9", "\u1100", "##\u1161"};
  json vocab = json::object(), added = json::array();
  for (size_t i = 0; i < words.size(); ++i) vocab[words[i]] = i;
  for (int i = 0; i < 5; ++i) added.push_back(added_token(i, words[static_cast<size_t>(i)]));
  const auto special = [&](const char* token) {
    return json{{"SpecialToken", {{"id", token}, {"type_id", 0}}}};
  };
  const auto ids = [&](const char* token) {
    return json{{"id", token}, {"ids", {vocab[token]}}, {"tokens", {token}}};
  };
  return {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer",
       {{"type", "BertNormalizer"},
        {"clean_text", true},
        {"handle_chinese_chars", true},
        {"strip_accents", nullptr},
        {"lowercase", true}}},
      {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", json::array({special("[CLS]"), json{{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                                special("[SEP]")})},
        {"special_tokens", {{"[CLS]", ids("[CLS]")}, {"[SEP]", ids("[SEP]")}}}}},
      {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
      {"model",
       {{"type", "WordPiece"},
        {"unk_token", "[UNK]"},
        {"continuing_subword_prefix", "##"},
        {"max_input_chars_per_word", 20},
        {"vocab", vocab}}}};
}

}  // namespace accrete::text_testing
