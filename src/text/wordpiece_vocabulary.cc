#include "text/wordpiece_vocabulary.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "base/format.h"
#include "io/utf8.h"
#include "text/unicode.h"

namespace accrete::text {
namespace {

// A place in a JSON text.
class Scanner {
 public:
  Scanner(std::string_view text, std::string_view source) : text_(text), source_(source) {}

  size_t at() const { return at_; }
  bool done() const { return at_ >= text_.size(); }
  char next() { return done() ? fail("it ends early") : text_[at_++]; }
  void skip_space() {
    while (!done() && is_space(text_[at_])) ++at_;
  }
  // Behind white space.
  char next_token() {
    skip_space();
    return next();
  }
  bool follows(char c) {
    skip_space();
    return !done() && text_[at_] == c;
  }
  void expect(char c) {
    if (next_token() != c) fail(accrete::format("no '{}' where there must be one", c));
  }

  // The rest of a string whose quote was read; its escapes are left as they are.
  std::string_view raw_string() {
    const size_t begin = at_;
    for (;;) {
      const char c = next();
      if (c == '"') return text_.substr(begin, at_ - begin - 1);
      if (c == '\\') next();
    }
  }
  // Its value; `storage` has it where there are escapes.
  std::string_view string(std::string& storage) {
    const std::string_view raw = raw_string();
    if (std::any_of(raw.begin(), raw.end(),
                    [](char c) { return static_cast<unsigned char>(c) < 0x20; }))
      fail("a control character in a string");
    if (raw.find('\\') == std::string_view::npos) return raw;
    storage.clear();
    for (size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] != '\\') {
        storage += raw[i];
        continue;
      }
      constexpr std::string_view kNames = "\"\\/bfnrt", kValues = "\"\\/\b\f\n\r\t";
      const char name = raw[++i];
      if (name == 'u') {
        char32_t c = unit(raw, ++i);
        i += 3;
        if (c >= 0xD800 && c < 0xDC00 && raw.substr(i + 1, 2) == "\\u") {
          const char32_t low = unit(raw, i + 3);
          if (low < 0xDC00 || low > 0xDFFF) fail("half a surrogate pair");
          c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
          i += 6;
        }
        if (c >= 0xD800 && c <= 0xDFFF) fail("half a surrogate pair");
        unicode::append_utf8(storage, c);
      } else if (const size_t which = kNames.find(name); which != std::string_view::npos) {
        storage += kValues[which];
      } else {
        fail("an unknown escape");
      }
    }
    return storage;
  }
  int32_t id() {
    skip_space();
    int64_t value = 0;
    size_t digits = 0;
    for (; !done() && text_[at_] >= '0' && text_[at_] <= '9' && value <= INT32_MAX; ++at_, ++digits)
      value = 10 * value + (text_[at_] - '0');
    if (digits == 0 || value >= INT32_MAX) fail("an id that is no number of a token");
    return static_cast<int32_t>(value);
  }

  [[noreturn]] char fail(const std::string& what) const {
    throw Error(ErrorCode::kFormat, accrete::format("{}: the vocabulary: {}", source_, what),
                "the file is damaged or not a tokenizer.json; fetch it again");
  }

 private:
  static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
  char32_t unit(std::string_view raw, size_t at) const {
    char32_t value = 0;
    if (at + 4 > raw.size()) fail("an escape that is cut off");
    for (const char c : raw.substr(at, 4)) {
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : fail("an escape that is no number");
      value = value << 4 | static_cast<char32_t>(digit);
    }
    return value;
  }

  std::string_view text_, source_;
  size_t at_ = 0;
};

// Goes behind the key "vocab" of the object "model". Takes any brackets for good ones: the parser
// that reads the rest does not.
bool find_vocabulary(Scanner& scanner) {
  int depth = 0;
  bool in_model = false;
  while (!scanner.done()) {
    const char c = scanner.next();
    if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      --depth;
    } else if (c == '"') {
      const std::string_view key = scanner.raw_string();
      if (depth > 2 || !scanner.follows(':')) continue;
      if (depth == 1) in_model = key == "model";
      if (depth == 2 && in_model && key == "vocab") {
        scanner.expect(':');
        return true;
      }
    }
  }
  return false;
}

}  // namespace

int32_t WordPieceVocabulary::find(std::string_view start, std::string_view rest,
                                  uint64_t hash) const {
  if (slots_.empty()) return -1;
  for (size_t slot = hash;; ++slot) {
    const uint32_t number = slots_[slot & (slots_.size() - 1)];
    if (number == 0) return -1;
    const Entry& entry = entries_[number - 1];
    if (entry.hash != static_cast<uint32_t>(hash >> 32) || entry.size != start.size() + rest.size())
      continue;
    const char* token = bytes_.data() + entry.begin;
    if (std::memcmp(token, start.data(), start.size()) == 0 &&
        std::memcmp(token + start.size(), rest.data(), rest.size()) == 0)
      return entry.id;
  }
}

bool WordPieceVocabulary::add(std::string_view token, int32_t id) {
  const uint64_t hashed = hash(token);
  if (find(token, "", hashed) >= 0) return false;
  if (2 * (entries_.size() + 1) > slots_.size()) grow();
  entries_.push_back({static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(token.size()), id,
                      static_cast<uint32_t>(hashed >> 32)});
  bytes_ += token;
  size_t slot = hashed;
  while (slots_[slot & (slots_.size() - 1)] != 0) ++slot;
  slots_[slot & (slots_.size() - 1)] = static_cast<uint32_t>(entries_.size());
  longest_ = std::max(longest_, token.size());
  id_limit_ = std::max(id_limit_, id + 1);
  return true;
}

void WordPieceVocabulary::grow() {
  slots_.assign(std::max<size_t>(1 << 10, 2 * slots_.size()), 0);
  for (size_t i = 0; i < entries_.size(); ++i) {
    size_t slot = hash(std::string_view(bytes_).substr(entries_[i].begin, entries_[i].size));
    while (slots_[slot & (slots_.size() - 1)] != 0) ++slot;
    slots_[slot & (slots_.size() - 1)] = static_cast<uint32_t>(i + 1);
  }
}

std::pair<WordPieceVocabulary, std::string> read_wordpiece_vocabulary(std::string_view json,
                                                                      std::string_view source) {
  Scanner scanner(json, source);
  if (json.size() > UINT32_MAX) scanner.fail("more than 4 GiB");
  if (unicode::valid_prefix(json) != json.size()) scanner.fail("not UTF-8");
  // Another kind of model may have another kind of vocabulary.
  if (!find_vocabulary(scanner) || !scanner.follows('{'))
    return {WordPieceVocabulary(), std::string(json)};
  const size_t begin = scanner.at();
  scanner.expect('{');
  WordPieceVocabulary vocabulary;
  std::string storage;
  if (scanner.follows('}')) {
    scanner.next();
  } else {
    for (char c = ','; c != '}';) {
      if (c != ',') scanner.fail("entries with no comma between them");
      scanner.expect('"');
      const std::string_view token = scanner.string(storage);
      scanner.expect(':');
      const int32_t id = scanner.id();
      if (!vocabulary.add(token, id))
        scanner.fail(accrete::format("the token {} is there twice", shown(token)));
      c = scanner.next_token();
    }
  }
  std::string rest(json.substr(0, begin));
  rest += "{}";
  rest += json.substr(scanner.at());
  return {std::move(vocabulary), std::move(rest)};
}

}  // namespace accrete::text
