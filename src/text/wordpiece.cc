#include "text/wordpiece.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/format.h"
#include "io/strict_json.h"
#include "io/utf8.h"
#include "text/json_fields.h"
#include "text/normalizer.h"
#include "text/unicode.h"
#include "text/wordpiece_vocabulary.h"

namespace accrete {
namespace {

using text::fail_format;
using text::Json;
using text::member;
using text::WordPieceVocabulary;

constexpr uint32_t kBertRanges[] = {
#include "text/unicode_bert.inc"
};
constexpr char32_t kLowercase[] = {
#include "text/unicode_lowercase.inc"
};
// What make_unicode_tables.py finds out about a character.
constexpr uint8_t kDropped = 1;      // by clean_text
constexpr uint8_t kChinese = 2;      // gets spaces round it
constexpr uint8_t kMark = 4;         // an accent that is stripped
constexpr uint8_t kPunctuation = 8;  // a word of its own
constexpr uint8_t kSpace = 16;

uint8_t bert_properties(char32_t c) {
  const auto* after =
      std::upper_bound(std::begin(kBertRanges), std::end(kBertRanges), c << 8 | 0xFF);
  return static_cast<uint8_t>(after[-1] & 0xFF);
}

void append_lowercase(std::u32string& out, char32_t c) {
  constexpr char32_t kDottedI = 0x130;  // the only one that becomes two
  if (c < 0x80) {
    out += c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
  } else if (c == kDottedI) {
    out += U"i\u0307";
  } else {
    size_t low = 0, high = std::size(kLowercase) / 2;
    while (low < high) {
      const size_t middle = (low + high) / 2;
      (kLowercase[2 * middle] < c ? low : high) = kLowercase[2 * middle] < c ? middle + 1 : middle;
    }
    const bool found = low < std::size(kLowercase) / 2 && kLowercase[2 * low] == c;
    out += found ? kLowercase[2 * low + 1] : c;
  }
}

[[noreturn]] void fail_unsupported(std::string_view where, std::string_view what) {
  throw Error(ErrorCode::kUnsupported, accrete::format("tokenizer: {}: {}", where, what),
              "a reader is of the BERT family with a WordPiece tokenizer, such as all-MiniLM-L6-v2 "
              "or bge-small");
}

void require_type(const Json& part, const char* where, std::string_view type) {
  if (part.is_null()) fail_unsupported(where, accrete::format("none, where {} is expected", type));
  const std::string found = text::type_of(part, where);
  if (found != type) fail_unsupported(where, accrete::format("the type {}", shown(found)));
}

int64_t integer_at(const Json& object, const char* key, std::string_view where) {
  const Json& value = member(object, key);
  if (!value.is_number_integer() || value.get<int64_t>() < 0)
    fail_format(where, accrete::format("\"{}\" is not a number", key));
  return value.get<int64_t>();
}

struct Normalization {
  bool clean_text = true, chinese = true, strip_accents = true, lowercase = true;

  explicit Normalization(const Json& part) {
    require_type(part, "normalizer", "BertNormalizer");
    clean_text = text::bool_or(part, "clean_text", true, "normalizer");
    chinese = text::bool_or(part, "handle_chinese_chars", true, "normalizer");
    lowercase = text::bool_or(part, "lowercase", true, "normalizer");
    strip_accents = text::bool_or(part, "strip_accents", lowercase, "normalizer");
  }

  std::u32string operator()(std::string_view utf8) const {
    std::u32string text, other;
    for (size_t at = 0; at < utf8.size();) {
      const unicode::Step step = unicode::step(utf8.substr(at));
      const char32_t c =
          step.kind == unicode::Step::kCharacter ? unicode::decode(utf8.data() + at).first : 0xFFFD;
      at += step.size;
      const uint8_t properties = bert_properties(c);
      if (clean_text && properties & kDropped) continue;
      if (chinese && properties & kChinese)
        (text += ' ') += c, text += ' ';
      else
        text += c;
    }
    if (strip_accents) {
      text = text::decomposed(text);
      std::erase_if(text, [](char32_t c) { return (bert_properties(c) & kMark) != 0; });
    }
    if (lowercase) {
      for (const char32_t c : text) append_lowercase(other, c);
      text.swap(other);
    }
    return text;
  }
};

struct Specials {
  std::vector<int32_t> before, after;

  explicit Specials(const Json& part) {
    constexpr const char* kWhere = "post_processor";
    if (part.is_null()) fail_unsupported(kWhere, "none, so that texts have no beginning");
    const std::string type = text::type_of(part, kWhere);
    if (type == "BertProcessing") {
      for (auto [key, ids] : {std::pair("cls", &before), std::pair("sep", &after)}) {
        const Json& token = member(part, key);
        if (!token.is_array() || token.size() != 2)
          fail_format(kWhere, accrete::format("\"{}\" is no token", key));
        add(token[1], *ids);
      }
    } else if (type == "TemplateProcessing") {
      read_template(part);
    } else {
      fail_unsupported(kWhere, accrete::format("the type {}", shown(type)));
    }
  }

