#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "base/error.h"
#include "base/format.h"
#include "io/gguf_to_hf.h"
#include "io/hf_folder.h"
#include "io/utf8.h"

namespace accrete {
namespace {

using Json = nlohmann::json;

// Values of tokenizer.ggml.token_type.
enum TokenType : int64_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

[[noreturn]] void fail(const std::string& what) {
  throw Error(ErrorCode::kFormat, "tokenizer of the GGUF file: " + what,
              "the file is damaged or made for another purpose");
}

[[noreturn]] void fail_unsupported(const std::string& what) {
  throw Error(ErrorCode::kUnsupported, "tokenizer of the GGUF file: " + what,
              "use the model's Hugging Face folder, which has its own tokenizer.json");
}

// The splits of the model families, as their tokenizer.json files have them.
constexpr std::string_view kLlama3Split =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kQwen2Split =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

struct Family {
  Json pre_tokenizer;
  Json normalizer = nullptr;
  bool ignore_merges = false;  // a piece that is a token is taken whole
  bool adds_bos = false;       // unless the file says otherwise
};

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json split_then_bytes(std::string_view regex) {
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", regex}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", {split, byte_level(false)}}};
}

Family family_of(const GgufFile& file) {
  const std::string model = file.get_string("tokenizer.ggml.model");
  if (model != "gpt2")
    fail_unsupported(accrete::format("the kind {} is not byte-level BPE", shown(model)));
  // Without the key, or with "default", the file does not say how the model splits text: a guess
  // would be wrong in silence for one family or the other.
  const std::string pre = file.get_string("tokenizer.ggml.pre", "");
  if (pre == "gpt-2") return {.pre_tokenizer = byte_level(true)};
  if (pre == "smollm") {
    const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
    return {.pre_tokenizer = {{"type", "Sequence"}, {"pretokenizers", {digits, byte_level(true)}}}};
  }
  if (pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3")
    return {
        .pre_tokenizer = split_then_bytes(kLlama3Split), .ignore_merges = true, .adds_bos = true};
  if (pre == "qwen2")
    return {.pre_tokenizer = split_then_bytes(kQwen2Split), .normalizer = {{"type", "NFC"}}};
  if (pre.empty() || pre == "default")
    fail_unsupported("it does not say how the model splits text (tokenizer.ggml.pre)");
  fail_unsupported(accrete::format("the pre-tokenizer {} is not known", shown(pre)));
}

using Ids = std::unordered_map<std::string_view, int64_t>;

Ids ids_of(const std::vector<std::string>& tokens) {
  if (tokens.empty()) fail("no tokens");
  Ids ids;
  ids.reserve(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (!is_utf8(tokens[i])) fail(accrete::format("token {} is not UTF-8", i));
    if (!ids.emplace(tokens[i], static_cast<int64_t>(i)).second)
      fail(accrete::format("the token {} is there twice", shown(tokens[i])));
  }
  return ids;
}

// Checks what would make other readers of the tokenizer.json stop, or go wrong in silence.
Json merges_of(const std::vector<std::string>& merges, const Ids& ids) {
  Json out = Json::array();
  std::string whole;
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string_view merge = merges[i];
    const size_t space = merge.find(' ');
    if (space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos)
      fail(accrete::format("merge {} is not two tokens: {}", i, shown(merge)));
    const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
    whole.assign(left).append(right);
    for (const std::string_view part : {left, right, std::string_view(whole)})
      if (!ids.contains(part))
        fail(accrete::format("merge {} needs the token {}, which is not there", i, shown(part)));
    out.push_back(merges[i]);
  }
  return out;
}

Json added_token(const AddedToken& token) {
  return {{"id", token.id},          {"content", token.content}, {"single_word", false},
          {"lstrip", false},         {"rstrip", false},          {"normalized", false},
          {"special", token.special}};
}

