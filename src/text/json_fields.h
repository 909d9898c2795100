// Typed reads from a tokenizer's JSON, with errors that name the place.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/format.h"

namespace accrete::text {

using Json = nlohmann::json;

[[noreturn]] inline void fail_format(std::string_view where, std::string_view what) {
  throw Error(ErrorCode::kFormat, accrete::format("tokenizer: {}: {}", where, what),
              "the file is damaged or not a tokenizer.json; fetch it again");
}

[[noreturn]] inline void fail_unsupported(std::string_view where, std::string_view what) {
  throw Error(ErrorCode::kUnsupported, accrete::format("tokenizer: {}: {}", where, what),
              "accrete reads byte-level BPE tokenizers (GPT-2, Llama 3, SmolLM2, Qwen families)");
}

// The member, or null when it is missing.
inline const Json& member(const Json& object, const char* key) {
  static const Json null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

inline bool bool_or(const Json& object, const char* key, bool otherwise, std::string_view where) {
  const Json& value = member(object, key);
  if (value.is_null()) return otherwise;
  if (!value.is_boolean()) fail_format(where, accrete::format("\"{}\" is not true or false", key));
  return value.get<bool>();
}

inline std::string string_at(const Json& object, const char* key, std::string_view where) {
  const Json& value = member(object, key);
  if (!value.is_string()) fail_format(where, accrete::format("\"{}\" is not a string", key));
  return value.get<std::string>();
}

// The "type" of a part; throws kFormat when the part is no object or has none.
inline std::string type_of(const Json& part, std::string_view where) {
  if (!part.is_object()) fail_format(where, "not an object");
  return string_at(part, "type", where);
}

// A token of tokenizer_config.json: a string, or an added token as an object; nullopt: neither.
inline std::optional<std::string> token_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object())
    if (const Json& content = member(value, "content"); content.is_string())
      return content.get<std::string>();
  return std::nullopt;
}

}  // namespace accrete::text
