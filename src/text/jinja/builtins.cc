// The filters, tests, methods and functions of Jinja and Python that chat templates use.

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <optional>

#include "base/format.h"
#include "text/jinja/lexer.h"
#include "text/jinja/value.h"
#include "text/unicode.h"

namespace accrete::text::jinja {
namespace {

// As long as a range() or a string may get.
constexpr int64_t kLongest = 1'000'000;

const std::string& text_of(const Value& value, std::string_view what) {
  if (value.kind != Value::kString)
    throw Refused{accrete::format("{} of something else than a string", what)};
  return value.text;
}

// The argument as a string, if it was given and is not None.
std::optional<std::string> optional_text(const Value& value, std::string_view what) {
  if (value.kind == Value::kUndefined || value.kind == Value::kNone) return std::nullopt;
  return text_of(value, what);
}

enum Side { kLeft = 1, kRight = 2, kBoth = 3 };

std::string stripped(std::string_view text, const std::optional<std::string>& characters,
                     Side side) {
  if (!characters) {
    if (side & kLeft) text = without_leading_space(text);
    if (side & kRight) text = without_trailing_space(text);
    return std::string(text);
  }
  const auto among = [&](std::string_view one) {
    return characters->find(one) != std::string::npos;
  };
  while ((side & kLeft) && !text.empty()) {
    const size_t n = unicode::decode(text.data()).second;
    if (!among(text.substr(0, n))) break;
    text.remove_prefix(n);
  }
  while ((side & kRight) && !text.empty()) {
    const size_t n = unicode::decode_last(text).second;
    if (!among(text.substr(text.size() - n))) break;
    text.remove_suffix(n);
  }
  return std::string(text);
}

// Case mapping of letters beyond ASCII is not known here.
std::string with_case(std::string text, const std::string& how) {
  bool first = true;
  for (char& c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) throw Refused{how + " of letters beyond ASCII"};
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool up = how == "upper" || (how != "lower" && first);
    if (letter) c = static_cast<char>(up ? c & ~0x20 : c | 0x20);
    first = how == "title" && !letter;
  }
  return text;
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to,
                     int64_t most) {
  if (from.empty()) throw Refused{"the replacement of nothing"};
  std::string out;
  size_t at = 0;
  for (size_t found; most != 0 && (found = text.find(from, at)) != std::string::npos; --most) {
    out.append(text, at, found - at).append(to);
    at = found + from.size();
    if (static_cast<int64_t>(out.size()) > kLongest) throw Refused{"a string of a megabyte"};
  }
  return out.append(text, at, std::string::npos);
}

Value split(const std::string& text, const Arguments& arguments) {
  arguments.check("split", 2, {"sep", "maxsplit"});
  const auto separator = optional_text(arguments.get(0, "sep"), "split");
  const Value limit = arguments.get(1, "maxsplit");
  int64_t most = limit.kind == Value::kInteger ? limit.integer : -1;
  std::vector<Value> parts;
  if (!separator) {
    if (most >= 0) throw Refused{"split at white space with a limit"};
    for (std::string_view rest = without_leading_space(text); !rest.empty();) {
      size_t n = 0;
      while (n < rest.size() && !is_python_space(unicode::decode(rest.data() + n).first))
        n += unicode::decode(rest.data() + n).second;
      parts.push_back(Value::of(std::string(rest.substr(0, n))));
      rest = without_leading_space(rest.substr(n));
    }
    return Value::list(std::move(parts));
  }
  if (separator->empty()) throw Refused{"split at nothing"};
  size_t at = 0;
  for (size_t found; most != 0 && (found = text.find(*separator, at)) != std::string::npos;
       --most) {
    parts.push_back(Value::of(text.substr(at, found - at)));
    at = found + separator->size();
  }
  parts.push_back(Value::of(text.substr(at)));
  return Value::list(std::move(parts));
}

bool begins_or_ends(const std::string& text, const Value& with, bool begins) {
  if (with.kind == Value::kList)
    return std::any_of(with.items->items.begin(), with.items->items.end(),
                       [&](const Value& one) { return begins_or_ends(text, one, begins); });
  const std::string& part = text_of(with, "startswith");
  return begins ? text.starts_with(part) : text.ends_with(part);
}

std::string joined(const Value& list, const std::string& between) {
  std::string out;
  bool first = true;
  for (const Value& item : items_of(list)) {
    if (!first) out += between;
    out += printed(item);
    first = false;
  }
  return out;
}

// Names that are keyed in dotted paths: "function.name".
Value attribute_of(Value value, const Value& path) {
  if (path.kind == Value::kInteger) return at(value, path);
  std::string_view rest = text_of(path, "an attribute");
  while (true) {
    const size_t dot = rest.find('.');
    if (!value.has_names()) return Value::undefined(std::string(rest));
    const Value* found = value.find(rest.substr(0, dot));
    if (found == nullptr) return Value::undefined(std::string(rest));
    Value next = *found;
    value = std::move(next);
    if (dot == std::string_view::npos) return value;
    rest.remove_prefix(dot + 1);
  }
}

// select, reject, selectattr, rejectattr.
Value selected(const Value& list, const std::string& name, const Arguments& arguments) {
  const bool by_attribute = name.ends_with("attr"), keep = name.starts_with("select");
  size_t next = by_attribute ? 1 : 0;
  if (!arguments.named.empty() || arguments.positional.size() < next)
    throw Refused{name + " with such arguments"};
  std::optional<std::string> test;
  if (arguments.positional.size() > next)
    test = text_of(arguments.positional[next++], "the test of " + name);
  Arguments rest;
  for (; next < arguments.positional.size(); ++next)
    rest.positional.push_back(arguments.positional[next]);
  std::vector<Value> out;
  for (const Value& item : items_of(list)) {
    const Value what = by_attribute ? attribute_of(item, arguments.positional[0]) : item;
    if ((test ? tested(what, *test, rest) : truth(what)) == keep) out.push_back(item);
  }
  return Value::list(std::move(out));
}

Value mapped(const Value& list, const Arguments& arguments) {
  std::vector<Value> out;
  const Value attribute = arguments.get(99, "attribute");
  if (attribute.kind != Value::kUndefined) {
    arguments.check("map", 0, {"attribute", "default"});
    const Value otherwise = arguments.get(99, "default");
    for (const Value& item : items_of(list)) {
      Value one = attribute_of(item, attribute);
      out.push_back(one.kind == Value::kUndefined ? otherwise : std::move(one));
    }
    return Value::list(std::move(out));
  }
  if (arguments.positional.empty()) throw Refused{"map with such arguments"};
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin());
  const std::string& filter = text_of(arguments.positional[0], "map");
  for (const Value& item : items_of(list)) out.push_back(filtered(item, filter, rest));
  return Value::list(std::move(out));
}

