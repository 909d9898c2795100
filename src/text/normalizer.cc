#include "text/normalizer.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <vector>

#include "base/format.h"
#include "text/json_fields.h"
#include "text/unicode.h"

namespace accrete::text {
namespace {

constexpr uint32_t kDecompositions[] = {
#include "text/unicode_decompositions.inc"
};
constexpr uint32_t kCombiningClasses[] = {
#include "text/unicode_combining_classes.inc"
};

// Everything below is left as it is by NFC, and by itself.
constexpr char32_t kFirstAffected = 0x300;

// Hangul syllables are computed (The Unicode Standard, 3.12).
constexpr char32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTrails = 0x11A7;
constexpr char32_t kLeadCount = 19, kVowelCount = 21, kTrailCount = 28;
constexpr char32_t kSyllableCount = kLeadCount * kVowelCount * kTrailCount;

struct Tables {
  struct Decomposition {
    const uint32_t* parts;
    size_t size;
  };
  std::unordered_map<char32_t, Decomposition> decompositions;
  std::unordered_map<uint64_t, char32_t> compositions;  // first << 32 | second

  Tables() {
    // A character is composed of its last part and of what the parts before it compose to.
    std::unordered_map<std::u32string, char32_t> composed;
    std::vector<std::pair<std::u32string, char32_t>> composing;
    for (size_t i = 0; i < std::size(kDecompositions);) {
      const uint32_t head = kDecompositions[i];
      const Decomposition parts = {kDecompositions + i + 1, head & 0x7F};
      decompositions.emplace(head >> 8, parts);
      if (head & 0x80) {
        const std::u32string key(parts.parts, parts.parts + parts.size);
        composed.emplace(key, head >> 8);
        composing.emplace_back(key, head >> 8);
      }
      i += 1 + parts.size;
    }
    for (auto& [parts, whole] : composing) {
      const char32_t last = parts.back();
      parts.pop_back();
      const char32_t first = parts.size() == 1 ? parts[0] : composed.at(parts);
      compositions.emplace(static_cast<uint64_t>(first) << 32 | last, whole);
    }
  }
};

const Tables& tables() {
  static const Tables instance;
  return instance;
}

uint8_t combining_class(char32_t c) {
  if (c < kFirstAffected) return 0;
  const auto* after =
      std::upper_bound(std::begin(kCombiningClasses), std::end(kCombiningClasses), c << 8 | 0xFF);
  return static_cast<uint8_t>(after[-1] & 0xFF);
}

void decompose(char32_t c, std::u32string& out) {
  if (c >= kSyllables && c < kSyllables + kSyllableCount) {
    const char32_t index = c - kSyllables;
    out += kLeads + index / (kVowelCount * kTrailCount);
    out += kVowels + index / kTrailCount % kVowelCount;
    if (index % kTrailCount) out += kTrails + index % kTrailCount;
    return;
  }
  const auto found = tables().decompositions.find(c);
  if (found == tables().decompositions.end())
    out += c;
  else
    out.append(found->second.parts, found->second.parts + found->second.size);
}

// 0 when the two do not compose.
char32_t compose(char32_t first, char32_t second) {
  if (first >= kLeads && first < kLeads + kLeadCount && second >= kVowels &&
      second < kVowels + kVowelCount)
    return kSyllables + ((first - kLeads) * kVowelCount + (second - kVowels)) * kTrailCount;
  if (first >= kSyllables && first < kSyllables + kSyllableCount &&
      (first - kSyllables) % kTrailCount == 0 && second > kTrails && second < kTrails + kTrailCount)
    return first + (second - kTrails);
  const auto found = tables().compositions.find(static_cast<uint64_t>(first) << 32 | second);
  return found == tables().compositions.end() ? 0 : found->second;
}

// Canonical ordering: marks between two starters by their class, equal ones as they came.
void reorder(std::u32string& text) {
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    while (end < text.size() && combining_class(text[end]) != 0) ++end;
    std::stable_sort(text.begin() + begin, text.begin() + end, [](char32_t a, char32_t b) {
      return combining_class(a) < combining_class(b);
    });
    begin = end + 1;
  }
}

// In place: each character joins the last starter unless one of the same or a higher class, or
// another starter, is between them.
void recompose(std::u32string& text) {
  constexpr size_t kNone = SIZE_MAX;
  size_t starter = kNone, size = 0;
  uint8_t last_class = 0;
  for (const char32_t c : text) {
    const uint8_t c_class = combining_class(c);
    if (starter != kNone) {
      const bool adjacent = size == starter + 1;
      if (adjacent || (last_class != 0 && last_class < c_class)) {
        if (const char32_t whole = compose(text[starter], c)) {
          text[starter] = whole;
          continue;
        }
      }
    }
    if (c_class == 0) starter = size;
    last_class = c_class;
    text[size++] = c;
  }
  text.resize(size);
}

}  // namespace

Normalizer::Normalizer(const Json& json) {
  if (!json.is_null()) add(json, 0);
}

void Normalizer::add(const Json& part, int depth) {
  const std::string type = type_of(part, "normalizer");
  if (type == "NFC") {
    nfc_ = true;
  } else if (type == "Sequence") {
    const Json& parts = member(part, "normalizers");
    if (!parts.is_array()) fail_format("normalizer Sequence", "no list of normalizers");
    if (depth > 16) fail_unsupported("normalizer", "sequences nested too deeply");
    for (const Json& inner : parts) add(inner, depth + 1);
  } else {
    fail_unsupported("normalizer", accrete::format("the type {:?}", type));
  }
}

std::string_view Normalizer::apply(std::string_view text, std::string& storage) const {
  if (!nfc_) return text;
  // UTF-8 of characters from U+0300 on begins with 0xCC or more.
  static_assert(kFirstAffected == 0x300);
  const auto affected = std::find_if(text.begin(), text.end(),
                                     [](char c) { return static_cast<unsigned char>(c) >= 0xCC; });
  if (affected == text.end()) return text;

  std::u32string decomposed;
  decomposed.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto [c, size] = unicode::decode(text.data() + at);
    decompose(c, decomposed);
    at += size;
  }
  reorder(decomposed);
  recompose(decomposed);
  storage.clear();
  storage.reserve(text.size());
  for (const char32_t c : decomposed) unicode::append_utf8(storage, c);
  return storage;
}

std::u32string decomposed(std::u32string_view text) {
  std::u32string parts;
  parts.reserve(text.size());
  for (const char32_t c : text) decompose(c, parts);
  reorder(parts);
  return parts;
}

}  // namespace accrete::text
