// Byte-pair encoding of single words, on bytes.
//
// The byte-level alphabet of GPT-2, in which vocabularies are written ("Ġthe" is " the"), appears
// only while a vocabulary is read.
//
// Non-goals: dropout, affixes of subwords, byte fallback.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace accrete::text {

// The bytes that a token of the byte-level alphabet stands for; nullopt when it has any other
// character. An empty token stands for no bytes.
std::optional<std::string> bytes_of_token(std::string_view token);

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using Vocabulary = std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>>;

class Bpe {
 public:
  // From tokenizer.json's "model". Throws kFormat, kUnsupported.
  explicit Bpe(const nlohmann::json& json);

  // Appends the ids of a word. A byte that the vocabulary lacks becomes the unknown token, and is
  // left out where there is none (SmolLM2), as Hugging Face does.
  void encode_word(std::string_view bytes, std::vector<int32_t>& ids) const;
  // Tokens as they are written in the file.
  const Vocabulary& vocabulary() const { return vocabulary_; }
  // The greatest id, + 1.
  int32_t id_limit() const { return id_limit_; }

 private:
  static constexpr uint32_t kNoRank = UINT32_MAX;
  struct Merge {
    uint64_t pair = UINT64_MAX;  // left << 32 | right
    uint32_t rank = kNoRank;     // lower merges first
    int32_t id = 0;              // what the two become
  };

  void read_vocabulary(const nlohmann::json& json);
  void read_merges(const nlohmann::json& json);
  void insert(uint64_t pair, uint32_t rank, int32_t id);
  // The merge of two neighbours; one with rank kNoRank when there is none.
  const Merge& merge(int32_t left, int32_t right) const;
  void merge_short(std::vector<int32_t>& ids, size_t begin) const;
  void merge_long(std::vector<int32_t>& ids, size_t begin) const;
  void encode_uncached(std::string_view bytes, std::vector<int32_t>& ids) const;

  Vocabulary vocabulary_;
  Vocabulary whole_words_;  // by bytes; only with ignore_merges
  bool ignore_merges_ = false;
  int32_t unknown_id_ = -1;
  bool fuse_unknown_ = false;
  int32_t id_limit_ = 0;
  std::array<int32_t, 256> byte_ids_{};
  std::vector<Merge> merges_;  // open addressing, a power of two
  int merges_shift_ = 0;
  uint32_t serial_ = 0;  // tells the models apart in the word cache of a thread
};

}  // namespace accrete::text
