// The vocabulary of a WordPiece tokenizer, read straight from the text of a tokenizer.json.
//
// Tens of thousands of entries are most of such a file. Reading them into JSON values and those
// into a map took most of what opening a reader took; here they go to one table of offsets.
//
// Non-goals: other models' vocabularies, from id to token.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace accrete::text {

class WordPieceVocabulary {
 public:
  // FNV-1a, so that the hashes of all prefixes of a word come in one go.
  static constexpr uint64_t kStart = 0xCBF29CE484222325;
  static uint64_t step(uint64_t hash, char c) {
    return (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  }
  static uint64_t hash(std::string_view text, uint64_t from = kStart) {
    for (const char c : text) from = step(from, c);
    return from;
  }

  // The id of the token `start` + `rest`, whose hash this is; -1 where there is none.
  int32_t find(std::string_view start, std::string_view rest, uint64_t hash) const;
  // False where the token is there already.
  bool add(std::string_view token, int32_t id);

  size_t longest() const { return longest_; }     // bytes of a token
  int32_t id_limit() const { return id_limit_; }  // the greatest id, + 1

 private:
  struct Entry {
    uint32_t begin, size;
    int32_t id;
    uint32_t hash;  // the upper half
  };
  void grow();

  std::string bytes_;  // of all tokens
  std::vector<Entry> entries_;
  std::vector<uint32_t> slots_;  // an entry's number + 1, or 0; a power of two, at most half full
  size_t longest_ = 0;
  int32_t id_limit_ = 0;
};

// The object "vocab" of the object "model" in a JSON text, and that text with {} in its place,
// which is for a parser to check. Throws kFormat.
std::pair<WordPieceVocabulary, std::string> read_wordpiece_vocabulary(std::string_view json,
                                                                      std::string_view source);

}  // namespace accrete::text
