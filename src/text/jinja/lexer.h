// The two lexers of Jinja: a template into text and tags, a tag's inside into tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace accrete::text::jinja {

struct Tag {
  enum Kind { kText, kOutput, kStatement };
  Kind kind;
  std::string text;  // what is inside
};

// With the white-space rules of `transformers`: trim_blocks and lstrip_blocks, "-" and "+" at a
// tag's ends. Comments are left out, {% raw %} is text. Throws kUnsupported.
std::vector<Tag> lex_template(std::string_view source);

struct Token {
  enum Kind { kName, kString, kInteger, kFloat, kSymbol, kEnd };
  Kind kind = kEnd;
  std::string text;  // of a string its value
  int64_t integer = 0;
  double real = 0;
};

// Thrown and caught by the lexer of expressions and their parser: they become kOpaque.
struct NotUnderstood {};

// Ends with kEnd. Throws NotUnderstood.
std::vector<Token> lex_expression(std::string_view source);

// Throws kUnsupported: the template cannot be read.
[[noreturn]] void unsupported(std::string_view what);

// White space as Python's str.strip() has it.
bool is_python_space(char32_t c);
std::string_view without_leading_space(std::string_view text);
std::string_view without_trailing_space(std::string_view text);

}  // namespace accrete::text::jinja
