#include "text/jinja.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace accrete::text::jinja {
namespace {

constexpr int kMaxDepth = 64;

[[noreturn]] void unsupported(std::string_view what) {
  throw Error(ErrorCode::kUnsupported, fmt::format("chat template: {}", what),
              "ChatML templates (SmolLM2, Qwen2) are supported");
}

bool is_python_space(char32_t c) {
  return (unicode::properties()[c] & unicode::kSpace) || (c >= 0x1C && c <= 0x1F);
}

std::string_view without_trailing_space(std::string_view text) {
  while (!text.empty()) {
    const auto [c, size] = unicode::decode_last(text);
    if (!is_python_space(c)) break;
    text.remove_suffix(size);
  }
  return text;
}

// ---- The template as text and tags ----

struct Tag {
  enum Kind { kText, kOutput, kStatement };
  Kind kind;
  std::string text;  // what is inside
};

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

// Where "}}" or "%}" is, outside of string literals.
size_t find_end(std::string_view source, size_t at, std::string_view end) {
  while (at < source.size()) {
    const char c = source[at];
    if (c == '\'' || c == '"') {
      for (++at; at < source.size() && source[at] != c; ++at)
        if (source[at] == '\\') ++at;
      ++at;
    } else if (source.substr(at).starts_with(end)) {
      return at;
    } else {
      ++at;
    }
  }
  return std::string_view::npos;
}

std::vector<Tag> lex(std::string_view source) {
  std::vector<Tag> tags;
  size_t at = 0;
  bool line_starting = true;  // the tag before took the end of its line along
  while (true) {
    size_t open = at;
    while (open < source.size() &&
           !(source[open] == '{' && open + 1 < source.size() &&
             (source[open + 1] == '{' || source[open + 1] == '%' || source[open + 1] == '#')))
      ++open;
    std::string_view text = source.substr(at, open - at);
    if (open >= source.size()) {
      if (!text.empty()) tags.push_back({Tag::kText, std::string(text)});
      return tags;
    }
    const char kind = source[open + 1];
    size_t inside = open + 2;
    const char sign = inside < source.size() ? source[inside] : '\0';
    if (sign == '-' || sign == '+') ++inside;
    if (sign == '-') {
      text = without_trailing_space(text);
    } else if (sign != '+' && kind != '{') {
      // lstrip_blocks: blanks between the start of the line and a block go.
      const size_t line = text.rfind('\n') + 1;
      if ((line > 0 || line_starting) && without_trailing_space(text.substr(line)).empty())
        text = text.substr(0, line);
    }
    if (!text.empty()) tags.push_back({Tag::kText, std::string(text)});

    const std::string_view end = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
    const size_t close = kind == '#' ? source.find(end, inside) : find_end(source, inside, end);
    if (close == std::string_view::npos) unsupported("a tag is not closed");
    std::string_view body = source.substr(inside, close - inside);
    at = close + 2;
    const size_t behind = at;
    if (body.ends_with('-')) {
      while (at < source.size()) {
        const auto [c, size] = unicode::decode(source.data() + at);
        if (!is_python_space(c)) break;
        at += size;
      }
      body.remove_suffix(1);
    } else if (body.ends_with('+') && kind != '{') {
      body.remove_suffix(1);
    } else if (kind != '{' && at < source.size() && source[at] == '\n') {
      ++at;  // trim_blocks
    }
    line_starting = at > behind && source[at - 1] == '\n';
    if (kind != '#')
      tags.push_back({kind == '{' ? Tag::kOutput : Tag::kStatement, std::string(body)});
  }
}

// ---- Expressions ----

struct Token {
  enum Kind { kName, kString, kInteger, kSymbol, kEnd };
  Kind kind = kEnd;
  std::string text;
  int integer = 0;
};

// Thrown and caught in here: the expression becomes kOpaque.
struct NotUnderstood {};

std::string unescaped(std::string_view literal) {
  std::string text;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\') {
      text += literal[i];
      continue;
    }
    if (++i == literal.size()) throw NotUnderstood();
    switch (literal[i]) {
      case 'n':
        text += '\n';
        break;
      case 't':
        text += '\t';
        break;
      case 'r':
        text += '\r';
        break;
      case '\\':
      case '\'':
      case '"':
        text += literal[i];
        break;
      default:
        throw NotUnderstood();
    }
  }
  return text;
}

