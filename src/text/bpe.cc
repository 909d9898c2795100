#include "text/bpe.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <queue>

#include "base/format.h"
#include "text/json_fields.h"
#include "text/unicode.h"

namespace accrete::text {
namespace {

// Up to this many symbols the pair of lowest rank is found by looking at all of them.
constexpr size_t kShortWord = 96;

// GPT-2's bytes_to_unicode(): printable bytes are themselves, the rest follow U+0100.
constexpr size_t kAlphabetEnd = 0x144;

const std::array<int16_t, kAlphabetEnd>& alphabet() {
  static const auto table = [] {
    std::array<int16_t, kAlphabetEnd> bytes;
    bytes.fill(-1);
    size_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool itself = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      bytes[itself ? b : next++] = static_cast<int16_t>(b);
    }
    return bytes;
  }();
  return table;
}

uint64_t mixed(uint64_t x) {
  return x * 0x9E3779B97F4A7C15u;
}

// The words a thread met last, for all models together. A thread of its own needs no lock, and a
// serial that is never used again needs no clearing.
struct CachedWord {
  static constexpr size_t kMostBytes = 26;
  static constexpr size_t kMostIds = 8;

  uint32_t serial = 0;
  uint8_t size = 0;
  uint8_t count = 0;
  char bytes[kMostBytes] = {};
  int32_t ids[kMostIds] = {};
};
static_assert(sizeof(CachedWord) == 64);

class WordCache {
 public:
  CachedWord& slot(std::string_view word, uint32_t serial) {
    uint64_t hash = mixed(serial ^ word.size() << 32);
    const char* at = word.data();
    size_t left = word.size();
    for (uint64_t part; left >= 8; at += 8, left -= 8) {
      std::memcpy(&part, at, 8);
      hash = mixed(std::rotl(hash, 29) ^ part);
    }
    uint64_t part = 0;
    std::memcpy(&part, at, left);
    hash = mixed(std::rotl(hash, 29) ^ part);
    return slots_[hash >> (64 - kBits)];
  }

 private:
  static constexpr int kBits = 14;
  std::unique_ptr<CachedWord[]> slots_ = std::make_unique<CachedWord[]>(size_t{1} << kBits);
};

std::atomic<uint32_t> last_serial = 0;

// "a b" or ["a", "b"].
std::pair<std::string_view, std::string_view> pair_of(const Json& json) {
  if (json.is_string()) {
    const std::string_view text = json.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos)
      fail_format("model merges", accrete::format("{:?} is not a pair", text));
    return {text.substr(0, space), text.substr(space + 1)};
  }
  if (!json.is_array() || json.size() != 2 || !json[0].is_string() || !json[1].is_string())
    fail_format("model merges", "an entry is not a pair");
  return {json[0].get_ref<const std::string&>(), json[1].get_ref<const std::string&>()};
}

}  // namespace

std::optional<std::string> bytes_of_token(std::string_view token) {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const auto [c, size] = unicode::decode(token.data() + at);
    if (c >= kAlphabetEnd || alphabet()[c] < 0) return std::nullopt;
    bytes += static_cast<char>(alphabet()[c]);
    at += size;
  }
  return bytes;
}

Bpe::Bpe(const Json& json) {
  if (!json.is_object()) fail_format("model", "not an object");
  if (json.contains("type") && string_at(json, "type", "model") != "BPE")
    fail_unsupported("model", accrete::format("the type {:?}", string_at(json, "type", "model")));
  const Json& dropout = member(json, "dropout");
  if (!dropout.is_null() && dropout != 0.0)
    fail_unsupported("model", "dropout, which makes encoding random");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!member(json, affix).is_null() && !string_at(json, affix, "model").empty())
      fail_unsupported("model", affix);

  read_vocabulary(member(json, "vocab"));
  read_merges(member(json, "merges"));

  // Where every byte has a token nothing is ever unknown, and these say nothing.
  if (std::count(byte_ids_.begin(), byte_ids_.end(), -1) > 0) {
    if (bool_or(json, "byte_fallback", false, "model"))
      fail_unsupported("model", "byte_fallback in a vocabulary without a token for every byte");
    if (!member(json, "unk_token").is_null()) {
      const auto found = vocabulary_.find(string_at(json, "unk_token", "model"));
      if (found == vocabulary_.end()) fail_format("model", "unk_token is not in the vocabulary");
      unknown_id_ = found->second;
      fuse_unknown_ = bool_or(json, "fuse_unk", false, "model");
    }
  }
  ignore_merges_ = bool_or(json, "ignore_merges", false, "model");
  if (ignore_merges_) {
    for (const auto& [token, id] : vocabulary_)
      if (auto bytes = bytes_of_token(token)) whole_words_.emplace(std::move(*bytes), id);
  }
  serial_ = ++last_serial;
}

