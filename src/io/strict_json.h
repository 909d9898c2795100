// JSON from untrusted files: no duplicate keys, no deep nesting, no floods.
//
// nlohmann::json::parse keeps the last of two equal keys and nests without a limit; here both are
// errors, so that a file means one thing or nothing.
//
// Non-goals: comments, JSON5, writing (json::dump does that).
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace accrete {

struct JsonLimits {
  int depth = 64;              // nesting of arrays and objects
  int64_t values = 100000000;  // values in all: bounds the memory
};

// Throws kFormat: "SOURCE: what, at line L, column C". With `first_line` > 0 the message begins
// with "SOURCE:LINE:" instead, LINE counted from there: for a piece of a larger file.
nlohmann::json parse_json(std::string_view text, std::string_view source,
                          const JsonLimits& limits = {}, int64_t first_line = 0);

// The JSON object in a file. Throws kNotFound, kIo, kFormat.
nlohmann::json read_json_object(const std::filesystem::path& path, const JsonLimits& limits = {});

// What nlohmann's parser says, without its tag and cut to a length fit for a message.
std::string json_error_text(std::string_view what);

}  // namespace accrete