// Behind every line break; with `first` also in front, with `blank` also before empty lines.
std::string indented(const std::string& text, const Arguments& arguments) {
  arguments.check("indent", 3, {"width", "first", "blank"});
  const Value width = arguments.get(0, "width");
  std::string by(4, ' ');
  if (width.kind == Value::kInteger)
    by.assign(static_cast<size_t>(std::clamp<int64_t>(width.integer, 0, 1000)), ' ');
  else if (width.kind != Value::kUndefined)
    by = text_of(width, "indent");
  const bool first = truth(arguments.get(1, "first")), blank = truth(arguments.get(2, "blank"));
  std::string out = first ? by : "";
  for (size_t i = 0; i < text.size(); ++i) {
    out += text[i];
    if (text[i] == '\n' && (blank || (i + 1 < text.size() && text[i + 1] != '\n'))) out += by;
  }
  return out;
}

// Now, in local time; SOURCE_DATE_EPOCH, seconds since 1970, says another time, which is then UTC.
std::string date(const std::string& format) {
  std::time_t now = std::time(nullptr);
  std::tm parts{};
  if (const char* fixed = std::getenv("SOURCE_DATE_EPOCH")) {
    now = static_cast<std::time_t>(std::strtoll(fixed, nullptr, 10));
    ::gmtime_r(&now, &parts);
  } else {
    ::localtime_r(&now, &parts);
  }
  char text[256];
  const size_t n = std::strftime(text, sizeof text, format.c_str(), &parts);
  if (n == 0 && !format.empty()) throw Refused{accrete::format("the date as {:?}", format)};
  return {text, n};
}

Value pairs(const Value& dict) {
  std::vector<Value> out;
  for (size_t i = 0; i < dict.items->names.size(); ++i)
    out.push_back(Value::list({Value::of(dict.items->names[i]), dict.items->items[i]}));
  return Value::list(std::move(out));
}

Value as_integer(const Value& value, const Value& otherwise) {
  if (value.kind == Value::kFloat) return Value::of(static_cast<int64_t>(value.real));
  if (value.is_number()) return Value::of(value.integer);
  if (value.kind == Value::kString) {
    const std::string text = stripped(value.text, std::nullopt, kBoth);
    const bool digits = !text.empty() && text.size() < 18 &&
                        std::all_of(
                            text.begin() + (text[0] == '-' && text.size() > 1 ? 1 : 0), text.end(),
                            [](char c) { return c >= '0' && c <= '9'; });
    if (digits) return Value::of(int64_t{std::stoll(text)});
  }
  return otherwise.kind == Value::kUndefined ? Value::of(int64_t{0}) : otherwise;
}

}  // namespace

