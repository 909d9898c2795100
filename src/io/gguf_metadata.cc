#include <limits>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "io/gguf.h"
#include "io/utf8.h"

namespace accrete {
namespace {

[[noreturn]] void fail(const std::string& source, std::string_view key, std::string_view what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}: metadata {} {}", source, shown(key), what),
              "the file is damaged or made for another purpose");
}

using Map = std::map<std::string, GgufValue, std::less<>>;

const GgufValue* find_value(const Map& map, std::string_view key) {
  const auto found = map.find(key);
  return found == map.end() ? nullptr : &found->second;
}

// nullptr when the key is missing; an error when it is of another type.
template <typename T>
const T* find_typed(const Map& map, const std::string& source, std::string_view key,
                    std::string_view type) {
  const GgufValue* value = find_value(map, key);
  if (value == nullptr) return nullptr;
  if (const T* typed = std::get_if<T>(value)) return typed;
  fail(source, key, accrete::format("is not {}", type));
}

std::optional<int64_t> find_int(const Map& map, const std::string& source, std::string_view key) {
  const GgufValue* value = find_value(map, key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<int64_t>(value)) return *number;
  const auto* number = std::get_if<uint64_t>(value);
  if (number == nullptr) fail(source, key, "is not an integer");
  if (!std::in_range<int64_t>(*number)) fail(source, key, "exceeds 2^63 - 1");
  return static_cast<int64_t>(*number);
}

}  // namespace

std::string GgufFile::get_string(std::string_view key) const {
  const auto* value = find_typed<std::string>(metadata_, source_, key, "a string");
  if (value == nullptr) fail(source_, key, "is missing");
  return *value;
}

std::string GgufFile::get_string(std::string_view key, std::string_view fallback) const {
  const auto* value = find_typed<std::string>(metadata_, source_, key, "a string");
  return value == nullptr ? std::string(fallback) : *value;
}

int64_t GgufFile::get_int(std::string_view key) const {
  const std::optional<int64_t> value = find_int(metadata_, source_, key);
  if (!value) fail(source_, key, "is missing");
  return *value;
}

int64_t GgufFile::get_int(std::string_view key, int64_t fallback) const {
  return find_int(metadata_, source_, key).value_or(fallback);
}

double GgufFile::get_float(std::string_view key) const {
  const auto* value = find_typed<double>(metadata_, source_, key, "a float");
  if (value == nullptr) fail(source_, key, "is missing");
  return *value;
}

double GgufFile::get_float(std::string_view key, double fallback) const {
  const auto* value = find_typed<double>(metadata_, source_, key, "a float");
  return value == nullptr ? fallback : *value;
}

bool GgufFile::get_bool(std::string_view key, bool fallback) const {
  const auto* value = find_typed<bool>(metadata_, source_, key, "a boolean");
  return value == nullptr ? fallback : *value;
}

const std::vector<std::string>& GgufFile::get_strings(std::string_view key) const {
  using Strings = std::vector<std::string>;
  const auto* value = find_typed<Strings>(metadata_, source_, key, "an array of strings");
  if (value == nullptr) fail(source_, key, "is missing");
  return *value;
}

const std::vector<int64_t>* GgufFile::find_ints(std::string_view key) const {
  using Integers = std::vector<int64_t>;
  return find_typed<Integers>(metadata_, source_, key, "an array of integers");
}

const std::vector<double>* GgufFile::find_floats(std::string_view key) const {
  using Floats = std::vector<double>;
  return find_typed<Floats>(metadata_, source_, key, "an array of floats");
}

}  // namespace accrete
