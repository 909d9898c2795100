#include "text/added_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "text/json_fields.h"
#include "text/unicode.h"

namespace accrete::text {
namespace {

bool word_before(std::string_view text) {
  return !text.empty() &&
         (unicode::properties()[unicode::decode_last(text).first] & unicode::kWord);
}

bool word_after(std::string_view text) {
  return !text.empty() &&
         (unicode::properties()[unicode::decode(text.data()).first] & unicode::kWord);
}

// Where the white space at the end of the text begins.
size_t trailing_space(std::string_view text) {
  while (!text.empty()) {
    const auto [c, size] = unicode::decode_last(text);
    if (!(unicode::properties()[c] & unicode::kSpace)) break;
    text.remove_suffix(size);
  }
  return text.size();
}

size_t leading_space(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const auto [c, size] = unicode::decode(text.data() + at);
    if (!(unicode::properties()[c] & unicode::kSpace)) break;
    at += size;
  }
  return at;
}

AddedToken read_token(const Json& json) {
  const char* where = "added_tokens";
  if (!json.is_object()) fail_format(where, "an entry is not an object");
  AddedToken token;
  const Json& id = member(json, "id");
  if (!id.is_number_integer() || id < 0 || id > INT32_MAX - 1)
    fail_format(where, "an entry has no usable id");
  token.id = id.get<int32_t>();
  token.content = string_at(json, "content", where);
  if (unicode::valid_prefix(token.content) != token.content.size())
    fail_format(where, accrete::format("the token of id {} is not UTF-8", token.id));
  token.special = bool_or(json, "special", false, where);
  token.single_word = bool_or(json, "single_word", false, where);
  token.lstrip = bool_or(json, "lstrip", false, where);
  token.rstrip = bool_or(json, "rstrip", false, where);
  token.normalized = bool_or(json, "normalized", !token.special, where);
  return token;
}

}  // namespace

AddedTokens::AddedTokens(const Json& json, const Vocabulary& model, Normalizer normalizer)
    : normalizer_(normalizer) {
  if (json.is_null()) return;
  if (!json.is_array()) fail_format("added_tokens", "not a list");
  std::unordered_map<int32_t, std::string_view> model_tokens;
  for (const auto& [content, id] : model) model_tokens.emplace(id, content);
  const int64_t limit = 4 * static_cast<int64_t>(json.size() + model.size()) + 100'000;
  for (const Json& entry : json) {
    AddedToken token = read_token(entry);
    if (token.content.empty()) continue;  // as Hugging Face does
    // Ids that contradict each other would make two libraries give two results: refused.
    const auto in_model = model.find(token.content);
    const auto same_id = model_tokens.find(token.id);
    if (token.id >= limit || (in_model != model.end() && in_model->second != token.id) ||
        (same_id != model_tokens.end() && same_id->second != token.content) ||
        by_id_.contains(token.id) || ids_.contains(token.content))
      fail_format("added_tokens", accrete::format("{:?} with id {} contradicts another entry",
                                                  token.content, token.id));
    std::string changed;
    const bool is_new = token.normalized
                            ? normalized_.add(normalizer_.apply(token.content, changed), token.id)
                            : as_written_.add(token.content, token.id);
    if (!is_new)
      fail_unsupported("added_tokens",
                       accrete::format("{:?} normalised is another one's", token.content));
    ids_.emplace(token.content, token.id);
    by_id_.emplace(token.id, std::move(token));
  }
}

bool AddedTokens::Finder::add(std::string_view content, int32_t id) {
  starts_[static_cast<unsigned char>(content.front())] = true;
  uint32_t node = 0;
  for (const char c : content) {
    const auto byte = static_cast<unsigned char>(c);
    uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      auto& children = nodes_[node].next;
      children.insert(std::upper_bound(children.begin(), children.end(), std::pair(byte, next)),
                      {byte, next});
      nodes_.emplace_back();
    }
    node = next;
  }
  if (nodes_[node].id >= 0) return false;
  nodes_[node].id = id;
  return true;
}

uint32_t AddedTokens::Finder::child(uint32_t node, unsigned char byte) const {
  const auto& children = nodes_[node].next;
  const auto found = std::lower_bound(children.begin(), children.end(), std::pair(byte, 0u));
  return found != children.end() && found->first == byte ? found->second : 0;
}

AddedTokens::Finder::Found AddedTokens::Finder::find(std::string_view text, size_t at) const {
  for (; at < text.size(); ++at) {
    if (!starts_[static_cast<unsigned char>(text[at])]) continue;
    Found longest = {at, at, -1};
    uint32_t node = 0;
    for (size_t end = at; end < text.size();) {
      node = child(node, static_cast<unsigned char>(text[end++]));
      if (node == 0) break;
      if (nodes_[node].id >= 0) longest = {at, end, nodes_[node].id};
    }
    if (longest.id >= 0) return longest;
  }
  return {text.size(), text.size(), -1};
}

void AddedTokens::split_with(const Finder& finder, std::string_view text, bool parse_special,
                             std::vector<TextPart>& parts) const {
  size_t done = 0;
  for (auto found = finder.find(text, 0); found.id >= 0; found = finder.find(text, found.end)) {
    const AddedToken& token = by_id_.at(found.id);
    if (token.special && !parse_special) continue;
    size_t begin = found.begin, end = found.end;
    if (token.single_word && (word_before(text.substr(0, begin)) || word_after(text.substr(end))))
      continue;
    if (token.lstrip) begin = std::max(trailing_space(text.substr(0, begin)), done);
    if (token.rstrip) end += leading_space(text.substr(end));
    if (begin > done) parts.push_back({text.substr(done, begin - done), -1});
    parts.push_back({text.substr(begin, end - begin), token.id});
    done = end;
  }
  if (done < text.size()) parts.push_back({text.substr(done), -1});
}

std::vector<TextPart> AddedTokens::split(std::string_view text, bool parse_special,
                                         std::deque<std::string>& storage) const {
  std::vector<TextPart> written, parts;
  split_with(as_written_, text, parse_special, written);
  for (const TextPart& part : written) {
    if (part.id >= 0) {
      parts.push_back(part);
      continue;
    }
    std::string changed;
    std::string_view normalized = normalizer_.apply(part.text, changed);
    if (normalized.data() == changed.data()) normalized = storage.emplace_back(std::move(changed));
    split_with(normalized_, normalized, parse_special, parts);
  }
  return parts;
}

}  // namespace accrete::text
