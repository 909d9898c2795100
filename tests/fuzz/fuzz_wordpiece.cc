// WordPiece tokenizers: any tokenizer.json, and any text for known ones. The first byte says which.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fuzz_testing.h"
#include "io/strict_json.h"
#include "text/unicode.h"
#include "text/wordpiece.h"

namespace {

using accrete::WordPiece;
using accrete::fuzz::allow_errors;
using accrete::fuzz::require;
using nlohmann::json;

const json& base_json() {
  static const json base = json::parse(R"({
    "added_tokens": [{"id": 1, "content": "[CLS]", "special": true}],
    "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                   "strip_accents": null, "lowercase": true},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]},
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
              "max_input_chars_per_word": 12,
              "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "ab": 4, "##a": 5, "##ab": 6,
                        "##c": 7, ".": 8, "[": 9, "漢": 10, "é": 11, "##é": 12, "##\u0301": 13,
                        "ᄀ": 14, "##ᅡ": 15, "😀": 16, "1": 17, "##1": 18, "": 19, "##": 20}}})");
  return base;
}

std::vector<WordPiece> make_tokenizers() {
  std::vector<WordPiece> tokenizers;
  for (int switches = 0; switches < 16; ++switches) {
    json spec = base_json();
    json& normalizer = spec["normalizer"];
    normalizer["clean_text"] = (switches & 1) == 0;
    normalizer["handle_chinese_chars"] = (switches & 2) == 0;
    normalizer["strip_accents"] = (switches & 4) == 0;
    normalizer["lowercase"] = (switches & 8) == 0;
    tokenizers.push_back(WordPiece::parse(spec.dump(), "fuzz"));
  }
  return tokenizers;
}

void check_text(const WordPiece& tokenizer, std::string_view text) {
  const std::vector<int32_t> all =
      tokenizer.encode(text, static_cast<int64_t>(4 * text.size() + 16));
  for (const int32_t id : all) require(id >= 0 && id < tokenizer.vocab_size());
  for (const size_t most : {size_t{16}, all.size()}) {
    const std::vector<int32_t> ids = tokenizer.encode(text, static_cast<int64_t>(most));
    require(ids.size() == std::min(most, all.size()));
    require(std::equal(ids.begin(), ids.end() - 1, all.begin()) && ids.back() == all.back());
  }
  // Spaces part a text; nothing reaches across them.
  std::vector<int32_t> twice = all;
  twice.insert(twice.end() - 1, all.begin() + 1, all.end() - 1);
  const std::string doubled = std::string(text) + " " + std::string(text);
  require(tokenizer.encode(doubled, static_cast<int64_t>(twice.size())) == twice);
}

void check_json(std::string_view spec) {
  const WordPiece tokenizer = WordPiece::parse(spec, "fuzz");
  for (const char* text : {"", "a", " ab abc A\u0301.b", "\xFF\xC3[CLS]", "漢 1½ 😀 각"})
    allow_errors([&] {
      for (const int32_t id : tokenizer.encode(text, 64))
        require(id >= 0 && id < tokenizer.vocab_size());
    });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const uint8_t mode = data[0];
  const std::string_view rest = accrete::fuzz::text_of(data + 1, size - 1);
  if (mode == 0) {
    allow_errors([&] { check_json(rest); });
  } else if (mode == 1) {
    allow_errors([&] {
      json spec = base_json();
      spec.merge_patch(accrete::parse_json(rest, "fuzz"));
      check_json(spec.dump());
    });
  } else {
    static const std::vector<WordPiece> tokenizers = make_tokenizers();
    check_text(tokenizers[mode % tokenizers.size()], rest);
  }
  return 0;
}
