#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "base/format.h"
#include "text/unicode.h"

namespace accrete::text::jinja {
namespace {

const char* kind_name(const Value& value) {
  constexpr const char* kNames[] = {"undefined",   "None",     "a bool",    "an integer",
                                    "a float",     "a string", "a list",    "a dict",
                                    "a namespace", "a macro",  "a function"};
  return kNames[value.kind];
}

// The bytes at which the characters of a string begin, and its size.
std::vector<size_t> characters(std::string_view text) {
  std::vector<size_t> begin;
  for (size_t i = 0; i < text.size(); i += unicode::decode(text.data() + i).second)
    begin.push_back(i);
  begin.push_back(text.size());
  return begin;
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    constexpr std::string_view kSpecial = "\"\\\n\r\t\b\f", kLetters = "\"\\nrtbf";
    const size_t which = kSpecial.find(c);
    if (which != std::string_view::npos) {
      out += '\\';
      out += kLetters[which];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += accrete::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

// repr(float).
std::string printed_float(double x) {
  if (!std::isfinite(x) || std::abs(x) >= 1e16 || (x != 0 && std::abs(x) < 1e-4))
    throw Refused{"a float of unusual size as text"};
  std::string text = accrete::format("{}", x);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

}  // namespace

Value Value::list(std::vector<Value> items) {
  Value value{kList, {}, 0, 0, std::make_shared<Items>(), nullptr};
  value.items->items = std::move(items);
  return value;
}

Value Value::dict(Names names, Kind kind) {
  Value value{kind, {}, 0, 0, std::make_shared<Items>(), nullptr};
  for (auto& [name, item] : names) {
    value.items->names.push_back(std::move(name));
    value.items->items.push_back(std::move(item));
  }
  return value;
}

const Value* Value::find(std::string_view name) const {
  for (size_t i = 0; i < items->names.size(); ++i)
    if (items->names[i] == name) return &items->items[i];
  return nullptr;
}

bool truth(const Value& value) {
  switch (value.kind) {
    case Value::kUndefined:
    case Value::kNone:
      return false;
    case Value::kBool:
    case Value::kInteger:
      return value.integer != 0;
    case Value::kFloat:
      return value.real != 0;
    case Value::kString:
      return !value.text.empty();
    case Value::kList:
    case Value::kDict:
      return !value.items->items.empty();
    default:
      return true;
  }
}

bool equal(const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) return left.number() == right.number();
  if (left.kind != right.kind) return false;
  switch (left.kind) {
    case Value::kUndefined:
    case Value::kNone:
      return true;
    case Value::kString:
      return left.text == right.text;
    case Value::kList: {
      const auto &a = left.items->items, &b = right.items->items;
      return std::equal(a.begin(), a.end(), b.begin(), b.end(), equal);
    }
    case Value::kDict: {
      if (left.items->names.size() != right.items->names.size()) return false;
      for (size_t i = 0; i < left.items->names.size(); ++i) {
        const Value* other = right.find(left.items->names[i]);
        if (other == nullptr || !equal(left.items->items[i], *other)) return false;
      }
      return true;
    }
    case Value::kNamespace:
      return left.items == right.items;
    default:
      throw Refused{accrete::format("a comparison of {}", kind_name(left))};
  }
}

bool less(const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) return left.number() < right.number();
  // Code points are in the order of their bytes.
  if (left.kind == Value::kString && right.kind == Value::kString) return left.text < right.text;
  throw Refused{accrete::format("whether {} is less than {}", kind_name(left), kind_name(right))};
}

bool contains(const Value& container, const Value& item) {
  if (container.kind == Value::kString && item.kind == Value::kString)
    return container.text.find(item.text) != std::string::npos;
  if (container.kind == Value::kList)
    return std::any_of(container.items->items.begin(), container.items->items.end(),
                       [&](const Value& one) { return equal(one, item); });
  if (container.has_names())
    return item.kind == Value::kString && container.find(item.text) != nullptr;
  if (container.kind == Value::kUndefined) return false;
  throw Refused{accrete::format("a search for {} in {}", kind_name(item), kind_name(container))};
}

std::string printed(const Value& value) {
  switch (value.kind) {
    case Value::kUndefined:
      return "";
    case Value::kNone:
      return "None";
    case Value::kBool:
      return value.integer != 0 ? "True" : "False";
    case Value::kInteger:
      return std::to_string(value.integer);
    case Value::kFloat:
      return printed_float(value.real);
    case Value::kString:
      return value.text;
    default:
      throw Refused{accrete::format("{} as text", kind_name(value))};
  }
}

std::string to_json(const Value& value, int indent, int depth) {
  if (depth > 64) throw Refused{"JSON nested too deeply"};
  switch (value.kind) {
    case Value::kNone:
      return "null";
    case Value::kBool:
      return value.integer != 0 ? "true" : "false";
    case Value::kInteger:
    case Value::kFloat:
      return printed(value);
    case Value::kString: {
      std::string out;
      append_json_string(out, value.text);
      return out;
    }
    case Value::kList:
    case Value::kDict: {
      const bool dict = value.kind == Value::kDict;
      if (value.items->items.empty()) return dict ? "{}" : "[]";
      const auto line = [indent](std::string& text, int deep) {
        if (indent >= 0) text.append(1, '\n').append(static_cast<size_t>(indent * deep), ' ');
      };
      std::string out(1, dict ? '{' : '[');
      for (size_t i = 0; i < value.items->items.size(); ++i) {
        if (i > 0) out += indent < 0 ? ", " : ",";
        line(out, depth + 1);
        if (dict) {
          append_json_string(out, value.items->names[i]);
          out += ": ";
        }
        out += to_json(value.items->items[i], indent, depth + 1);
      }
      line(out, depth);
      out += dict ? '}' : ']';
      return out;
    }
    default:
      throw Refused{accrete::format("{} as JSON", kind_name(value))};
  }
}

std::vector<Value> items_of(const Value& value) {
  std::vector<Value> items;
  switch (value.kind) {
    case Value::kUndefined:
      return items;
    case Value::kList:
      return value.items->items;
    case Value::kDict:
      for (const std::string& name : value.items->names) items.push_back(Value::of(name));
      return items;
    case Value::kString: {
      const auto begin = characters(value.text);
      for (size_t i = 0; i + 1 < begin.size(); ++i)
        items.push_back(Value::of(value.text.substr(begin[i], begin[i + 1] - begin[i])));
      return items;
    }
    default:
      throw Refused{accrete::format("a loop over {}", kind_name(value))};
  }
}

int64_t length(const Value& value) {
  if (value.kind == Value::kString) return static_cast<int64_t>(characters(value.text).size()) - 1;
  if (value.kind == Value::kUndefined) return 0;
  if (value.kind == Value::kList || value.kind == Value::kDict)
    return static_cast<int64_t>(value.items->items.size());
  throw Refused{accrete::format("the length of {}", kind_name(value))};
}

Value at(const Value& value, const Value& index) {
  if (value.has_names()) {
    if (index.kind == Value::kString)
      if (const Value* item = value.find(index.text)) return *item;
    return Value::undefined(printed(index));
  }
  if (value.kind != Value::kList && value.kind != Value::kString)
    throw Refused{accrete::format("an item of {}", kind_name(value))};
  if (index.kind != Value::kInteger) return Value::undefined("an item");
  const int64_t n = length(value);
  const int64_t i = index.integer < 0 ? index.integer + n : index.integer;
  if (i < 0 || i >= n) return Value::undefined(accrete::format("item {}", index.integer));
  return items_of(value)[static_cast<size_t>(i)];
}

Value slice(const Value& value, const Value& begin, const Value& end, const Value& step) {
  if (value.kind != Value::kList && value.kind != Value::kString)
    throw Refused{accrete::format("a part of {}", kind_name(value))};
  const auto given = [](const Value& v) -> bool {
    if (v.kind != Value::kNone && v.kind != Value::kInteger) throw Refused{"a bound of a slice"};
    return v.kind == Value::kInteger;
  };
  const std::vector<Value> all = items_of(value);
  const auto n = static_cast<int64_t>(all.size());
  const int64_t by = given(step) ? step.integer : 1;
  if (by == 0) throw Refused{"a slice with step 0"};
  const auto place = [&](const Value& v, int64_t missing) {
    if (!given(v)) return missing;
    const int64_t i = v.integer < 0 ? v.integer + n : v.integer;
    return by > 0 ? std::clamp<int64_t>(i, 0, n) : std::clamp<int64_t>(i, -1, n - 1);
  };
  const int64_t from = place(begin, by > 0 ? 0 : n - 1), to = place(end, by > 0 ? n : -1);
  std::vector<Value> items;
  for (int64_t i = from; by > 0 ? i < to : i > to; i += by)
    items.push_back(all[static_cast<size_t>(i)]);
  if (value.kind == Value::kList) return Value::list(std::move(items));
  std::string text;
  for (const Value& item : items) text += item.text;
  return Value::of(std::move(text));
}

Value Arguments::get(size_t at, std::string_view name) const {
  if (at < positional.size()) return positional[at];
  for (const auto& [key, value] : named)
    if (key == name) return value;
  return Value::undefined(std::string(name));
}

void Arguments::check(std::string_view of, size_t most,
                      std::initializer_list<std::string_view> names) const {
  if (positional.size() > most)
    throw Refused{accrete::format("{} with {} arguments", of, positional.size())};
  for (const auto& [key, value] : named)
    if (std::find(names.begin(), names.end(), key) == names.end())
      throw Refused{accrete::format("{} with the argument {:?}", of, key)};
}

}  // namespace accrete::text::jinja
