#include "io/strict_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "io/utf8.h"

namespace accrete {
namespace {

using Json = nlohmann::json;

// Builds the value from the parser's events. nlohmann's parser keeps no stack of calls, so depth
// costs nothing until this handler refuses it.
class Builder {
 public:
  explicit Builder(const JsonLimits& limits) : limits_(limits) {}

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(int64_t value) { return add(value); }
  bool number_unsigned(uint64_t value) { return add(value); }
  bool number_float(double value, const std::string&) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(std::vector<uint8_t>&) { return fail("binary data"); }
  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& name) {
    if (stack_.back()->contains(name))
      return fail(accrete::format("the key {} is there twice", shown(name)));
    key_ = std::move(name);
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) {
    position_ = position;
    return fail(json_error_text(error.what()));
  }

  Json take() { return std::move(root_); }
  const std::string& error() const { return error_; }
  size_t position() const { return position_; }

 private:
  template <typename T>
  Json* place(T&& value) {
    if (--limits_.values < 0) return nullptr;
    if (stack_.empty()) {
      root_ = Json(std::forward<T>(value));
      return &root_;
    }
    Json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(Json(std::forward<T>(value)));
      return &parent.back();
    }
    return &(parent[key_] = Json(std::forward<T>(value)));
  }
  template <typename T>
  bool add(T&& value) {
    return place(std::forward<T>(value)) != nullptr || fail("too many values");
  }
  bool open(Json&& container) {
    if (static_cast<int>(stack_.size()) >= limits_.depth)
      return fail(accrete::format("nested deeper than {} levels", limits_.depth));
    // The pointer stays good: a parent does not grow while one of its children is open.
    Json* placed = place(std::move(container));
    if (placed == nullptr) return fail("too many values");
    stack_.push_back(placed);
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }
  bool fail(std::string what) {
    if (error_.empty()) error_ = std::move(what);
    return false;
  }

  JsonLimits limits_;
  Json root_;
  std::vector<Json*> stack_;
  std::string key_;
  std::string error_;
  size_t position_ = std::string::npos;
};

}  // namespace

std::string json_error_text(std::string_view what) {
  // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error ...; last
  // read:"
  const size_t tag = what.find("] ");
  if (what.starts_with("[json.exception") && tag != std::string_view::npos)
    what.remove_prefix(tag + 2);
  // What was read last may be a string of megabytes.
  const std::string text = shown(what, 240);
  return text.substr(1, text.size() - 2);
}

nlohmann::json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits,
                          int64_t first_line) {
  Builder builder(limits);
  if (Json::sax_parse(text.begin(), text.end(), &builder) && builder.error().empty())
    return builder.take();
  std::string where(source);
  if (first_line > 0) {
    const size_t end = std::min(builder.position(), text.size());
    const int64_t lines = builder.position() == std::string::npos
                              ? 0
                              : std::count(text.begin(), text.begin() + end, '\n');
    where += accrete::format(":{}", first_line + lines);
  }
  throw Error(ErrorCode::kFormat, accrete::format("{}: not valid JSON: {}", where, builder.error()),
              "correct the file, or fetch it again if it was downloaded");
}

nlohmann::json read_json_object(const std::filesystem::path& path, const JsonLimits& limits) {
  const std::string text = read_file(path);
  Json value =
      parse_json(std::string_view(text).substr(after_byte_order_mark(text)), path.string(), limits);
  if (!value.is_object())
    throw Error(ErrorCode::kFormat,
                accrete::format("{}: a JSON {} where an object is expected", path.string(),
                                value.type_name()),
                "correct the file, or fetch it again if it was downloaded");
  return value;
}

}  // namespace accrete
