// Text made of a pattern and values: accrete::format("{} of {}", done, all).
//
// The patterns are those of {fmt} and std::format: {} takes the next value, {0} a numbered one, and
// {:...} says how. What fits is checked when the program is compiled: the number of values, and
// whether each can be shown in the way that is asked for.
//
// Why not fmt::format itself: its templates cost seconds in every file that calls it. Here the
// values are handed over without their types, and one file (format.cc) knows {fmt}.
//
// Write accrete::format in full: with a string among the values, plain `format` may also mean
// std::format.
//
// Non-goals: types of one's own (format their text), pointers, locales, names of values, printing.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

namespace accrete {

// One value of a pattern. Text is not copied: the value must outlive it.
class FormatArg {
 public:
  enum class Kind : uint8_t { kNone, kBool, kChar, kInteger, kUnsigned, kFloat, kDouble, kText };

  // How a T is shown; kNone: it cannot be. As in {fmt}, a float has the digits of a float and a
  // signed or unsigned char is a number.
  template <class T>
  static constexpr Kind kind_of() {
    if constexpr (std::same_as<T, bool>) return Kind::kBool;
    if constexpr (std::same_as<T, char>) return Kind::kChar;
    if constexpr (std::integral<T>)
      return std::signed_integral<T> ? Kind::kInteger : Kind::kUnsigned;
    if constexpr (std::same_as<T, float>) return Kind::kFloat;
    if constexpr (std::same_as<T, double>) return Kind::kDouble;
    if constexpr (std::convertible_to<const T&, std::string_view>) return Kind::kText;
    return Kind::kNone;
  }

  template <class T>
  FormatArg(const T& value) : kind_(kind_of<T>()) {
    constexpr Kind kind = kind_of<T>();
    static_assert(kind != Kind::kNone, "no value of a pattern: give its text");
    if constexpr (kind == Kind::kText)
      text_ = value;
    else if constexpr (kind == Kind::kFloat || kind == Kind::kDouble)
      number_ = value;
    else if constexpr (kind == Kind::kUnsigned)
      unsigned_ = value;
    else
      integer_ = value;
  }

 private:
  friend std::string vformat(std::string_view, std::initializer_list<FormatArg>);

  Kind kind_;
  union {
    int64_t integer_;  // also kBool and kChar
    uint64_t unsigned_;
    double number_;
    std::string_view text_;
  };
};

namespace format_detail {

using Kind = FormatArg::Kind;

// A pattern being read. Every throw is an error of the compiler, at the call.
struct Pattern {
  std::string_view text;
  const Kind* kinds;
  size_t count;
  size_t at = 0;
  size_t next = 0;

  constexpr char peek() const { return at < text.size() ? text[at] : '\0'; }
  constexpr bool take(std::string_view one_of) {
    if (peek() == '\0' || one_of.find(peek()) == std::string_view::npos) return false;
    ++at;
    return true;
  }

  // After a brace: the number of a value, or the next one's.
  constexpr Kind value() {
    size_t index = 0;
    const size_t start = at;
    for (; peek() >= '0' && peek() <= '9'; ++at) index = index * 10 + size_t(peek() - '0');
    if (at == start) index = next++;
    if (index >= count) throw "a pattern asks for more values than there are";
    return kinds[index];
  }

  // Digits, or a value in braces.
  constexpr bool length() {
    if (take("{")) {
      const Kind kind = value();
      if (kind != Kind::kInteger && kind != Kind::kUnsigned) throw "a width is an integer";
      if (!take("}")) throw "a brace is not closed";
      return true;
    }
    const size_t start = at;
    while (take("0123456789")) {
    }
    return at != start;
  }

  // What stands after the colon: [[fill]align][sign][#][0][width][.precision][type].
  constexpr void how(Kind kind) {
    const bool real = kind == Kind::kFloat || kind == Kind::kDouble;
    const bool number = real || kind == Kind::kInteger || kind == Kind::kUnsigned;
    constexpr std::string_view kAligns = "<>^";
    if (at + 1 < text.size() && kAligns.find(text[at + 1]) != std::string_view::npos) ++at;
    take(kAligns);
    if (take("+- ") && !real && kind != Kind::kInteger) throw "a sign is for signed numbers";
    const size_t start = at;
    take("#");
    take("0");
    if (at != start && !number) throw "# and 0 are for numbers";
    length();
    if (take(".")) {
      if (!real && kind != Kind::kText) throw "only text and floating point have a precision";
      if (!length()) throw "a precision is missing";
    }
    const std::string_view types = real                  ? "aAeEfFgG"
                                   : kind == Kind::kText ? "s?"
                                   : kind == Kind::kBool ? "s"
                                   : kind == Kind::kChar ? "c?"
                                                         : "bBdoxX";
    take(types);
    if (peek() != '}') throw "a value cannot be shown in this way";
  }

  constexpr void check() {
    while (at < text.size()) {
      const char c = text[at++];
      if (c == '}' && !take("}")) throw "a closing brace stands alone: write }}";
      if (c != '{' || take("{")) continue;
      const Kind kind = value();
      if (take(":")) how(kind);
      if (!take("}")) throw "a brace is not closed";
    }
  }
};

// A literal that was checked against the values.
template <class... Args>
struct Checked {
  std::string_view text;
  consteval Checked(const char* literal) : text(literal) {
    constexpr Kind kinds[] = {FormatArg::kind_of<Args>()..., Kind::kNone};
    Pattern{text, kinds, sizeof...(Args)}.check();
  }
};

}  // namespace format_detail

// The pattern with the values, for patterns that are known only when the program runs. Throws
// kInternal if they do not fit.
std::string vformat(std::string_view pattern, std::initializer_list<FormatArg> values);

template <class... Args>
std::string format(format_detail::Checked<std::type_identity_t<Args>...> pattern,
                   const Args&... values) {
  return vformat(pattern.text, {FormatArg(values)...});
}

// The items of a range, each as {} shows it, with a separator between them.
template <class Range>
std::string joined(const Range& items, std::string_view separator) {
  std::string out;
  bool first = true;
  for (const auto& item : items) {
    if (!first) out += separator;
    first = false;
    out += vformat("{}", {FormatArg(item)});
  }
  return out;
}

}  // namespace accrete