std::vector<Token> tokens_of(std::string_view source) {
  const auto is_name = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9');
  };
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
    } else if (c >= '0' && c <= '9') {
      Token token{Token::kInteger, {}};
      for (; at < source.size() && is_name(source[at]); ++at) {
        if (source[at] < '0' || source[at] > '9' || token.integer > 100'000) throw NotUnderstood();
        token.integer = token.integer * 10 + (source[at] - '0');
      }
      tokens.push_back(std::move(token));
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

class ExpressionParser {
 public:
  explicit ExpressionParser(std::string_view source) : tokens_(tokens_of(source)) {}

  Expression run() {
    Expression result = conditional(0);
    if (peek().kind != Token::kEnd) throw NotUnderstood();
    return result;
  }

 private:
  const Token& peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  bool is(Token::Kind kind, std::string_view text, size_t ahead = 0) const {
    return peek(ahead).kind == kind && peek(ahead).text == text;
  }
  bool accept(Token::Kind kind, std::string_view text) {
    if (!is(kind, text)) return false;
    ++at_;
    return true;
  }
  bool symbol(std::string_view text) { return accept(Token::kSymbol, text); }
  bool word(std::string_view text) { return accept(Token::kName, text); }
  static Expression node(Expression::Kind kind, std::string text,
                         std::vector<Expression> operands) {
    Expression result;
    result.kind = kind;
    result.text = std::move(text);
    result.operands = std::move(operands);
    return result;
  }

  Expression conditional(int depth) {
    if (depth > kMaxDepth) throw NotUnderstood();
    Expression value = disjunction(depth);
    while (word("if")) {
      std::vector<Expression> operands = {std::move(value), disjunction(depth)};
      if (word("else")) operands.push_back(conditional(depth + 1));
      value = node(Expression::kIf, "", std::move(operands));
    }
    return value;
  }
  Expression disjunction(int depth) {
    Expression left = conjunction(depth);
    while (word("or")) left = node(Expression::kOr, "", {left, conjunction(depth)});
    return left;
  }
  Expression conjunction(int depth) {
    Expression left = negation(depth);
    while (word("and")) left = node(Expression::kAnd, "", {left, negation(depth)});
    return left;
  }
  Expression negation(int depth) {
    if (depth > kMaxDepth) throw NotUnderstood();
    if (word("not")) return node(Expression::kNot, "", {negation(depth + 1)});
    return comparison(depth);
  }
  Expression comparison(int depth) {
    Expression left = sum(depth);
    std::string how;
    if (symbol("==")) {
      how = "==";
    } else if (symbol("!=")) {
      how = "!=";
    } else if (word("in")) {
      how = "in";
    } else if (is(Token::kName, "not") && is(Token::kName, "in", 1)) {
      at_ += 2;
      how = "not in";
    } else {
      return left;
    }
    Expression right = sum(depth);
    for (const char* chained : {"==", "!=", "<", ">", "<=", ">="})
      if (is(Token::kSymbol, chained)) throw NotUnderstood();
    if (is(Token::kName, "in") || (is(Token::kName, "not") && is(Token::kName, "in", 1)))
      throw NotUnderstood();
    return node(Expression::kCompare, how, {std::move(left), std::move(right)});
  }
  // '+' and '~' differ in precedence, which makes no difference between strings.
  Expression sum(int depth) {
    Expression left = postfix(depth);
    while (symbol("+") || symbol("~")) left = node(Expression::kAdd, "", {left, postfix(depth)});
    return left;
  }
  Expression postfix(int depth) {
    Expression value = primary(depth);
    while (true) {
      if (symbol(".")) {
        if (peek().kind != Token::kName) throw NotUnderstood();
        value = node(Expression::kAttribute, tokens_[at_++].text, {std::move(value)});
        value.dotted = true;
      } else if (symbol("[")) {
        if (peek().kind == Token::kString && is(Token::kSymbol, "]", 1)) {
          value = node(Expression::kAttribute, tokens_[at_++].text, {std::move(value)});
        } else {
          Expression index = conditional(depth + 1);
          value = node(Expression::kIndex, "", {std::move(value), std::move(index)});
        }
        if (!symbol("]")) throw NotUnderstood();
      } else {
        break;
      }
    }
    while (word("is")) {
      const bool negated = word("not");
      if (peek().kind != Token::kName) throw NotUnderstood();
      value = node(Expression::kTest, tokens_[at_++].text, {std::move(value)});
      // Tests with an argument ("is divisibleby 3") are not known.
      if (peek().kind == Token::kString || peek().kind == Token::kInteger) throw NotUnderstood();
      if (negated) value = node(Expression::kNot, "", {std::move(value)});
    }
    return value;
  }
  Expression primary(int depth) {
    if (depth > kMaxDepth) throw NotUnderstood();
    const Token token = peek();
    ++at_;
    if (token.kind == Token::kString) {
      std::string text = token.text;
      while (peek().kind == Token::kString) text += tokens_[at_++].text;
      return node(Expression::kString, std::move(text), {});
    }
    if (token.kind == Token::kInteger) {
      Expression result = node(Expression::kInteger, "", {});
      result.integer = token.integer;
      return result;
    }
    if (token.kind == Token::kName) return name(token.text);
    if (token.kind == Token::kSymbol && token.text == "-" && peek().kind == Token::kInteger) {
      Expression result = node(Expression::kInteger, "", {});
      result.integer = -tokens_[at_++].integer;
      return result;
    }
    if (token.kind == Token::kSymbol && token.text == "(") {
      Expression inside = conditional(depth + 1);
      if (!symbol(")")) throw NotUnderstood();
      return inside;
    }
    if (token.kind == Token::kSymbol && token.text == "[") {
      std::vector<Expression> items;
      while (!symbol("]")) {
        if (!items.empty() && !symbol(",")) throw NotUnderstood();
        items.push_back(conditional(depth + 1));
      }
      return node(Expression::kList, "", std::move(items));
    }
    throw NotUnderstood();
  }
  static Expression name(const std::string& text) {
    if (text == "true" || text == "True") return node(Expression::kTrue, "", {});
    if (text == "false" || text == "False") return node(Expression::kFalse, "", {});
    if (text == "none" || text == "None") return node(Expression::kNone, "", {});
    for (const char* keyword : {"not", "and", "or", "in", "is", "if", "else"})
      if (text == keyword) throw NotUnderstood();
    return node(Expression::kName, text, {});
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
};

Expression expression(std::string_view source) {
  try {
    return ExpressionParser(source).run();
  } catch (const NotUnderstood&) {
    Expression opaque;
    opaque.text = source;
    return opaque;
  }
}

// ---- Statements ----

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\n\r\f\v");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\n\r\f\v") + 1 - begin);
}