// Puts the beginning and end tokens around a text, as the model was trained.
Json post_processor(const GgufFile& file, const Family& family) {
  const bool bos = file.get_bool("tokenizer.ggml.add_bos_token", family.adds_bos);
  const bool eos = file.get_bool("tokenizer.ggml.add_eos_token", false);
  if (!bos && !eos) return nullptr;
  const auto& tokens = file.get_strings("tokenizer.ggml.tokens");
  const SpecialIds ids = special_ids(file);
  Json specials = Json::object();
  const auto special = [&](std::optional<int64_t> id, const char* what, int type) {
    if (!id) fail(accrete::format("it adds a token at the {}, but does not say which", what));
    const std::string& text = tokens[static_cast<size_t>(*id)];
    specials[text] = {{"id", text}, {"ids", {*id}}, {"tokens", {text}}};
    return Json{{"SpecialToken", {{"id", text}, {"type_id", type}}}};
  };
  const auto sequence = [&](const char* name, int type, Json& out) {
    if (bos) out.push_back(special(ids.bos, "beginning", type));
    out.push_back({{"Sequence", {{"id", name}, {"type_id", type}}}});
    if (eos) out.push_back(special(ids.eos, "end", type));
  };
  Json single = Json::array(), pair = Json::array();
  sequence("A", 0, single);
  sequence("A", 0, pair);
  sequence("B", 1, pair);
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", specials}};
}

}  // namespace

SpecialIds special_ids(const GgufFile& file) {
  const auto count = static_cast<int64_t>(file.get_strings("tokenizer.ggml.tokens").size());
  const auto find = [&](const char* name) -> std::optional<int64_t> {
    const std::string key = accrete::format("tokenizer.ggml.{}_token_id", name);
    if (!file.metadata().contains(key)) return std::nullopt;
    const int64_t id = file.get_int(key);
    if (id < 0 || id >= count) fail(accrete::format("{} is {} of {} tokens", key, id, count));
    return id;
  };
  return {.bos = find("bos"),
          .eos = find("eos"),
          .unknown = find("unknown"),
          .padding = find("padding"),
          .end_of_turn = find("eot")};
}

std::vector<AddedToken> added_tokens(const GgufFile& file) {
  const auto& tokens = file.get_strings("tokenizer.ggml.tokens");
  const std::vector<int64_t>* types = file.find_ints("tokenizer.ggml.token_type");
  std::vector<AddedToken> added;
  if (types == nullptr) {
    // All that is known then is which tokens have a role.
    const SpecialIds ids = special_ids(file);
    std::vector<int64_t> roles;
    for (const auto& id : {ids.bos, ids.eos, ids.unknown, ids.padding, ids.end_of_turn})
      if (id) roles.push_back(*id);
    std::sort(roles.begin(), roles.end());
    roles.erase(std::unique(roles.begin(), roles.end()), roles.end());
    for (const int64_t id : roles) added.push_back({id, tokens[static_cast<size_t>(id)], true});
    return added;
  }
  if (types->size() != tokens.size())
    fail(accrete::format("{} tokens but {} token types", tokens.size(), types->size()));
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int64_t type = (*types)[i];
    if (type < kNormal || type > kByte) fail(accrete::format("token {} has the type {}", i, type));
    const bool special = type == kControl || type == kUnknown;
    if (!special && type != kUserDefined) continue;
    if (tokens[i].empty()) fail(accrete::format("the special token {} is empty", i));
    added.push_back({static_cast<int64_t>(i), tokens[i], special});
  }
  return added;
}

nlohmann::json tokenizer_json_from_gguf(const GgufFile& file) {
  const Family family = family_of(file);
  const auto& tokens = file.get_strings("tokenizer.ggml.tokens");
  const Ids ids = ids_of(tokens);
  Json vocabulary = Json::object();
  for (size_t i = 0; i < tokens.size(); ++i) vocabulary[tokens[i]] = i;
  Json added = Json::array();
  for (const AddedToken& token : added_tokens(file)) added.push_back(added_token(token));
  const Json decoder = {{"type", "ByteLevel"},
                        {"add_prefix_space", true},
                        {"trim_offsets", true},
                        {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", family.normalizer},
          {"pre_tokenizer", family.pre_tokenizer},
          {"post_processor", post_processor(file, family)},
          {"decoder", decoder},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", family.ignore_merges},
            {"vocab", std::move(vocabulary)},
            {"merges", merges_of(file.get_strings("tokenizer.ggml.merges"), ids)}}}};
}

}  // namespace accrete
