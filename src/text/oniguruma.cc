// Oniguruma (Ruby syntax) to PCRE2, for the subset that both read alike.
#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/format.h"
#include "text/regex.h"
#include "text/unicode.h"

namespace accrete::text {
namespace {

using unicode::Ranges;

constexpr int kMaxDepth = 32;
constexpr int kMaxRepeat = 1000;

std::string escaped(char32_t c) {
  return accrete::format("\\x{{{:x}}}", static_cast<uint32_t>(c));
}

bool is_surrogate(char32_t c) {
  return c >= 0xD800 && c <= 0xDFFF;
}

bool is_ascii_letter(char32_t c) {
  return (c | 32) >= 'a' && (c | 32) <= 'z';
}

// Ranges as the inside of a PCRE2 class. PCRE2 refuses surrogates as ends of a range; UTF-8 has
// none, so they may go.
std::string spelled_out(const Ranges& ranges) {
  std::string text;
  for (auto [first, last] : ranges) {
    if (is_surrogate(first)) first = 0xE000;
    if (is_surrogate(last)) last = 0xD7FF;
    if (first > last) continue;
    text += escaped(first);
    if (last > first) text.append("-").append(escaped(last));
  }
  return text;
}

std::string class_of(const Ranges& ranges) {
  const Ranges rest = unicode::complement(ranges);
  // The shorter spelling; a class with nothing in it needs one that PCRE2 accepts.
  if (ranges.empty()) return "(?!)";
  if (rest.size() < ranges.size() && !rest.empty()) return "[^" + spelled_out(rest) + "]";
  const std::string inside = spelled_out(ranges);
  return inside.empty() ? "(?!)" : "[" + inside + "]";
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string run() {
    if (unicode::valid_prefix(pattern_) != pattern_.size()) broken("is not UTF-8");
    std::string out = alternatives(0);
    if (!at_end()) broken("has an unmatched ')'");
    return out;
  }

 private:
  // What an escape stands for: one character, or a set of them.
  struct Escape {
    std::optional<char32_t> character;
    Ranges set;
  };

  [[noreturn]] void broken(std::string_view what) const {
    throw Error(ErrorCode::kFormat, accrete::format("tokenizer: the regex {:?} {}", shown(), what),
                "the tokenizer.json is damaged; fetch it again");
  }
  [[noreturn]] void unsupported(std::string_view what) const {
    throw Error(
        ErrorCode::kUnsupported,
        accrete::format("tokenizer: the regex {:?} uses {}, which accrete does not read alike",
                        shown(), what),
        "tokenizers of the GPT-2, Llama 3, SmolLM2 and Qwen families are supported");
  }
  // The pattern for messages, cut where it is long.
  std::string shown() const {
    if (unicode::valid_prefix(pattern_) != pattern_.size()) return "(bytes)";
    if (pattern_.size() <= 200) return std::string(pattern_);
    return std::string(pattern_.substr(0, unicode::valid_prefix(pattern_.substr(0, 200)))) + "...";
  }

  bool at_end() const { return at_ == pattern_.size(); }
  bool peek(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  bool accept(std::string_view text) {
    if (!peek(text)) return false;
    at_ += text.size();
    return true;
  }
  char32_t next() {
    if (at_end()) broken("ends too early");
    const auto [c, size] = unicode::decode(pattern_.data() + at_);
    at_ += size;
    return c;
  }

  std::string alternatives(int depth) {
    if (depth > kMaxDepth) unsupported("groups nested too deeply");
    std::string out = sequence(depth);
    while (accept("|")) out.append("|").append(sequence(depth));
    return out;
  }

  std::string sequence(int depth) {
    std::string out;
    previous_ = 0;
    while (!at_end() && !peek("|") && !peek(")")) {
      bool repeatable = true;
      const std::string atom = this->atom(depth, repeatable);
      const std::string repeat = quantifier();
      if (!repeat.empty() && !repeatable) unsupported("a repeated look-ahead");
      if (!repeat.empty() && fold_) unsupported("a repetition inside (?i:...)");
      out += atom + repeat;
    }
    previous_ = 0;
    return out;
  }

  std::string atom(int depth, bool& repeatable) {
    if (accept("(")) return group(depth, repeatable);
    if (accept("[")) {
      previous_ = 0;
      return character_class();
    }
    if (accept(".")) {
      previous_ = 0;
      return class_of(unicode::complement({{U'\n', U'\n'}}));
    }
    for (const char* anchor : {"^", "$"})
      if (peek(anchor)) unsupported("an anchor");
    for (const char* repeat : {"*", "+", "?"})
      if (peek(repeat)) broken("repeats nothing");
    if (peek("{")) unsupported("a bare '{'");
    if (accept("\\")) {
      const Escape escape = this->escape();
      if (escape.character) return literal(*escape.character);
      previous_ = 0;
      if (fold_) unsupported("a property inside (?i:...)");
      return class_of(escape.set);
    }
    return literal(next());
  }

  std::string group(int depth, bool& repeatable) {
    std::string open = "(?:";
    bool folds = false;
    if (accept("?:") || accept("?i:")) {
      folds = pattern_[at_ - 2] == 'i';
      if (folds) open = "(?i:";
    } else if (accept("?=") || accept("?!")) {
      open = pattern_[at_ - 1] == '=' ? "(?=" : "(?!";
      repeatable = false;
    } else if (accept("?>")) {
      open = "(?>";
    } else if (peek("?") || peek("*")) {
      unsupported("a kind of group");
    }
    if (fold_) unsupported("a group inside (?i:...)");
    fold_ = folds;
    const std::string inside = alternatives(depth + 1);
    fold_ = false;
    if (!accept(")")) broken("has an unmatched '('");
    return open + inside + ")";
  }

  std::string literal(char32_t c) {
    if (fold_) {
      // Oniguruma lets one character match two folded ones ("ss" and U+00DF); PCRE2 does not.
      if (c >= 0x80) unsupported("letters beyond ASCII inside (?i:...)");
      const char32_t a = previous_ | 32, b = c | 32;
      if ((a == 's' && (b == 's' || b == 't')) || (a == 'f' && (b == 'f' || b == 'i' || b == 'l')))
        unsupported("letters that fold together inside (?i:...)");
      previous_ = is_ascii_letter(c) ? c : 0;
    }
    return escaped(c);
  }

  std::string quantifier() {
    std::string out;
    bool interval = false;
    if (accept("*")) {
      out = "*";
    } else if (accept("+")) {
      out = "+";
    } else if (accept("?")) {
      out = "?";
    } else if (accept("{")) {
      interval = true;
      const std::optional<int> low = number();
      const bool comma = accept(",");
      const std::optional<int> high = comma ? number() : low;
      if ((!low && !high) || !accept("}")) unsupported("a bare '{'");
      if (low && high && *low > *high) unsupported("a repetition with its bounds turned round");
      out = comma ? accrete::format("{{{},{}}}", low.value_or(0), high ? std::to_string(*high) : "")
                  : accrete::format("{{{}}}", *low);
    } else {
      return out;
    }
    // After an interval Ruby reads '+' as one more repetition, and '?' after {n} as "optional".
    if (interval && (peek("+") || peek("?"))) unsupported("a suffix after {n,m}");
    if (!interval && accept("?"))
      out += "?";
    else if (!interval && accept("+"))
      out += "+";
    if (peek("*") || peek("+") || peek("?") || peek("{")) unsupported("a repeated repetition");
    return out;
  }

  std::optional<int> number() {
    if (at_end() || pattern_[at_] < '0' || pattern_[at_] > '9') return std::nullopt;
    int value = 0;
    while (!at_end() && pattern_[at_] >= '0' && pattern_[at_] <= '9') {
      value = value * 10 + (pattern_[at_++] - '0');
      if (value > kMaxRepeat) unsupported("a large repetition");
    }
    return value;
  }

  std::string character_class() {
    const bool negated = accept("^");
    if (peek("]")) unsupported("a ']' that opens a class");
    Ranges ranges;
    bool first = true;
    while (!accept("]")) {
      if (at_end()) broken("has an unmatched '['");
      if (peek("[")) unsupported("a class in a class");
      if (peek("&&")) unsupported("an intersection of classes");
      const bool dash = peek("-");
      const Escape from = class_item();
      // A '-' is itself only where it cannot be a range's.
      if (dash && !first && !peek("]")) unsupported("a '-' inside a class");
      first = false;
      if (!from.character) {
        if (peek("-") && !peek("-]")) unsupported("a range that begins with a class");
        ranges.insert(ranges.end(), from.set.begin(), from.set.end());
        continue;
      }
      char32_t last = *from.character;
      if (peek("-") && !peek("-]")) {
        accept("-");
        if (peek("[") || peek("-")) unsupported("a range of a kind");
        const Escape to = class_item();
        if (!to.character) unsupported("a range that ends with a class");
        last = *to.character;
        if (last < *from.character) broken("has a range that is turned round");
        if (peek("-") && !peek("-]")) unsupported("a range after a range");
      }
      if (fold_ && last >= 0x80) unsupported("letters beyond ASCII inside (?i:...)");
      ranges.emplace_back(*from.character, last);
    }
    if (fold_ && negated) unsupported("a negated class inside (?i:...)");
    ranges = unicode::normalized(std::move(ranges));
    return class_of(negated ? unicode::complement(ranges) : ranges);
  }

  Escape class_item() {
    if (!accept("\\")) return {next(), {}};
    Escape result = escape();
    if (fold_ && !result.character) unsupported("a property inside (?i:...)");
    return result;
  }

  // After the backslash.
  Escape escape() {
    const char32_t c = next();
    switch (c) {
      case 'n':
        return {U'\n', {}};
      case 'r':
        return {U'\r', {}};
      case 't':
        return {U'\t', {}};
      case 'f':
        return {U'\f', {}};
      case 'v':
        return {U'\v', {}};
      case 'a':
        return {U'\a', {}};
      case 'e':
        return {char32_t{0x1B}, {}};
      case 's':
        return {std::nullopt, unicode::space_ranges()};
      case 'S':
        return {std::nullopt, unicode::complement(unicode::space_ranges())};
      case 'd':
        return {std::nullopt, *unicode::category_ranges("Nd")};
      case 'D':
        return {std::nullopt, unicode::complement(*unicode::category_ranges("Nd"))};
      case 'p':
        return {std::nullopt, property(false)};
      case 'P':
        return {std::nullopt, property(true)};
      case 'x':
        return {accept("{") ? hex(1, 6, true) : below_128(hex(2, 2, false)), {}};
      case 'u':
        return {hex(4, 4, false), {}};
      default:
        break;
    }
    if (c >= 0x80 || is_ascii_letter(c) || (c >= '0' && c <= '9'))
      unsupported(accrete::format("the escape \\{}", pattern_.substr(at_ - 1, c < 0x80 ? 1 : 0)));
    return {c, {}};
  }

  Ranges property(bool negated) {
    if (!accept("{")) unsupported("a property without braces");
    if (accept("^")) negated = !negated;
    const size_t close = pattern_.find('}', at_);
    if (close == std::string_view::npos) broken("has an unmatched '{'");
    const std::string_view name = pattern_.substr(at_, close - at_);
    at_ = close + 1;
    const std::optional<Ranges> ranges = unicode::category_ranges(name);
    if (!ranges) unsupported(accrete::format("the property {:?}", name));
    return negated ? unicode::complement(*ranges) : *ranges;
  }

  char32_t hex(int least, int most, bool braced) {
    char32_t value = 0;
    int digits = 0;
    for (; digits < most && !at_end(); ++digits, ++at_) {
      const char c = pattern_[at_];
      if (c >= '0' && c <= '9')
        value = value * 16 + (c - '0');
      else if ((c | 32) >= 'a' && (c | 32) <= 'f')
        value = value * 16 + ((c | 32) - 'a' + 10);
      else
        break;
    }
    if (digits < least || (braced && !accept("}"))) broken("has a broken hexadecimal escape");
    if (value > unicode::kMaxCodePoint || is_surrogate(value)) broken("names no character");
    return value;
  }
  // \xHH is a byte to Oniguruma: the same as a character in ASCII only.
  char32_t below_128(char32_t c) {
    if (c >= 0x80) unsupported("bytes beyond ASCII");
    return c;
  }

  std::string_view pattern_;
  size_t at_ = 0;
  bool fold_ = false;      // inside (?i:...)
  char32_t previous_ = 0;  // the ASCII letter before, inside (?i:...)
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern) {
  return Translator(pattern).run();
}

}  // namespace accrete::text