void Bpe::read_vocabulary(const Json& json) {
  if (!json.is_object()) fail_format("model", "no vocab");
  // Ids index tables: a stray one must not make them huge.
  const int64_t limit = 4 * static_cast<int64_t>(json.size()) + 100'000;
  vocabulary_.reserve(json.size());
  for (const auto& [token, id] : json.items()) {
    if (!id.is_number_integer() || id < 0 || id >= limit)
      fail_format("model vocab", accrete::format("{:?} has no usable id", token));
    if (unicode::valid_prefix(token) != token.size())
      fail_format("model vocab",
                  accrete::format("the token of id {} is not UTF-8", id.get<int32_t>()));
    vocabulary_.emplace(token, id.get<int32_t>());
    id_limit_ = std::max(id_limit_, id.get<int32_t>() + 1);
  }
  std::vector<bool> taken(id_limit_);
  for (const auto& [token, id] : vocabulary_) {
    if (taken[id]) fail_format("model vocab", accrete::format("two tokens have the id {}", id));
    taken[id] = true;
  }

  byte_ids_.fill(-1);
  for (char32_t c = 0; c < kAlphabetEnd; ++c) {
    if (alphabet()[c] < 0) continue;
    std::string token;
    unicode::append_utf8(token, c);
    const auto found = vocabulary_.find(token);
    if (found != vocabulary_.end()) byte_ids_[alphabet()[c]] = found->second;
  }
}

void Bpe::read_merges(const Json& json) {
  if (!json.is_array()) fail_format("model", "no merges");
  const size_t capacity = std::bit_ceil(std::max<size_t>(16, 2 * json.size()));
  merges_.resize(capacity);
  merges_shift_ = 64 - std::countr_zero(capacity);
  uint32_t rank = 0;
  std::string joined;
  for (const Json& entry : json) {
    if (entry.is_string() && entry.get_ref<const std::string&>().starts_with("#version")) continue;
    const auto [left, right] = pair_of(entry);
    joined.assign(left).append(right);
    const auto id = [&](std::string_view token) {
      const auto found = vocabulary_.find(token);
      if (found == vocabulary_.end())
        fail_format("model merges", accrete::format("{:?} is not in the vocabulary", token));
      return found->second;
    };
    const uint64_t pair = static_cast<uint64_t>(id(left)) << 32 | static_cast<uint32_t>(id(right));
    insert(pair, rank++, id(joined));
  }
}

void Bpe::insert(uint64_t pair, uint32_t rank, int32_t id) {
  for (size_t i = mixed(pair) >> merges_shift_;; i = (i + 1) & (merges_.size() - 1)) {
    if (merges_[i].rank != kNoRank && merges_[i].pair != pair) continue;
    merges_[i] = {pair, rank, id};  // a pair that comes again has its last rank
    return;
  }
}

const Bpe::Merge& Bpe::merge(int32_t left, int32_t right) const {
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  size_t i = mixed(pair) >> merges_shift_;
  while (merges_[i].pair != pair && merges_[i].rank != kNoRank) i = (i + 1) & (merges_.size() - 1);
  return merges_[i];
}

