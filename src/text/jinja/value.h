// Values of Jinja's expressions, with Python's rules for them.
//
// Values are immutable, as in the sandbox of `transformers`, but for namespaces. Non-goals: what
// templates do not do with values (sorting, formatting).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/syntax.h"

namespace accrete::text::jinja {

struct Value {
  enum Kind {
    kUndefined,  // text: what was not found
    kNone,
    kBool,  // integer: 0 or 1
    kInteger,
    kFloat,
    kString,     // text, UTF-8
    kList,       // items; tuples too
    kDict,       // items under the names
    kNamespace,  // the same, and can be set
    kMacro,      // macro
    kFunction,   // text: its name
  };
  struct Items {
    std::vector<std::string> names;
    std::vector<Value> items;
  };
  Kind kind = kUndefined;
  std::string text;
  int64_t integer = 0;
  double real = 0;
  std::shared_ptr<Items> items;  // never null where there may be some
  const Statement* macro = nullptr;

  static Value none() { return {kNone, {}, 0, 0, nullptr, nullptr}; }
  static Value of(bool truth) { return {kBool, {}, truth ? 1 : 0, 0, nullptr, nullptr}; }
  static Value of(int64_t integer) { return {kInteger, {}, integer, 0, nullptr, nullptr}; }
  static Value of(double real) { return {kFloat, {}, 0, real, nullptr, nullptr}; }
  static Value of(std::string text) { return {kString, std::move(text), 0, 0, nullptr, nullptr}; }
  static Value of(const char* text) { return of(std::string(text)); }
  static Value list(std::vector<Value> items);
  static Value dict(Names names, Kind kind = kDict);
  static Value undefined(std::string what) {
    return {kUndefined, std::move(what), 0, 0, nullptr, nullptr};
  }

  bool is_number() const { return kind == kBool || kind == kInteger || kind == kFloat; }
  bool has_names() const { return kind == kDict || kind == kNamespace; }
  double number() const { return kind == kFloat ? real : static_cast<double>(integer); }
  const Value* find(std::string_view name) const;  // of a dict or namespace; null: has none
};

// Thrown and caught in the jinja files: what is not understood, or what Python refuses.
struct Refused {
  std::string what;
};

bool truth(const Value& value);
bool equal(const Value& left, const Value& right);
// Numbers or strings.
bool less(const Value& left, const Value& right);
// `item in container`.
bool contains(const Value& container, const Value& item);
// str(value). Lists and dicts are refused.
std::string printed(const Value& value);
// json.dumps(value, ensure_ascii=False, indent=indent); indent < 0: on one line.
std::string to_json(const Value& value, int indent = -1, int depth = 0);
// What a loop over the value goes over: a list's items, a dict's keys, a string's characters.
std::vector<Value> items_of(const Value& value);
int64_t length(const Value& value);

// Arguments of a call: those by position, then those by name.
struct Arguments {
  std::vector<Value> positional;
  Names named;

  // The argument at `at` or of that name; undefined when it was not given.
  Value get(size_t at, std::string_view name) const;
  // Refuses more than `most` by position, and names that are not among `names`.
  void check(std::string_view of, size_t most, std::initializer_list<std::string_view> names) const;
};

// value | name(arguments); value is name(arguments); value.name(arguments).
Value filtered(const Value& value, const std::string& name, const Arguments& arguments);
bool tested(const Value& value, const std::string& name, const Arguments& arguments);
Value method(const Value& value, const std::string& name, const Arguments& arguments);
bool has_method(const Value& value, std::string_view name);
// range, raise_exception, ...: what a name says that is not a variable.
bool is_function(std::string_view name);
Value call_function(const std::string& name, const Arguments& arguments);

// value[index], with Python's negative indices, and value[begin:end:step] of strings and lists.
Value at(const Value& value, const Value& index);
Value slice(const Value& value, const Value& begin, const Value& end, const Value& step);

}  // namespace accrete::text::jinja
