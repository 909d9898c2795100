// What the tests of the text layer share.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/format.h"
#include "base/rng.h"
#include "text/bpe.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace accrete::text_testing {

using nlohmann::json;
using Ids = std::vector<int32_t>;

inline std::string data_path(const std::string& name) {
  return accrete::format("{}/text/{}", ACCRETE_TEST_DATA, name);
}

// The character of GPT-2's alphabet for each byte, in the order of the vocabulary.
inline std::vector<std::string> byte_tokens() {
  std::vector<std::string> tokens, others;
  int next = 256;
  for (int b = 0; b < 256; ++b) {
    std::string token;
    const bool itself = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    unicode::append_utf8(token, itself ? b : next++);
    (itself ? tokens : others).push_back(token);
  }
  tokens.insert(tokens.end(), others.begin(), others.end());
  return tokens;
}

inline json byte_level(bool add_prefix_space = false, bool use_regex = true) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

inline json added_token(int id, const std::string& content, json flags = json::object()) {
  json token = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", true}};
  token.update(flags);
  return token;
}

// A byte-level tokenizer of the 256 bytes (ids 0 to 255 in vocabulary order) and these merges.
inline json tokenizer_json(const std::vector<std::string>& merges,
                           const std::vector<std::string>& added = {}) {
  json vocab = json::object();
  for (const std::string& token : byte_tokens()) vocab[token] = vocab.size();
  for (std::string merge : merges) {
    merge.erase(merge.find(' '), 1);
    if (!vocab.contains(merge)) vocab[merge] = vocab.size();
  }
  json added_tokens = json::array();
  for (const std::string& token : added)
    added_tokens.push_back(
        added_token(static_cast<int>(vocab.size() + added_tokens.size()), token));
  return {{"version", "1.0"},
          {"added_tokens", added_tokens},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level()},
          {"post_processor", nullptr},
          {"decoder", byte_level()},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

inline json gpt2_json() {
  std::ifstream file(data_path("gpt2-merges.txt"));
  std::vector<std::string> merges;
  for (std::string line; std::getline(file, line);) merges.push_back(line);
  EXPECT_EQ(merges.size(), 50000u);
  return tokenizer_json(merges, {"<|endoftext|>"});
}

inline std::string file_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Characters that make pre-tokenisers differ, in all lengths of UTF-8.
inline std::string random_text(Rng& rng, size_t length) {
  static const std::vector<std::string> kParts = {
      "a",      "B",      "s",      "t",      "ll",     "re",     "'",      "'s", " ",
      " ",      "  ",     "\n",     "\r",     "\r\n",   "\t",     "\v",     ".",  "!?",
      "1",      "23",     "é",      "ſ",      "\u0301", "\u00a0", "\u0085", "½",  "٣",
      "漢",     "\u3000", "\u2028", "\u200b", "\u180e", "😀",     "𝟘",      "Ⅻ",  "\x1c",
      "\u06de", "VE",     "'LL",    "-",      "K",      "ß",      "\u0378", "𑷠",  "ं"};
  std::string text;
  for (size_t i = 0; i < length; ++i) text += kParts[rng.below(kParts.size())];
  return text;
}

template <typename Call>
ErrorCode code_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_STRNE(error.what(), "");
    EXPECT_NE(error.hint(), "");
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::kInternal;
}

}  // namespace accrete::text_testing