void Bpe::encode_word(std::string_view bytes, std::vector<int32_t>& ids) const {
  if (bytes.size() > CachedWord::kMostBytes) return encode_uncached(bytes, ids);
  static thread_local WordCache cache;
  CachedWord& slot = cache.slot(bytes, serial_);
  if (slot.serial == serial_ && std::string_view(slot.bytes, slot.size) == bytes) {
    ids.insert(ids.end(), slot.ids, slot.ids + slot.count);
    return;
  }
  const size_t begin = ids.size();
  encode_uncached(bytes, ids);
  const size_t count = ids.size() - begin;
  if (count > CachedWord::kMostIds) return;
  slot.serial = serial_;
  slot.size = static_cast<uint8_t>(bytes.size());
  slot.count = static_cast<uint8_t>(count);
  std::copy(bytes.begin(), bytes.end(), slot.bytes);
  std::copy(ids.begin() + begin, ids.end(), slot.ids);
}

void Bpe::encode_uncached(std::string_view bytes, std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    const auto found = whole_words_.find(bytes);
    if (found != whole_words_.end()) {
      ids.push_back(found->second);
      return;
    }
  }
  const size_t begin = ids.size();
  bool after_unknown = false;
  for (const char c : bytes) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id >= 0)
      ids.push_back(id);
    else if (unknown_id_ >= 0 && !(after_unknown && fuse_unknown_))
      ids.push_back(unknown_id_);
    after_unknown = id < 0;
  }
  if (ids.size() - begin <= kShortWord)
    merge_short(ids, begin);
  else
    merge_long(ids, begin);
}

void Bpe::merge_short(std::vector<int32_t>& ids, size_t begin) const {
  int32_t* const symbols = ids.data() + begin;
  size_t count = ids.size() - begin;
  if (count < 2) return;
  std::array<const Merge*, kShortWord> merges;  // of each symbol with the one after it
  for (size_t i = 0; i + 1 < count; ++i) merges[i] = &merge(symbols[i], symbols[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (merges[i]->rank < merges[best]->rank) best = i;
    if (merges[best]->rank == kNoRank) break;
    symbols[best] = merges[best]->id;
    --count;
    std::copy(symbols + best + 2, symbols + count + 1, symbols + best + 1);
    std::copy(merges.begin() + best + 1, merges.begin() + count, merges.begin() + best);
    if (best > 0) merges[best - 1] = &merge(symbols[best - 1], symbols[best]);
    if (best + 1 < count) merges[best] = &merge(symbols[best], symbols[best + 1]);
  }
  ids.resize(begin + count);
}

void Bpe::merge_long(std::vector<int32_t>& ids, size_t begin) const {
  struct Symbol {
    int32_t id;
    int64_t previous;
    int64_t next;
  };
  struct Candidate {
    uint32_t rank;
    int64_t at;
    int32_t left, right;  // to notice that a neighbour has changed since
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  const auto count = static_cast<int64_t>(ids.size() - begin);
  std::vector<Symbol> symbols(count);
  for (int64_t i = 0; i < count; ++i)
    symbols[i] = {ids[begin + i], i - 1, i + 1 < count ? i + 1 : -1};

  std::vector<Candidate> storage;
  storage.reserve(count);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue({},
                                                                               std::move(storage));
  const auto offer = [&](int64_t at) {
    if (at < 0 || symbols[at].next < 0) return;
    const int32_t left = symbols[at].id, right = symbols[symbols[at].next].id;
    const uint32_t rank = merge(left, right).rank;
    if (rank != kNoRank) queue.push({rank, at, left, right});
  };
  for (int64_t i = 0; i + 1 < count; ++i) offer(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& symbol = symbols[top.at];
    // A symbol that was merged away has the id -1.
    if (symbol.id != top.left || symbol.next < 0 || symbols[symbol.next].id != top.right) continue;
    symbol.id = merge(top.left, top.right).id;
    Symbol& gone = symbols[symbol.next];
    gone.id = -1;
    symbol.next = gone.next;
    if (gone.next >= 0) symbols[gone.next].previous = top.at;
    offer(symbol.previous);
    offer(top.at);
  }
  ids.resize(begin);
  for (int64_t i = 0; i >= 0; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace accrete::text