// The first word of a tag, and what follows it.
std::pair<std::string_view, std::string_view> keyword_of(std::string_view tag) {
  tag = trimmed(tag);
  size_t end = 0;
  while (end < tag.size() && ((tag[end] >= 'a' && tag[end] <= 'z') || tag[end] == '_')) ++end;
  return {tag.substr(0, end), trimmed(tag.substr(end))};
}

bool is_identifier(std::string_view text) {
  if (text.empty() || (text[0] >= '0' && text[0] <= '9')) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9');
  });
}

class StatementParser {
 public:
  explicit StatementParser(std::vector<Tag> tags) : tags_(std::move(tags)) {}

  std::vector<Statement> run() {
    std::vector<Statement> body = block(0);
    if (at_ < tags_.size()) unsupported("a block ends that did not begin");
    return body;
  }

 private:
  // Statements up to a tag that ends or continues a block, which stays.
  std::vector<Statement> block(int depth) {
    if (depth > kMaxDepth) unsupported("blocks are nested too deeply");
    std::vector<Statement> body;
    for (; at_ < tags_.size(); ++at_) {
      const Tag& tag = tags_[at_];
      if (tag.kind == Tag::kText) {
        body.emplace_back().text = tag.text;
      } else if (tag.kind == Tag::kOutput) {
        Statement& output = body.emplace_back();
        output.kind = Statement::kOutput;
        output.expression = expression(tag.text);
      } else {
        const auto [keyword, rest] = keyword_of(tag.text);
        if (keyword.starts_with("end") || keyword == "else" || keyword == "elif") return body;
        if (keyword == "if")
          body.push_back(if_statement(rest, depth));
        else if (keyword == "for")
          body.push_back(for_statement(rest, depth));
        else if (keyword == "set")
          body.push_back(set_statement(rest));
        else
          unsupported(fmt::format("the statement {:?} is not understood", keyword));
      }
    }
    return body;
  }

  std::pair<std::string_view, std::string_view> next_keyword() {
    if (at_ == tags_.size()) unsupported("a block is not closed");
    return keyword_of(tags_[at_].text);
  }

  Statement if_statement(std::string_view condition, int depth) {
    Statement result;
    result.kind = Statement::kIf;
    Expression test = expression(condition);
    for (bool last = false;;) {
      ++at_;
      result.branches.push_back({std::move(test), block(depth + 1)});
      const auto [keyword, rest] = next_keyword();
      if (keyword == "endif") return result;
      if (last) unsupported("a branch follows else");
      test = {};
      if (keyword == "elif") {
        test = expression(rest);
      } else if (keyword == "else" && rest.empty()) {
        test.kind = Expression::kTrue;
        last = true;
      } else {
        unsupported(fmt::format("{:?} in an if", keyword));
      }
    }
  }

  Statement for_statement(std::string_view head, int depth) {
    Statement result;
    result.kind = Statement::kFor;
    const size_t in = head.find(" in ");
    if (in == std::string_view::npos) unsupported("a loop of a kind");
    result.text = trimmed(head.substr(0, in));
    result.expression = expression(trimmed(head.substr(in + 4)));
    // "for a, b in", "for x in y if z", "recursive": opaque, and an error if ever reached.
    if (!is_identifier(result.text) || result.expression.kind == Expression::kIf)
      result.expression = {};
    ++at_;
    result.branches.push_back({{}, block(depth + 1)});
    if (next_keyword().first != "endfor") unsupported("a loop has an else");
    return result;
  }

  static Statement set_statement(std::string_view rest) {
    Statement result;
    result.kind = Statement::kSet;
    const size_t equals = rest.find('=');
    if (equals == std::string_view::npos) unsupported("a set block");
    result.text = trimmed(rest.substr(0, equals));
    result.expression = expression(trimmed(rest.substr(equals + 1)));
    return result;
  }

  std::vector<Tag> tags_;
  size_t at_ = 0;
};

}  // namespace

std::vector<Statement> parse(std::string_view source) {
  if (unicode::valid_prefix(source) != source.size()) unsupported("it is not UTF-8");
  return StatementParser(lex(with_unix_lines(source))).run();
}

}  // namespace accrete::text::jinja
