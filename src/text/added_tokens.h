// Added tokens: strings that are found in the text before anything else happens to it.
//
// Non-goals: adding tokens to a tokenizer.
#pragma once

#include <cstdint>
#include <deque>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/bpe.h"
#include "text/normalizer.h"

namespace accrete::text {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool single_word = false;  // not next to a word character
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // ... and behind it
  bool normalized = false;   // looked for after the others, in what they left, normalised
};

// A part of the text: a token when id >= 0, text otherwise.
struct TextPart {
  std::string_view text;
  int32_t id = -1;
};

class AddedTokens {
 public:
  // From tokenizer.json's "added_tokens". Throws kFormat; also where an id contradicts `model`.
  AddedTokens(const nlohmann::json& json, const Vocabulary& model, Normalizer normalizer);

  // Cuts valid UTF-8 into tokens and normalised text. Special tokens are text unless
  // `parse_special`. Texts that normalisation changed are kept in `storage`, which must not be
  // destroyed before the parts.
  std::vector<TextPart> split(std::string_view text, bool parse_special,
                              std::deque<std::string>& storage) const;

  const std::unordered_map<int32_t, AddedToken>& by_id() const { return by_id_; }
  const Vocabulary& ids() const { return ids_; }

 private:
  // A trie over bytes; finds the longest token at a place.
  class Finder {
   public:
    // False when the content is there already.
    bool add(std::string_view content, int32_t id);
    bool empty() const { return nodes_.size() == 1; }
    // The first token at or behind `at`, the longest one there; id -1 when there is none.
    struct Found {
      size_t begin;
      size_t end;
      int32_t id;
    };
    Found find(std::string_view text, size_t at) const;

   private:
    struct Node {
      int32_t id = -1;
      std::vector<std::pair<unsigned char, uint32_t>> next;  // sorted by byte
    };
    uint32_t child(uint32_t node, unsigned char byte) const;

    std::vector<Node> nodes_ = std::vector<Node>(1);
    bool starts_[256] = {};
  };

  void split_with(const Finder& finder, std::string_view text, bool parse_special,
                  std::vector<TextPart>& parts) const;

  Normalizer normalizer_;
  std::unordered_map<int32_t, AddedToken> by_id_;
  Vocabulary ids_;
  Finder as_written_;
  Finder normalized_;
};

}  // namespace accrete::text
