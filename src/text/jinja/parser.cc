#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "text/jinja/lexer.h"
#include "text/jinja/syntax.h"

namespace accrete::text::jinja {
namespace {

constexpr int kMaxDepth = 64;
// Of an expression; chains of operators are trees as deep as they are long.
constexpr size_t kMaxTokens = 1000;

// The precedences are those of jinja2/parser.py.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::string_view source) : tokens_(lex_expression(source)) {
    if (tokens_.size() > kMaxTokens) throw NotUnderstood();
  }

  // All of it, as one expression.
  Expression whole() {
    Expression result = tuple(0);
    end();
    return result;
  }
  // "a, b in expression [if condition]", as a loop has it. What goes on is recursive: refused.
  void loop(std::vector<std::string>& names, Expression& over, Expression& condition) {
    names = targets();
    if (!word("in")) throw NotUnderstood();
    over = disjunction(0);
    condition.kind = Expression::kTrue;
    if (word("if")) condition = conditional(0);
    end();
  }
  // "a, b = expression", "a.b = expression"; or "a" alone, of which the block is the value.
  void assignment(Statement& set) {
    set.names = targets();
    if (set.names.size() == 1 && symbol(".")) set.text = identifier();
    if (peek().kind == Token::kEnd && set.text.empty() && set.names.size() == 1) {
      set.kind = Statement::kSetBlock;
      return;
    }
    if (!symbol("=")) throw NotUnderstood();
    set.expression = tuple(0);
    end();
  }
  // "name(a, b=default)".
  void signature(Statement& macro) {
    macro.text = identifier();
    if (!symbol("(")) throw NotUnderstood();
    while (!symbol(")")) {
      if (!macro.names.empty() && !symbol(",")) throw NotUnderstood();
      macro.names.push_back(identifier());
      if (symbol("="))
        macro.defaults.push_back(conditional(0));
      else if (!macro.defaults.empty())
        throw NotUnderstood();
    }
    end();
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
  void end() const {
    if (peek().kind != Token::kEnd) throw NotUnderstood();
  }
  static bool is_keyword(std::string_view text) {
    constexpr std::string_view kKeywords[] = {"not", "and", "or", "in", "is", "if", "else"};
    return std::find(std::begin(kKeywords), std::end(kKeywords), text) != std::end(kKeywords);
  }
  std::string identifier() {
    if (peek().kind != Token::kName || is_keyword(peek().text)) throw NotUnderstood();
    return tokens_[at_++].text;
  }
  std::vector<std::string> targets() {
    const bool round = symbol("(");
    std::vector<std::string> names = {identifier()};
    while (symbol(",")) names.push_back(identifier());
    if (round && !symbol(")")) throw NotUnderstood();
    return names;
  }
  static Expression node(Expression::Kind kind, std::string text,
                         std::vector<Expression> operands) {
    Expression result;
    result.kind = kind;
    result.text = std::move(text);
    result.operands = std::move(operands);
    return result;
  }

  Expression tuple(int depth) {
    Expression first = conditional(depth);
    if (!is(Token::kSymbol, ",")) return first;
    std::vector<Expression> items = {std::move(first)};
    while (symbol(",")) {
      if (peek().kind == Token::kEnd || is(Token::kSymbol, ")")) break;
      items.push_back(conditional(depth));
    }
    return node(Expression::kList, "", std::move(items));
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
    while (word("or")) left = node(Expression::kOr, "", {std::move(left), conjunction(depth)});
    return left;
  }
  Expression conjunction(int depth) {
    Expression left = negation(depth);
    while (word("and")) left = node(Expression::kAnd, "", {std::move(left), negation(depth)});
    return left;
  }
  Expression negation(int depth) {
    if (depth > kMaxDepth) throw NotUnderstood();
    if (word("not")) return node(Expression::kNot, "", {negation(depth + 1)});
    return comparison(depth);
  }
  Expression comparison(int depth) {
    Expression result = node(Expression::kCompare, "", {sum(depth)});
    while (true) {
      std::string how;
      if (is(Token::kName, "in")) {
        how = "in";
      } else if (is(Token::kName, "not") && is(Token::kName, "in", 1)) {
        ++at_;
        how = "not in";
      } else if (peek().kind == Token::kSymbol) {
        for (const char* one : {"==", "!=", "<", ">", "<=", ">="})
          if (peek().text == one) how = one;
      }
      if (how.empty()) break;
      ++at_;
      result.names.push_back(std::move(how));
      result.operands.push_back(sum(depth));
    }
    if (result.names.empty()) return std::move(result.operands[0]);
    return result;
  }
  Expression sum(int depth) {
    Expression left = concatenation(depth);
    while (is(Token::kSymbol, "+") || is(Token::kSymbol, "-")) {
      std::string how = tokens_[at_++].text;
      left = node(Expression::kBinary, std::move(how), {std::move(left), concatenation(depth)});
    }
    return left;
  }
  Expression concatenation(int depth) {
    Expression left = product(depth);
    while (symbol("~")) left = node(Expression::kBinary, "~", {std::move(left), product(depth)});
    return left;
  }
  Expression product(int depth) {
    Expression left = unary(depth);
    while (is(Token::kSymbol, "*") || is(Token::kSymbol, "/") || is(Token::kSymbol, "//") ||
           is(Token::kSymbol, "%")) {
      std::string how = tokens_[at_++].text;
      left = node(Expression::kBinary, std::move(how), {std::move(left), unary(depth)});
    }
    if (is(Token::kSymbol, "**")) throw NotUnderstood();
    return left;
  }
  // Filters and tests come behind the sign: "-1 | abs" is "(-1) | abs".
  Expression unary(int depth) { return filters(signed_primary(depth), depth); }
  Expression signed_primary(int depth) {
    if (depth > kMaxDepth) throw NotUnderstood();
    if (symbol("-")) return node(Expression::kNegative, "", {signed_primary(depth + 1)});
    if (symbol("+")) throw NotUnderstood();
    return postfix(primary(depth), depth);
  }
  Expression postfix(Expression value, int depth) {
    while (true) {
      if (symbol(".")) {
        if (peek().kind != Token::kName) throw NotUnderstood();
        value = node(Expression::kAttribute, tokens_[at_++].text, {std::move(value)});
      } else if (symbol("[")) {
        value = subscript(std::move(value), depth);
      } else if (is(Token::kSymbol, "(")) {
        value = node(Expression::kCall, "", {std::move(value)});
        arguments(value, depth);
      } else {
        return value;
      }
    }
  }
  Expression subscript(Expression value, int depth) {
    Expression none;
    none.kind = Expression::kNone;
    std::vector<Expression> parts = {std::move(value)};
    bool slice = false, open = true;
    while (!symbol("]")) {
      if (parts.size() > 4) throw NotUnderstood();
      if (symbol(":")) {
        if (open) parts.push_back(none);
        slice = open = true;
      } else {
        if (!open) throw NotUnderstood();
        parts.push_back(conditional(depth + 1));
        open = false;
      }
    }
    if (!slice) {
      if (parts.size() != 2) throw NotUnderstood();
      return node(Expression::kIndex, "", std::move(parts));
    }
    if (parts.size() > 4) throw NotUnderstood();
    while (parts.size() < 4) parts.push_back(none);
    return node(Expression::kSlice, "", std::move(parts));
  }
  // "(a, b, c=d)", added to `call`.
  void arguments(Expression& call, int depth) {
    if (!symbol("(")) throw NotUnderstood();
    for (bool first = true; !symbol(")"); first = false) {
      if (!first && !symbol(",")) throw NotUnderstood();
      if (symbol(")")) break;  // behind a last comma
      if (peek().kind == Token::kName && is(Token::kSymbol, "=", 1)) {
        call.names.push_back(identifier());
        ++at_;
      } else if (!call.names.empty()) {
        throw NotUnderstood();
      }
      call.operands.push_back(conditional(depth + 1));
    }
  }
  Expression filters(Expression value, int depth) {
    while (true) {
      if (symbol("|")) {
        value = node(Expression::kFilter, identifier(), {std::move(value)});
        if (is(Token::kSymbol, "(")) arguments(value, depth);
      } else if (word("is")) {
        value = test(std::move(value), depth);
      } else {
        return value;
      }
    }
  }
  Expression test(Expression value, int depth) {
    const bool negated = word("not");
    if (peek().kind != Token::kName) throw NotUnderstood();
    value = node(Expression::kTest, tokens_[at_++].text, {std::move(value)});
    const Token& next = peek();
    const bool takes = next.kind == Token::kString || next.kind == Token::kInteger ||
                       next.kind == Token::kFloat ||
                       (next.kind == Token::kName && !is_keyword(next.text)) ||
                       is(Token::kSymbol, "[") || is(Token::kSymbol, "{");
    if (is(Token::kSymbol, "("))
      arguments(value, depth);
    else if (takes)
      value.operands.push_back(postfix(primary(depth + 1), depth + 1));
    return negated ? node(Expression::kNot, "", {std::move(value)}) : value;
  }

  Expression primary(int depth) {
    if (depth > kMaxDepth) throw NotUnderstood();
    const Token token = peek();
    ++at_;
    switch (token.kind) {
      case Token::kString: {
        std::string text = token.text;
        while (peek().kind == Token::kString) text += tokens_[at_++].text;
        return node(Expression::kString, std::move(text), {});
      }
      case Token::kInteger:
      case Token::kFloat: {
        Expression result =
            node(token.kind == Token::kFloat ? Expression::kFloat : Expression::kInteger, "", {});
        result.integer = token.integer;
        result.real = token.real;
        return result;
      }
      case Token::kName:
        return name(token.text);
      case Token::kSymbol:
        return bracketed(token.text, depth);
      case Token::kEnd:
        break;
    }
    throw NotUnderstood();
  }
  static Expression name(const std::string& text) {
    if (text == "true" || text == "True") return node(Expression::kTrue, "", {});
    if (text == "false" || text == "False") return node(Expression::kFalse, "", {});
    if (text == "none" || text == "None") return node(Expression::kNone, "", {});
    if (is_keyword(text)) throw NotUnderstood();
    return node(Expression::kName, text, {});
  }
  Expression bracketed(std::string_view bracket, int depth) {
    if (bracket == "(") {
      if (symbol(")")) return node(Expression::kList, "", {});
      Expression inside = tuple(depth + 1);
      if (!symbol(")")) throw NotUnderstood();
      return inside;
    }
    if (bracket == "[") {
      std::vector<Expression> items;
      while (!symbol("]")) {
        if (!items.empty() && !symbol(",")) throw NotUnderstood();
        if (symbol("]")) break;
        items.push_back(conditional(depth + 1));
      }
      return node(Expression::kList, "", std::move(items));
    }
    if (bracket == "{") {
      std::vector<Expression> items;
      while (!symbol("}")) {
        if (!items.empty() && !symbol(",")) throw NotUnderstood();
        if (symbol("}")) break;
        items.push_back(conditional(depth + 1));
        if (!symbol(":")) throw NotUnderstood();
        items.push_back(conditional(depth + 1));
      }
      return node(Expression::kDict, "", std::move(items));
    }
    throw NotUnderstood();
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
};

Expression expression(std::string_view source) {
  try {
    return ExpressionParser(source).whole();
  } catch (const NotUnderstood&) {
    Expression opaque;
    opaque.text = source;
    return opaque;
  }
}

// The first word of a tag, and what follows it.
std::pair<std::string_view, std::string_view> keyword_of(std::string_view tag) {
  tag = without_leading_space(without_trailing_space(tag));
  size_t end = 0;
  while (end < tag.size() && ((tag[end] >= 'a' && tag[end] <= 'z') || tag[end] == '_')) ++end;
  return {tag.substr(0, end), without_leading_space(tag.substr(end))};
}

class StatementParser {
 public:
  explicit StatementParser(std::vector<Tag> tags) : tags_(std::move(tags)) {}

  Program run() {
    Program body = block(0);
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
        if (keyword == "endgeneration") continue;
        if (keyword.starts_with("end") || keyword == "else" || keyword == "elif") return body;
        statement(keyword, rest, depth, body);
      }
    }
    return body;
  }