Value filtered(const Value& value, const std::string& name, const Arguments& arguments) {
  if (name == "default" || name == "d") {
    arguments.check(name, 2, {"default_value", "boolean"});
    const bool falsy = truth(arguments.get(1, "boolean")) && !truth(value);
    if (value.kind != Value::kUndefined && !falsy) return value;
    const Value otherwise = arguments.get(0, "default_value");
    return otherwise.kind == Value::kUndefined ? Value::of("") : otherwise;
  }
  if (name == "trim") {
    arguments.check(name, 1, {"chars"});
    return Value::of(
        stripped(printed(value), optional_text(arguments.get(0, "chars"), name), kBoth));
  }
  if (name == "length" || name == "count") return Value::of(length(value));
  if (name == "upper" || name == "lower" || name == "capitalize")
    return Value::of(with_case(printed(value), name));
  if (name == "string") return Value::of(printed(value));
  if (name == "safe") return value;
  if (name == "list") return Value::list(items_of(value));
  if (name == "first" || name == "last") {
    const auto items = items_of(value);
    if (items.empty()) return Value::undefined("an item of nothing");
    return name == "first" ? items.front() : items.back();
  }
  if (name == "join") {
    arguments.check(name, 2, {"d", "attribute"});
    Value list = value;
    if (const Value path = arguments.get(1, "attribute"); path.kind != Value::kUndefined) {
      std::vector<Value> items;
      for (const Value& item : items_of(value)) items.push_back(attribute_of(item, path));
      list = Value::list(std::move(items));
    }
    return Value::of(joined(list, optional_text(arguments.get(0, "d"), name).value_or("")));
  }
  if (name == "replace") {
    arguments.check(name, 3, {"old", "new", "count"});
    const Value most = arguments.get(2, "count");
    return Value::of(replaced(printed(value), text_of(arguments.get(0, "old"), name),
                              text_of(arguments.get(1, "new"), name),
                              most.kind == Value::kInteger ? most.integer : -1));
  }
  if (name == "int") return as_integer(value, arguments.get(0, "default"));
  if (name == "abs" && value.kind == Value::kInteger)
    return Value::of(value.integer < 0 ? -value.integer : value.integer);
  if (name == "items") {
    if (value.kind == Value::kUndefined) return Value::list({});
    if (value.kind == Value::kDict) return pairs(value);
  }
  if (name == "map") return mapped(value, arguments);
  if (name == "select" || name == "reject" || name == "selectattr" || name == "rejectattr")
    return selected(value, name, arguments);
  if (name == "reverse" && value.kind == Value::kList)
    return slice(value, Value::none(), Value::none(), Value::of(int64_t{-1}));
  if (name == "indent") return Value::of(indented(printed(value), arguments));
  if (name == "tojson") {
    arguments.check(name, 0, {"indent", "ensure_ascii"});
    if (truth(arguments.get(0, "ensure_ascii"))) throw Refused{"tojson in ASCII"};
    const Value indent = arguments.get(0, "indent");
    return Value::of(
        to_json(value, indent.kind == Value::kInteger
                           ? static_cast<int>(std::clamp<int64_t>(indent.integer, 0, 32))
                           : -1));
  }
  throw Refused{accrete::format("the filter {:?}", name)};
}

bool tested(const Value& value, const std::string& name, const Arguments& arguments) {
  const bool number = value.kind == Value::kInteger;
  if (name == "defined") return value.kind != Value::kUndefined;
  if (name == "undefined") return value.kind == Value::kUndefined;
  if (name == "none") return value.kind == Value::kNone;
  if (name == "string") return value.kind == Value::kString;
  if (name == "boolean") return value.kind == Value::kBool;
  if (name == "true") return value.kind == Value::kBool && value.integer != 0;
  if (name == "false") return value.kind == Value::kBool && value.integer == 0;
  if (name == "integer") return number;
  if (name == "float") return value.kind == Value::kFloat;
  if (name == "number") return value.is_number();
  if (name == "mapping") return value.kind == Value::kDict;
  if (name == "iterable" || name == "sequence")
    return value.kind == Value::kString || value.kind == Value::kList ||
           value.kind == Value::kDict || value.kind == Value::kUndefined;
  if (name == "callable") return value.kind == Value::kMacro || value.kind == Value::kFunction;
  if ((name == "odd" || name == "even") && number)
    return (value.integer % 2 != 0) == (name == "odd");
  if (arguments.positional.size() == 1) {
    const Value& other = arguments.positional[0];
    if (name == "equalto" || name == "eq" || name == "==" || name == "sameas")
      return equal(value, other);
    if (name == "ne" || name == "!=") return !equal(value, other);
    if (name == "in") return contains(other, value);
    if (name == "lt" || name == "lessthan" || name == "<") return less(value, other);
    if (name == "gt" || name == "greaterthan" || name == ">") return less(other, value);
    if (name == "divisibleby" && number && other.kind == Value::kInteger && other.integer != 0)
      return value.integer % other.integer == 0;
  }
  throw Refused{accrete::format("the test {:?}", name)};
}

