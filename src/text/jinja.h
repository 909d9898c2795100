// Jinja chat templates as a syntax tree: the statements and expressions that such templates use,
// with the white-space rules of `transformers` (trim_blocks, lstrip_blocks).
//
// An expression that is not understood becomes kOpaque: harmless where it is never reached, and an
// error where it is. Statements that are not understood are an error at once.
//
// Non-goals: evaluation in general (chat_template.cc evaluates what it needs), macros, namespaces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace accrete::text::jinja {

struct Expression {
  enum Kind {
    kOpaque,   // text: the source
    kString,   // text
    kInteger,  // integer
    kTrue,
    kFalse,
    kNone,
    kName,       // text
    kAttribute,  // operands[0].text or operands[0]["text"]
    kIndex,      // operands[0][operands[1]]
    kList,       // operands
    kNot,        // operands[0]
    kAnd,        // operands[0], operands[1]
    kOr,
    kAdd,      // + and ~
    kCompare,  // text is the operator: == != in "not in"
    kTest,     // operands[0] is text
    kIf,       // operands[0] if operands[1] else operands[2] (or undefined)
  };
  Kind kind = kOpaque;
  std::string text;
  int integer = 0;
  bool dotted = false;  // kAttribute: written with a dot, where methods hide keys
  std::vector<Expression> operands;
};

struct Statement {
  enum Kind {
    kText,    // text
    kOutput,  // expression
    kIf,      // branches; the condition of "else" is kTrue
    kFor,     // for text in expression: branches[0].body
    kSet,     // set text = expression
  };
  struct Branch {
    Expression condition;
    std::vector<Statement> body;
  };
  Kind kind = kText;
  std::string text;
  Expression expression;
  std::vector<Branch> branches;
};

// Throws kUnsupported.
std::vector<Statement> parse(std::string_view source);

}  // namespace accrete::text::jinja
