// The text layer. The first byte chooses what the rest is:
//   0  a tokenizer.json
//   1  a JSON merge patch on a small tokenizer.json, which gets further than whole files
//   2  a regex, a zero byte, and the text it searches
//   3  a chat template
//   else  text for one of several tokenizers: what goes in must come out
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fuzz_testing.h"
#include "io/strict_json.h"
#include "text/chat_template.h"
#include "text/regex.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace {

using accrete::ChatTemplate;
using accrete::StreamDecoder;
using accrete::Tokenizer;
using accrete::fuzz::allow_errors;
using accrete::fuzz::require;
using accrete::text::Regex;
using nlohmann::json;
namespace unicode = accrete::unicode;

json byte_level(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json split(const std::string& regex, const std::string& behavior) {
  const json part = {{"type", "Split"},
                     {"pattern", {{"Regex", regex}}},
                     {"behavior", behavior},
                     {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", {part, byte_level(false, false)}}};
}

json added_token(int id, const std::string& content, const std::string& flag) {
  json token = {{"id", id}, {"content", content}, {"special", true}};
  token[flag] = true;
  return token;
}

// All bytes or a few of them, some merges, and added tokens of every kind.
json base_json(bool all_bytes) {
  json vocab = json::object();
  int next = 256;
  for (int b = 0; b < 256; ++b) {
    std::string token;
    const bool itself = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    unicode::append_utf8(token, itself ? b : next++);
    if (all_bytes || std::string_view(" \n'abc1s<>X\xC3\xA9").find(static_cast<char>(b)) !=
                         std::string_view::npos)
      vocab[token] = vocab.size();
  }
  const std::vector<std::string> merges = {"a a",  "aa a", "aa aa", "Ġ a", "b c",
                                           "a bc", "Ã ©",  "1 1",   "Ċ Ċ", "' s"};
  for (std::string merge : merges) {
    merge.erase(merge.find(' '), 1);
    vocab[merge] = vocab.size();
  }
  const int size = static_cast<int>(vocab.size());
  return {
      {"added_tokens",
       {added_token(size, "<a>", "lstrip"), added_token(size + 1, "<ab>", "rstrip"),
        added_token(size + 2, "aXa", "single_word"), added_token(size + 3, "漢", "normalized")}},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level(false, true)},
      {"decoder", byte_level(false, true)},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

std::vector<Tokenizer> make_tokenizers() {
  const std::string llama =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const json digit = {{"type", "Digits"}, {"individual_digits", true}};
  const json digits = {{"type", "Sequence"},
                       {"pretokenizers", json::array({digit, byte_level(false, true)})}};
  std::vector<Tokenizer> tokenizers;
  for (const json& pre : {byte_level(false, true), byte_level(false, false), digits,
                          split(llama, "Isolated"), split("(?:" + llama + ")", "Isolated"),
                          split(R"(\s|\p{P}+)", "MergedWithNext"), split("a|1", "Contiguous")}) {
    json spec = base_json(true);
    spec["pre_tokenizer"] = pre;
    spec["model"]["ignore_merges"] = tokenizers.size() % 2 == 1;
    tokenizers.push_back(Tokenizer::from_json(spec));
  }
  return tokenizers;
}

std::string repaired(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const unicode::Step step = unicode::step(bytes);
    if (step.kind == unicode::Step::kCharacter)
      text += bytes.substr(0, step.size);
    else
      text += "\uFFFD";
    bytes.remove_prefix(step.size);
  }
  return text;
}

void check_text(const Tokenizer& tokenizer, std::string_view text, bool complete) {
  for (const bool special : {true, false}) {
    const std::vector<int32_t> ids = tokenizer.encode(text, special);
    for (const int32_t id : ids) require(id >= 0 && id < tokenizer.vocab_size());
    const std::string bytes = tokenizer.decode(ids);
    StreamDecoder stream(tokenizer, false);
    std::string streamed;
    for (const int32_t id : ids) {
      const std::string piece = stream.push(id);
      require(unicode::valid_prefix(piece) == piece.size());
      streamed += piece;
    }
    streamed += stream.finish();
    require(streamed == repaired(bytes));
    // Without special tokens, which may swallow white space, nothing is lost.
    if (complete && !special) require(bytes == text);
  }
}

void check_json(const json& spec) {
  const Tokenizer tokenizer = Tokenizer::from_json(spec);
  for (const char* text : {"", "a", " aaaa abc 11\n\n", "é's<a> <ab>  aXa\xFF\xC3", "漢 1½ 😀"})
    allow_errors([&] { check_text(tokenizer, text, false); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const uint8_t mode = data[0];
  const std::string_view rest = accrete::fuzz::text_of(data + 1, size - 1);
  switch (mode) {
    case 0:
      allow_errors([&] { check_json(accrete::parse_json(rest, "fuzz")); });
      break;
    case 1:
      allow_errors([&] {
        static const json base = base_json(false);
        json spec = base;
        spec.merge_patch(accrete::parse_json(rest, "fuzz"));
        check_json(spec);
      });
      break;
    case 2:
      allow_errors([&] {
        const size_t end = std::min(rest.find('\0'), rest.size());
        const Regex regex = Regex::compile(rest.substr(0, end));
        std::string_view text = rest.substr(std::min(end + 1, rest.size()));
        text = text.substr(0, std::min<size_t>(unicode::valid_prefix(text), 64));
        text = text.substr(0, unicode::valid_prefix(text));
        std::vector<Regex::Match> matches;
        regex.find_all(text, matches);
        size_t at = 0;
        for (const auto& [begin, stop] : matches) {
          require(begin >= at && stop > begin && stop <= text.size());
          at = stop;
        }
      });
      break;
    case 3:
      allow_errors([&] {
        const ChatTemplate chat = ChatTemplate::from_jinja(rest);
        const std::vector<accrete::Message> messages = {{"user", "x"}, {"assistant", "y"}};
        const std::string once = chat.render(messages, false);
        require(once == chat.render(messages, false));
        require(unicode::valid_prefix(once) == once.size());
      });
      break;
    default: {
      static const std::vector<Tokenizer> tokenizers = make_tokenizers();
      check_text(tokenizers[mode % tokenizers.size()], rest, true);
    }
  }
  return 0;
}
