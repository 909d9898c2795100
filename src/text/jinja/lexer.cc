#include "text/jinja/lexer.h"

#include <charconv>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "text/unicode.h"

namespace accrete::text::jinja {
namespace {

// \r\n and \r become \n, and one \n at the end is dropped, as Jinja does on reading.
std::string with_unix_lines(std::string_view source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
    } else {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

// Where "}}" or "%}" is, outside of string literals and, as "}}" may end two dicts, of braces.
size_t find_end(std::string_view source, size_t at, std::string_view end) {
  int braces = 0;
  while (at < source.size()) {
    const char c = source[at];
    if (c == '\'' || c == '"') {
      for (++at; at < source.size() && source[at] != c; ++at)
        if (source[at] == '\\') ++at;
      ++at;
    } else if (braces == 0 && source.substr(at).starts_with(end)) {
      return at;
    } else {
      if (c == '{') ++braces;
      if (c == '}' && braces > 0) --braces;
      ++at;
    }
  }
  return std::string_view::npos;
}

std::string_view trimmed(std::string_view text) {
  return without_leading_space(without_trailing_space(text));
}

// Where the tag {% endraw %} begins, from `at` on.
size_t find_endraw(std::string_view source, size_t at) {
  for (; (at = source.find("{%", at)) != std::string_view::npos; at += 2) {
    std::string_view rest = source.substr(at + 2);
    if (rest.starts_with('-') || rest.starts_with('+')) rest.remove_prefix(1);
    if (without_leading_space(rest).starts_with("endraw")) return at;
  }
  unsupported("{% raw %} is not closed");
}

// Goes through a template from tag to tag.
class TemplateLexer {
 public:
  explicit TemplateLexer(std::string_view source) : source_(source) {}

  std::vector<Tag> run() {
    while (at_ < source_.size()) {
      const size_t open = next_tag();
      if (open >= source_.size()) {
        add_text(source_.substr(at_));
        break;
      }
      tag(open);
    }
    return std::move(tags_);
  }

 private:
  size_t next_tag() const {
    size_t open = at_;
    while (open < source_.size() &&
           !(source_[open] == '{' && open + 1 < source_.size() &&
             (source_[open + 1] == '{' || source_[open + 1] == '%' || source_[open + 1] == '#')))
      ++open;
    return open;
  }

  void add_text(std::string_view text) {
    if (!text.empty()) tags_.push_back({Tag::kText, std::string(text)});
  }

  // The text before a tag at `open`, less what the tag's sign and lstrip_blocks take.
  void text_before(size_t open) {
    std::string_view text = source_.substr(at_, open - at_);
    const char kind = source_[open + 1];
    const char sign = open + 2 < source_.size() ? source_[open + 2] : '\0';
    if (sign == '-') {
      text = without_trailing_space(text);
    } else if (sign != '+' && kind != '{') {
      // Blanks between the start of the line and a block go.
      const size_t line = text.rfind('\n') + 1;
      if ((line > 0 || line_starting_) && without_trailing_space(text.substr(line)).empty())
        text = text.substr(0, line);
    }
    add_text(text);
  }

  // What is inside the tag at `open`; leaves at_ behind it and the white space that it takes.
  std::string_view inside(size_t open) {
    const char kind = source_[open + 1];
    size_t begin = open + 2;
    if (begin < source_.size() && (source_[begin] == '-' || source_[begin] == '+')) ++begin;
    const std::string_view end = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
    const size_t close = kind == '#' ? source_.find(end, begin) : find_end(source_, begin, end);
    if (close == std::string_view::npos) unsupported("a tag is not closed");
    std::string_view body = source_.substr(begin, close - begin);
    at_ = close + 2;
    const size_t behind = at_;
    if (body.ends_with('-')) {
      at_ = source_.size() - without_leading_space(source_.substr(at_)).size();
      body.remove_suffix(1);
    } else if (body.ends_with('+') && kind != '{') {
      body.remove_suffix(1);
    } else if (kind != '{' && at_ < source_.size() && source_[at_] == '\n') {
      ++at_;  // trim_blocks
    }
    line_starting_ = at_ > behind && source_[at_ - 1] == '\n';
    return body;
  }

  void tag(size_t open) {
    text_before(open);
    const char kind = source_[open + 1];
    const std::string_view body = inside(open);
    if (kind == '#') return;
    if (kind == '%' && trimmed(body) == "raw") {
      const size_t end = find_endraw(source_, at_);
      text_before(end);
      (void)inside(end);
      return;
    }
    tags_.push_back({kind == '{' ? Tag::kOutput : Tag::kStatement, std::string(body)});
  }

  std::string_view source_;
  size_t at_ = 0;
  bool line_starting_ = true;  // the tag before took the end of its line along
  std::vector<Tag> tags_;
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

std::string unescaped(std::string_view literal) {
  std::string text;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\') {
      text += literal[i];
      continue;
    }
    if (++i == literal.size()) throw NotUnderstood();
    constexpr std::string_view kLetters = "ntr\\'\"", kMeant = "\n\t\r\\'\"";
    const size_t which = kLetters.find(literal[i]);
    if (which != std::string_view::npos) {
      text += kMeant[which];
    } else if (literal[i] == '\n') {
      // the line goes on
    } else if (literal[i] == 'u' && i + 4 < literal.size()) {
      unsigned code = 0;
      const char* begin = literal.data() + i + 1;
      if (std::from_chars(begin, begin + 4, code, 16).ptr != begin + 4) throw NotUnderstood();
      if (code >= 0xD800 && code <= 0xDFFF) throw NotUnderstood();
      unicode::append_utf8(text, code);
      i += 4;
    } else if (std::string_view("abfvxNUu01234567").find(literal[i]) != std::string_view::npos) {
      throw NotUnderstood();
    } else {
      text.append(1, '\\').append(1, literal[i]);
    }
  }
  return text;
}

Token number(std::string_view source, size_t& at) {
  size_t end = at;
  while (end < source.size() && is_digit(source[end])) ++end;
  bool whole = true;
  if (end + 1 < source.size() && source[end] == '.' && is_digit(source[end + 1])) {
    whole = false;
    for (++end; end < source.size() && is_digit(source[end]);) ++end;
  }
  if (end < source.size() && is_name(source[end])) throw NotUnderstood();
  Token token{whole ? Token::kInteger : Token::kFloat, std::string(source.substr(at, end - at))};
  const char* const last = source.data() + end;
  const auto result = whole ? std::from_chars(source.data() + at, last, token.integer)
                            : std::from_chars(source.data() + at, last, token.real);
  if (result.ec != std::errc() || result.ptr != last || token.integer > 1'000'000'000)
    throw NotUnderstood();
  at = end;
  return token;
}

}  // namespace

void unsupported(std::string_view what) {
  throw Error(ErrorCode::kUnsupported, accrete::format("chat template: {}", what),
              "is the file whole? Else use the model with --raw");
}

bool is_python_space(char32_t c) {
  return (unicode::properties()[c] & unicode::kSpace) || (c >= 0x1C && c <= 0x1F);
}

std::string_view without_leading_space(std::string_view text) {
  while (!text.empty()) {
    const auto [c, size] = unicode::decode(text.data());
    if (!is_python_space(c)) break;
    text.remove_prefix(size);
  }
  return text;
}

std::string_view without_trailing_space(std::string_view text) {
  while (!text.empty()) {
    const auto [c, size] = unicode::decode_last(text);
    if (!is_python_space(c)) break;
    text.remove_suffix(size);
  }
  return text;
}

std::vector<Tag> lex_template(std::string_view source) {
  if (unicode::valid_prefix(source) != source.size()) unsupported("it is not UTF-8");
  const std::string text = with_unix_lines(source);
  return TemplateLexer(text).run();
}

std::vector<Token> lex_expression(std::string_view source) {
  std::vector<Token> tokens;
  size_t at = 0;
  while (at < source.size()) {
    const char c = source[at];
    if (c == ' ' || (c >= '\t' && c <= '\r')) {
      ++at;
    } else if (c == '\'' || c == '"') {
      size_t end = at + 1;
      while (end < source.size() && source[end] != c) end += source[end] == '\\' ? 2 : 1;
      if (end >= source.size()) throw NotUnderstood();
      tokens.push_back({Token::kString, unescaped(source.substr(at + 1, end - at - 1))});
      at = end + 1;
    } else if (is_digit(c)) {
      tokens.push_back(number(source, at));
    } else if (is_name(c)) {
      const size_t begin = at;
      while (at < source.size() && is_name(source[at])) ++at;
      tokens.push_back({Token::kName, std::string(source.substr(begin, at - begin))});
    } else {
      const std::string_view two = source.substr(at, 2);
      const bool pair =
          two == "==" || two == "!=" || two == "<=" || two == ">=" || two == "//" || two == "**";
      tokens.push_back({Token::kSymbol, std::string(pair ? two : source.substr(at, 1))});
      at += pair ? 2 : 1;
    }
  }
  tokens.push_back({});
  return tokens;
}

}  // namespace accrete::text::jinja
