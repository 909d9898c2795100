// Jinja as chat templates use it: a template's syntax tree, and what it renders to.
//
// The language is that of `transformers`' apply_chat_template: Jinja 2 with trim_blocks,
// lstrip_blocks, loop controls and immutable values, of which everything is here that was found in
// templates of language models. An expression that is not understood becomes kOpaque: harmless
// where it is never reached, and an error where it is. Statements that are not understood are an
// error at once. Nothing is guessed: what Python would refuse is an error here.
//
// Non-goals: autoescaping, inheritance, imports, call blocks, tools.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace accrete::text::jinja {

struct Expression {
  enum Kind {
    kOpaque,   // text: the source
    kString,   // text
    kInteger,  // integer
    kFloat,    // real
    kTrue,
    kFalse,
    kNone,
    kName,       // text
    kAttribute,  // operands[0].text
    kIndex,      // operands[0][operands[1]]
    kSlice,      // operands[0][operands[1]:operands[2]:operands[3]], kNone where left out
    kList,       // operands; tuples too
    kDict,       // operands: key, value, key, value, ...
    kCall,       // operands[0](operands[1], ...)
    kFilter,     // operands[0] | text(operands[1], ...)
    kTest,       // operands[0] is text(operands[1], ...)
    kNot,        // operands[0]
    kNegative,   // -operands[0]
    kAnd,        // operands[0], operands[1]
    kOr,
    kBinary,   // operands[0] text operands[1]: + - * / // % ~
    kCompare,  // operands[0] names[0] operands[1] names[1] ...: == != < > <= >= in "not in"
    kIf,       // operands[0] if operands[1] else operands[2] (or undefined)
  };
  Kind kind = kOpaque;
  std::string text;
  int64_t integer = 0;
  double real = 0;
  // kCompare: the operators. kCall, kFilter, kTest: names of the last arguments, which have some.
  std::vector<std::string> names;
  std::vector<Expression> operands;
};

struct Statement {
  enum Kind {
    kText,      // text
    kOutput,    // expression
    kIf,        // branches; the condition of "else" is kTrue
    kFor,       // for names in expression if branches[0].condition; branches[1] is its else
    kSet,       // set names = expression; with `text` the attribute text of the namespace names[0]
    kSetBlock,  // set names[0] to what branches[0].body renders to
    kMacro,     // macro text(names): branches[0].body; defaults of the last names
    kBreak,
    kContinue,
  };
  struct Branch {
    Expression condition;
    std::vector<Statement> body;
  };
  Kind kind = kText;
  std::string text;
  std::vector<std::string> names;
  Expression expression;
  std::vector<Expression> defaults;
  std::vector<Branch> branches;
};

using Program = std::vector<Statement>;

// Throws kUnsupported.
Program parse(std::string_view source);

// What raise_exception() in a template says.
struct Raised {
  std::string message;
};

struct Value;
using Names = std::vector<std::pair<std::string, Value>>;

// What the program writes with these variables. Throws kUnsupported for what is not understood and
// for what Python refuses, Raised. Time and memory are bounded: kUnsupported beyond.
std::string render(const Program& program, Names variables);

}  // namespace accrete::text::jinja
