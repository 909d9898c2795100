#include "text/truncate.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "base/format.h"
#include "text/bpe.h"
#include "text/json_fields.h"
#include "text/unicode.h"

namespace accrete {
namespace {

using text::Json;

// How byte-level BPE writes each byte (GPT-2).
std::array<std::string, 256> byte_tokens() {
  std::array<std::string, 256> out;
  for (char32_t c = 0x21; c < 0x144; ++c) {
    std::string token;
    unicode::append_utf8(token, c);
    if (const auto bytes = text::bytes_of_token(token); bytes && bytes->size() == 1)
      out[static_cast<unsigned char>(bytes->front())] = token;
  }
  return out;
}

std::pair<std::string, std::string> parts_of(const Json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  if (!merge.is_string()) text::fail_format("model merges", "an entry is not a pair");
  const auto& both = merge.get_ref<const std::string&>();
  const size_t space = both.find(' ');
  if (space == std::string::npos) text::fail_format("model merges", "an entry is not a pair");
  return {both.substr(0, space), both.substr(space + 1)};
}

}  // namespace

Json truncate_tokenizer(const Json& tokenizer, int64_t vocabulary) {
  const Json& model = text::member(tokenizer, "model");
  const Json& merges = text::member(model, "merges");
  if (!model.is_object() || !merges.is_array())
    text::fail_format("model", "no byte-level BPE with merges");
  Json added = Json::array();
  std::unordered_set<std::string> present;
  std::vector<std::string> names;
  const auto add = [&](const std::string& token) {
    if (present.insert(token).second) names.push_back(token);
  };
  const Json& all_added = text::member(tokenizer, "added_tokens");
  for (const Json& token : all_added.is_array() ? all_added : Json::array()) {
    const std::string content = text::string_at(token, "content", "added_tokens");
    Json copy = token;
    copy["id"] = names.size();
    add(content);
    added.push_back(std::move(copy));
  }
  for (const std::string& token : byte_tokens()) add(token);
  if (static_cast<int64_t>(names.size()) > vocabulary)
    throw Error(
        ErrorCode::kInvalidArgument,
        accrete::format("a vocabulary of {} has no room for {} special tokens and 256 bytes",
                        vocabulary, added.size()),
        accrete::format("take a vocabulary of at least {}", names.size()));
  Json kept = Json::array();
  for (const Json& merge : merges) {
    const auto [left, right] = parts_of(merge);
    if (!present.contains(left) || !present.contains(right))
      text::fail_format("model merges",
                        accrete::format("{:?} comes before its parts", left + right));
    const bool is_new = !present.contains(left + right);
    if (is_new && static_cast<int64_t>(names.size()) == vocabulary) break;
    add(left + right);
    kept.push_back(merge);
  }
  Json vocab = Json::object();
  for (size_t i = 0; i < names.size(); ++i) vocab[names[i]] = i;

  Json out = tokenizer;
  out["added_tokens"] = std::move(added);
  out["model"]["vocab"] = std::move(vocab);
  out["model"]["merges"] = std::move(kept);
  out["model"]["unk_token"] = nullptr;  // every byte has a token
  out["post_processor"] = nullptr;      // it would name tokens by their former ids
  return out;
}

}  // namespace accrete