  void statement(std::string_view keyword, std::string_view rest, int depth,
                 std::vector<Statement>& body) {
    if (keyword == "generation") return;  // marks what the assistant says, for training
    if (keyword == "if") {
      body.push_back(if_statement(rest, depth));
    } else if (keyword == "for") {
      body.push_back(for_statement(rest, depth));
    } else if (keyword == "set") {
      body.push_back(set_statement(rest, depth));
    } else if (keyword == "macro") {
      body.push_back(macro_statement(rest, depth));
    } else if ((keyword == "break" || keyword == "continue") && rest.empty()) {
      if (loops_ == 0) unsupported(accrete::format("{} outside of a loop", keyword));
      body.emplace_back().kind = keyword == "break" ? Statement::kBreak : Statement::kContinue;
    } else {
      unsupported(accrete::format("the statement {:?} is not understood", keyword));
    }
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
        unsupported(accrete::format("{:?} in an if", keyword));
      }
    }
  }

  Statement for_statement(std::string_view head, int depth) {
    Statement result;
    result.kind = Statement::kFor;
    result.branches.resize(2);
    try {
      ExpressionParser(head).loop(result.names, result.expression, result.branches[0].condition);
    } catch (const NotUnderstood&) {
      result.expression = {};  // an error if ever reached
      result.expression.text = head;
    }
    ++at_;
    ++loops_;
    result.branches[0].body = block(depth + 1);
    --loops_;
    if (next_keyword().first == "else") {
      ++at_;
      result.branches[1].body = block(depth + 1);
    }
    if (next_keyword().first != "endfor") unsupported("a loop is not closed");
    return result;
  }

  Statement set_statement(std::string_view rest, int depth) {
    Statement result;
    result.kind = Statement::kSet;
    try {
      ExpressionParser(rest).assignment(result);
    } catch (const NotUnderstood&) {
      result.expression = {};
      result.expression.text = rest;
    }
    if (result.kind != Statement::kSetBlock) return result;
    body_of(result, depth, "endset");
    return result;
  }

  Statement macro_statement(std::string_view head, int depth) {
    Statement result;
    result.kind = Statement::kMacro;
    try {
      ExpressionParser(head).signature(result);
    } catch (const NotUnderstood&) {
      unsupported(accrete::format("the macro {:?} is not understood", head));
    }
    const int loops = std::exchange(loops_, 0);
    body_of(result, depth, "endmacro");
    loops_ = loops;
    return result;
  }

  void body_of(Statement& statement, int depth, std::string_view end) {
    ++at_;
    statement.branches.push_back({{}, block(depth + 1)});
    if (next_keyword().first != end) unsupported(accrete::format("{:?} is missing", end));
  }

  std::vector<Tag> tags_;
  size_t at_ = 0;
  int loops_ = 0;
};

}  // namespace

Program parse(std::string_view source) {
  return StatementParser(lex_template(source)).run();
}

}  // namespace accrete::text::jinja