bool has_method(const Value& value, std::string_view name) {
  const auto among = [name](std::initializer_list<std::string_view> all) {
    return std::find(all.begin(), all.end(), name) != all.end();
  };
  if (value.kind == Value::kDict)
    return among({"items", "keys", "values", "get", "copy", "pop", "update"});
  return false;
}

Value method(const Value& value, const std::string& name, const Arguments& arguments) {
  if (value.kind == Value::kString) {
    const std::string& text = value.text;
    if (name == "strip" || name == "lstrip" || name == "rstrip") {
      arguments.check(name, 1, {});
      return Value::of(stripped(text, optional_text(arguments.get(0, ""), name),
                                name == "strip"    ? kBoth
                                : name == "lstrip" ? kLeft
                                                   : kRight));
    }
    if (name == "startswith" || name == "endswith") {
      arguments.check(name, 1, {});
      return Value::of(begins_or_ends(text, arguments.get(0, ""), name == "startswith"));
    }
    if (name == "split") return split(text, arguments);
    if (name == "upper" || name == "lower" || name == "capitalize" || name == "title")
      return Value::of(with_case(text, name));
    if (name == "replace") {
      arguments.check(name, 3, {});
      const Value most = arguments.get(2, "");
      return Value::of(replaced(text, text_of(arguments.get(0, ""), name),
                                text_of(arguments.get(1, ""), name),
                                most.kind == Value::kInteger ? most.integer : -1));
    }
    if (name == "join") {
      arguments.check(name, 1, {});
      return Value::of(joined(arguments.get(0, ""), text));
    }
    if (name == "find" && arguments.positional.size() == 1) {
      const size_t found = text.find(text_of(arguments.positional[0], name));
      return Value::of(found == std::string::npos ? int64_t{-1}
                                                  : length(Value::of(text.substr(0, found))));
    }
  }
  if (value.kind == Value::kDict) {
    if (name == "items") return pairs(value);
    if (name == "keys") return Value::list(items_of(value));
    if (name == "values") return Value::list(value.items->items);
    if (name == "get") {
      arguments.check(name, 2, {});
      const Value key = arguments.get(0, ""), otherwise = arguments.get(1, "");
      if (const Value* found = value.find(text_of(key, name))) return *found;
      return otherwise.kind == Value::kUndefined ? Value::none() : otherwise;
    }
  }
  throw Refused{accrete::format("the method {:?}", name)};
}

bool is_function(std::string_view name) {
  return name == "range" || name == "raise_exception" || name == "namespace" || name == "dict" ||
         name == "strftime_now";
}

Value call_function(const std::string& name, const Arguments& arguments) {
  if (name == "raise_exception") {
    arguments.check(name, 1, {"message"});
    throw Raised{printed(arguments.get(0, "message"))};
  }
  if (name == "strftime_now") {
    arguments.check(name, 1, {"format"});
    return Value::of(date(text_of(arguments.get(0, "format"), name)));
  }
  if (name == "namespace" || name == "dict") {
    if (!arguments.positional.empty()) throw Refused{name + " of something"};
    return Value::dict(arguments.named, name == "dict" ? Value::kDict : Value::kNamespace);
  }
  arguments.check(name, 3, {});
  int64_t bounds[3] = {0, 0, 1};
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    if (arguments.positional[i].kind != Value::kInteger) throw Refused{"a range of no integers"};
    bounds[i] = arguments.positional[i].integer;
  }
  if (arguments.positional.empty()) throw Refused{"a range without an end"};
  if (arguments.positional.size() == 1) std::swap(bounds[0], bounds[1]);
  const int64_t by = bounds[2];
  if (by == 0) throw Refused{"a range with step 0"};
  std::vector<Value> items;
  for (int64_t i = bounds[0]; by > 0 ? i < bounds[1] : i > bounds[1]; i += by) {
    if (static_cast<int64_t>(items.size()) >= kLongest / 10) throw Refused{"a range so long"};
    items.push_back(Value::of(i));
  }
  return Value::list(std::move(items));
}

}  // namespace accrete::text::jinja
