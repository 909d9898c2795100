#include "serve/fields.h"

#include <cmath>

#include "base/format.h"
#include "base/slips.h"
#include "io/strict_json.h"

namespace accrete::serve {
namespace {

const nlohmann::json kNothing;

// Where a text with a NUL character stands; nullopt: nowhere.
std::optional<std::string> nul_in(const nlohmann::json& json, const std::string& path) {
  constexpr char kNul = '\0';
  if (json.is_string() && json.get_ref<const std::string&>().find(kNul) != std::string::npos)
    return path;
  if (json.is_array())
    for (size_t i = 0; i < json.size(); ++i)
      if (auto found = nul_in(json[i], accrete::format("{}[{}]", path, i))) return found;
  if (json.is_object())
    for (const auto& [name, value] : json.items()) {
      if (name.find(kNul) != std::string::npos) return path;
      if (auto found = nul_in(value, path.empty() ? name : path + "." + name)) return found;
    }
  return std::nullopt;
}

}  // namespace

Fields Fields::of_body(std::string_view body) {
  nlohmann::json json;
  try {
    json = parse_json(body, "body", {.depth = 32, .values = 5000000});
  } catch (const Error& e) {
    throw RequestError(400, "invalid_json", "", e.what(), "send one JSON object in UTF-8");
  }
  if (!json.is_object())
    throw RequestError(400, "invalid_json", "", "the body is no JSON object",
                       "send one JSON object");
  // JSON can write it only so.
  if (body.find("\\u0000") != std::string_view::npos)
    if (const auto where = nul_in(json, ""))
      throw RequestError(400, "invalid_value", *where,
                         accrete::format("{}: a text must not have the NUL character (\\u0000)",
                                         where->empty() ? "body" : *where),
                         "leave it out");
  return {std::move(json), ""};
}

Fields::Fields(nlohmann::json object, std::string path)
    : object_(std::move(object)), path_(std::move(path)) {}

std::string Fields::path(const std::string& name) const {
  return path_.empty() ? name : path_ + "." + name;
}

RequestError Fields::wrong(const std::string& name, const std::string& what) const {
  const std::string where = path(name);
  std::string hint;
  // Nothing is there, but something that was meant to be?
  if (!has(name)) {
    std::vector<std::string> others;
    for (const auto& [key, value] : object_.items())
      if (!read_.contains(key)) others.push_back(key);
    if (const std::string near = nearest_word(name, others); !near.empty())
      hint = accrete::format("\"{}\" was given; the field is \"{}\"", near, name);
  }
  return {400, "invalid_value", where, accrete::format("{}: {}", where, what), hint};
}

const nlohmann::json& Fields::any(const std::string& name) {
  read_.insert(name);
  const auto at = object_.find(name);
  return at == object_.end() ? kNothing : *at;
}

bool Fields::has(const std::string& name) const {
  const auto at = object_.find(name);
  return at != object_.end() && !at->is_null();
}

std::optional<std::string> Fields::text(const std::string& name) {
  const auto& value = any(name);
  if (value.is_null()) return std::nullopt;
  if (!value.is_string()) throw wrong(name, "a text is expected");
  return value.get<std::string>();
}

std::optional<bool> Fields::flag(const std::string& name) {
  const auto& value = any(name);
  if (value.is_null()) return std::nullopt;
  if (!value.is_boolean()) throw wrong(name, "true or false is expected");
  return value.get<bool>();
}

std::optional<int64_t> Fields::integer(const std::string& name, int64_t least, int64_t most) {
  const auto& value = any(name);
  if (value.is_null()) return std::nullopt;
  const auto range = accrete::format("a whole number from {} to {} is expected", least, most);
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
    throw wrong(name, range);
  // 5.0 is a whole number too: some clients write it so.
  if (value.is_number_float()) {
    const double x = value.get<double>();
    if (!(std::floor(x) == x && x >= static_cast<double>(least) && x <= static_cast<double>(most) &&
          std::abs(x) < 9e15))
      throw wrong(name, range);
    return static_cast<int64_t>(x);
  }
  if (!value.is_number_integer()) throw wrong(name, range);
  const auto x = value.get<int64_t>();
  if (x < least || x > most) throw wrong(name, range);
  return x;
}

std::optional<double> Fields::number(const std::string& name, double least, double most) {
  const auto& value = any(name);
  if (value.is_null()) return std::nullopt;
  const double x = value.is_number() ? value.get<double>() : NAN;
  if (!(x >= least && x <= most))
    throw wrong(name, accrete::format("a number from {:g} to {:g} is expected", least, most));
  return x;
}

std::optional<std::vector<std::string>> Fields::texts(const std::string& name, size_t most) {
  const auto& value = any(name);
  if (value.is_null()) return std::nullopt;
  std::vector<std::string> out;
  if (value.is_string()) {
    out.push_back(value.get<std::string>());
    return out;
  }
  if (!value.is_array()) throw wrong(name, "a text or a list of texts is expected");
  if (value.size() > most) throw wrong(name, accrete::format("at most {} are taken", most));
  for (size_t i = 0; i < value.size(); ++i) {
    if (!value[i].is_string())
      throw wrong(accrete::format("{}[{}]", name, i), "a text is expected");
    out.push_back(value[i].get<std::string>());
  }
  return out;
}

std::optional<Fields> Fields::object(const std::string& name) {
  const auto& value = any(name);
  if (value.is_null()) return std::nullopt;
  if (!value.is_object()) throw wrong(name, "an object is expected");
  return Fields(value, path(name));
}

void Fields::refuse(const std::string& name, const nlohmann::json& neutral,
                    const std::string& hint) {
  const auto& value = any(name);
  if (value.is_null() || value == neutral ||
      ((value.is_array() || value.is_object()) && value.empty()))
    return;
  const std::string where = path(name);
  throw RequestError(400, "unsupported_parameter", where,
                     accrete::format("{} is not supported", where), hint);
}

std::string Fields::ignored() const {
  std::string out;
  for (const auto& [name, value] : object_.items()) {
    if (read_.count(name) > 0) continue;
    // A header is one line of plain letters.
    std::string plain = path_.empty() ? "" : path_ + ".";
    for (const char c : name.substr(0, 64)) plain += c >= 33 && c < 127 && c != ',' ? c : '?';
    out += (out.empty() ? "" : ", ") + plain;
    if (out.size() > 512) break;
  }
  return out;
}

}  // namespace accrete::serve