 private:
  static void add(const Json& id, std::vector<int32_t>& ids) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX)
      fail_format("post_processor", "an id of no token");
    ids.push_back(id.get<int32_t>());
  }

  void read_template(const Json& part) {
    constexpr const char* kWhere = "post_processor";
    const Json& single = member(part, "single");
    if (!single.is_array()) fail_format(kWhere, "no \"single\"");
    int texts = 0;
    for (const Json& piece : single) {
      if (!piece.is_object() || piece.size() != 1) fail_format(kWhere, "a piece of no kind");
      const bool is_text = piece.contains("Sequence");
      const Json& content = member(piece, is_text ? "Sequence" : "SpecialToken");
      const std::string id = text::string_at(content, "id", kWhere);
      if (integer_at(content, "type_id", kWhere) != 0)
        fail_unsupported(kWhere, "a text with the type 1");
      if (is_text) {
        if (id != "A") fail_unsupported(kWhere, "a template of two texts");
        ++texts;
        continue;
      }
      const Json& ids = member(member(member(part, "special_tokens"), id.c_str()), "ids");
      if (!ids.is_array())
        fail_format(kWhere, accrete::format("the token {} has no ids", shown(id)));
      for (const Json& number : ids) add(number, texts == 0 ? before : after);
    }
    if (texts != 1) fail_unsupported(kWhere, "a template that has its text not once");
  }
};

std::optional<int64_t> read_truncation(const Json& part) {
  if (part.is_null()) return std::nullopt;
  if (!part.is_object()) fail_format("truncation", "not an object");
  const Json& direction = member(part, "direction");
  if (!direction.is_null() && direction != "Right")
    fail_unsupported("truncation", "not at the right end");
  // Of one text all strategies but OnlySecond keep the same.
  if (member(part, "strategy") == "OnlySecond")
    fail_unsupported("truncation", "the strategy OnlySecond");
  return integer_at(part, "max_length", "truncation");
}

// Special ones are never looked for; others would have to be.
int32_t read_added_tokens(const Json& list) {
  int32_t limit = 0;
  if (list.is_null()) return limit;
  if (!list.is_array()) fail_format("added_tokens", "not a list");
  for (const Json& token : list) {
    if (!token.is_object()) fail_format("added_tokens", "not an object");
    const int64_t id = integer_at(token, "id", "added_tokens");
    if (id >= INT32_MAX) fail_format("added_tokens", "an id of no token");
    limit = std::max(limit, static_cast<int32_t>(id) + 1);
    if (!text::bool_or(token, "special", false, "added_tokens"))
      fail_unsupported("added_tokens",
                       accrete::format("the token {}, which is not special",
                                       shown(text::string_at(token, "content", "added_tokens"))));
  }
  return limit;
}

}  // namespace

struct WordPiece::Impl {
  // `json` and `model`, which is in it, without the vocabulary that was read.
  Impl(const Json& json, const Json& model, WordPieceVocabulary read)
      : vocabulary(std::move(read)),
        normalization(member(json, "normalizer")),
        specials(member(json, "post_processor")),
        max_length(read_truncation(member(json, "truncation"))) {
    require_type(member(json, "pre_tokenizer"), "pre_tokenizer", "BertPreTokenizer");
    prefix = text::string_at(model, "continuing_subword_prefix", "model");
    prefix_hash = WordPieceVocabulary::hash(prefix);
    max_word = integer_at(model, "max_input_chars_per_word", "model");
    const std::string unknown_token = text::string_at(model, "unk_token", "model");
    unknown = vocabulary.find("", unknown_token, WordPieceVocabulary::hash(unknown_token));
    if (unknown < 0)
      fail_format("model",
                  accrete::format("the token {} is not in the vocabulary", shown(unknown_token)));
    size = std::max(vocabulary.id_limit(), read_added_tokens(member(json, "added_tokens")));
    for (const auto* ids : {&specials.before, &specials.after})
      for (const int32_t id : *ids)
        if (id >= size) fail_format("post_processor", accrete::format("the id {} of no token", id));
  }

  struct Scratch {
    std::string word;
    std::vector<uint64_t> hashes;
  };

  // Appends the ids of a word: the longest piece that begins it, and so on; all of it is unknown
  // where there is none.
  void add_word(int64_t characters, Scratch& scratch, std::vector<int32_t>& ids) const {
    const std::string_view word = scratch.word;
    if (characters > max_word) return ids.push_back(unknown);
    const size_t before = ids.size();
    scratch.hashes.resize(word.size() + 1);
    for (size_t begin = 0; begin < word.size();) {
      const std::string_view start = begin == 0 ? std::string_view("") : prefix;
      scratch.hashes[begin] = begin == 0 ? WordPieceVocabulary::kStart : prefix_hash;
      const size_t room = vocabulary.longest() - std::min(vocabulary.longest(), start.size());
      size_t end = begin + std::min(word.size() - begin, room);
      for (size_t i = begin; i < end; ++i)
        scratch.hashes[i + 1] = WordPieceVocabulary::step(scratch.hashes[i], word[i]);
      int32_t id = -1;
      for (; end > begin; --end) {
        const bool inside = end < word.size() && (word[end] & 0xC0) == 0x80;  // a character
        if (inside) continue;
        id = vocabulary.find(start, word.substr(begin, end - begin), scratch.hashes[end]);
        if (id >= 0) break;
      }
      if (id < 0) {
        ids.resize(before);
        return ids.push_back(unknown);
      }
      ids.push_back(id);
      begin = end;
    }
  }

  // A run without spaces. What is ASCII needs no tables.
  void add_ascii(std::string_view run, Scratch& scratch, std::vector<int32_t>& ids) const {
    std::string& word = scratch.word;
    word.clear();
    const auto flush = [&] {
      if (!word.empty()) add_word(static_cast<int64_t>(word.size()), scratch, ids);
      word.clear();
    };
    for (char c : run) {
      const uint8_t properties = ascii[static_cast<unsigned char>(c)];
      if (normalization.clean_text && properties & kDropped) continue;
      if (properties & (kPunctuation | kSpace)) flush();
      if (properties & kSpace) continue;
      if (normalization.lowercase && c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
      word += c;
      if (properties & kPunctuation) flush();
    }
    flush();
  }

  void add_any(std::string_view run, Scratch& scratch, std::vector<int32_t>& ids) const {
    std::string& word = scratch.word;
    word.clear();
    int64_t characters = 0;
    const auto flush = [&] {
      if (characters > 0) add_word(characters, scratch, ids);
      word.clear();
      characters = 0;
    };
    for (const char32_t c : normalization(run)) {
      const uint8_t properties = bert_properties(c);
      if (properties & (kPunctuation | kSpace)) flush();
      if (properties & kSpace) continue;
      unicode::append_utf8(word, c);
      ++characters;
      if (properties & kPunctuation) flush();
    }
    flush();
  }

  WordPieceVocabulary vocabulary;
  Normalization normalization;
  Specials specials;
  std::optional<int64_t> max_length;
  std::string prefix;  // of pieces inside a word
  uint64_t prefix_hash = 0;
  int64_t max_word = 0;  // characters
  int32_t unknown = 0, size = 0;
  uint8_t ascii[128] = {};
};

WordPiece WordPiece::parse(std::string_view json, std::string_view source) {
  json.remove_prefix(after_byte_order_mark(json));
  // The vocabulary is read apart: as JSON values it would take most of the time.
  auto [vocabulary, rest] = text::read_wordpiece_vocabulary(json, source);
  const Json parsed = parse_json(rest, source);
  if (!parsed.is_object()) fail_format("tokenizer.json", "not an object");
  const Json& model = member(parsed, "model");
  require_type(model, "model", "WordPiece");
  auto impl = std::make_shared<Impl>(parsed, model, std::move(vocabulary));
  for (char32_t c = 0; c < std::size(impl->ascii); ++c) impl->ascii[c] = bert_properties(c);
  WordPiece tokenizer;
  tokenizer.impl_ = std::move(impl);
  return tokenizer;
}

WordPiece WordPiece::from_file(const std::filesystem::path& path) {
  return parse(read_file(path), path.string());
}

std::vector<int32_t> WordPiece::encode(std::string_view text, int64_t max_length) const {
  const Specials& specials = impl_->specials;
  const auto around = static_cast<int64_t>(specials.before.size() + specials.after.size());
  if (max_length < around)
    throw Error(
        ErrorCode::kInvalidArgument,
        accrete::format("{} tokens have no room for the {} special ones", max_length, around),
        "allow more tokens");
  const auto limit = static_cast<size_t>(max_length) - specials.after.size();
  std::vector<int32_t> ids = specials.before;
  Impl::Scratch scratch;
  // Spaces end whatever normalising could reach across: run by run it is the same.
  constexpr std::string_view kSpaces = " \t\n\r";
  for (size_t at = 0; at < text.size() && ids.size() < limit;) {
    const size_t begin = text.find_first_not_of(kSpaces, at);
    if (begin == std::string_view::npos) break;
    at = std::min(text.find_first_of(kSpaces, begin), text.size());
    const std::string_view run = text.substr(begin, at - begin);
    const bool is_ascii =
        std::all_of(run.begin(), run.end(), [](char c) { return (c & 0x80) == 0; });
    is_ascii ? impl_->add_ascii(run, scratch, ids) : impl_->add_any(run, scratch, ids);
  }
  if (ids.size() > limit) ids.resize(limit);
  ids.insert(ids.end(), specials.after.begin(), specials.after.end());
  return ids;
}

int32_t WordPiece::word_id(std::string_view word) const {
  return impl_->vocabulary.find("", word, WordPieceVocabulary::hash(word));
}

int32_t WordPiece::vocab_size() const {
  return impl_->size;
}

std::optional<int64_t> WordPiece::max_length() const {
  return impl_->max_length;
}

}  // namespace accrete
