#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "text/jinja/value.h"

namespace accrete::text::jinja {
namespace {

// What a template may take: steps of evaluation, and bytes that it makes.
constexpr int64_t kMostSteps = 2'000'000;
constexpr int64_t kMostBytes = 64 << 20;
constexpr int kMaxDepth = 64;  // of macros in macros

class Renderer {
 public:
  explicit Renderer(Names variables) { scopes_.push_back(std::move(variables)); }

  std::string run(const Program& program) {
    execute(program);
    return std::move(out_);
  }

 private:
  enum class Flow { kOn, kBreak, kContinue };

  void step(size_t bytes = 0) {
    bytes_ += static_cast<int64_t>(bytes);
    if (++steps_ > kMostSteps || bytes_ > kMostBytes) throw Refused{"more work than a chat takes"};
  }
  Value counted(Value made) {
    step(made.text.size() + (made.items ? made.items->items.size() * sizeof(Value) : 0));
    return made;
  }
  void write(const std::string& text) {
    step(text.size());
    out_ += text;
  }

  // ---- Statements ----

  Flow execute(const std::vector<Statement>& body) {
    for (const Statement& statement : body) {
      step();
      Flow flow = Flow::kOn;
      switch (statement.kind) {
        case Statement::kText:
          write(statement.text);
          break;
        case Statement::kOutput:
          write(printed(evaluate(statement.expression)));
          break;
        case Statement::kIf:
          for (const auto& branch : statement.branches) {
            if (!truth(evaluate(branch.condition))) continue;
            flow = execute(branch.body);
            break;
          }
          break;
        case Statement::kFor:
          loop(statement);
          break;
        case Statement::kSet:
          set(statement);
          break;
        case Statement::kSetBlock: {
          std::string text = captured(statement.branches[0].body);
          assign(statement.names[0], Value::of(std::move(text)));
          break;
        }
        case Statement::kMacro: {
          Value macro;
          macro.kind = Value::kMacro;
          macro.text = statement.text;
          macro.macro = &statement;
          assign(statement.text, std::move(macro));
          break;
        }
        case Statement::kBreak:
          return Flow::kBreak;
        case Statement::kContinue:
          return Flow::kContinue;
      }
      if (flow != Flow::kOn) return flow;
    }
    return Flow::kOn;
  }

  // What a body writes, with variables of its own.
  std::string captured(const std::vector<Statement>& body) {
    std::string before = std::exchange(out_, {});
    scopes_.emplace_back();
    execute(body);
    scopes_.pop_back();
    std::swap(before, out_);
    return before;
  }

  void loop(const Statement& statement) {
    std::vector<Value> items, all = items_of(evaluate(statement.expression));
    step(all.size() * sizeof(Value));
    for (Value& item : all) {
      const Expression& condition = statement.branches[0].condition;
      if (condition.kind != Expression::kTrue) {
        scopes_.emplace_back();
        unpack(statement.names, item);
        const bool wanted = truth(evaluate(condition));
        scopes_.pop_back();
        if (!wanted) continue;
      }
      items.push_back(std::move(item));
    }
    const auto n = static_cast<int64_t>(items.size());
    for (int64_t i = 0; i < n; ++i) {
      step();
      const auto beside = [&](int64_t j) {
        return j >= 0 && j < n ? items[static_cast<size_t>(j)] : Value::undefined("an item");
      };
      scopes_.emplace_back();
      assign("loop", Value::dict({{"index", Value::of(i + 1)},
                                  {"index0", Value::of(i)},
                                  {"revindex", Value::of(n - i)},
                                  {"revindex0", Value::of(n - i - 1)},
                                  {"first", Value::of(i == 0)},
                                  {"last", Value::of(i + 1 == n)},
                                  {"length", Value::of(n)},
                                  {"previtem", beside(i - 1)},
                                  {"nextitem", beside(i + 1)}}));
      unpack(statement.names, items[static_cast<size_t>(i)]);
      const Flow flow = execute(statement.branches[0].body);
      scopes_.pop_back();
      if (flow == Flow::kBreak) break;
    }
    if (n == 0) {
      scopes_.emplace_back();
      execute(statement.branches[1].body);
      scopes_.pop_back();
    }
  }

  void set(const Statement& statement) {
    Value value = evaluate(statement.expression);
    if (statement.text.empty()) {
      unpack(statement.names, value);
      return;
    }
    const Value target = name(statement.names[0]);
    if (target.kind != Value::kNamespace) throw Refused{"an attribute set of no namespace"};
    auto& [names, items] = *target.items;
    const auto found = std::find(names.begin(), names.end(), statement.text);
    if (found != names.end()) {
      items[static_cast<size_t>(found - names.begin())] = std::move(value);
    } else {
      names.push_back(statement.text);
      items.push_back(std::move(value));
    }
  }

  void unpack(const std::vector<std::string>& names, const Value& value) {
    if (names.size() == 1) {
      assign(names[0], value);
      return;
    }
    const auto items = items_of(value);
    if (items.size() != names.size())
      throw Refused{accrete::format("{} names for {} values", names.size(), items.size())};
    for (size_t i = 0; i < names.size(); ++i) assign(names[i], items[i]);
  }

  void assign(const std::string& name, Value value) {
    for (auto& [key, old] : scopes_.back())
      if (key == name) {
        old = std::move(value);
        return;
      }
    scopes_.back().emplace_back(name, std::move(value));
  }

  // ---- Expressions ----

  Value name(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      for (const auto& [key, value] : *scope)
        if (key == name) return value;
    if (is_function(name)) {
      Value function;
      function.kind = Value::kFunction;
      function.text = name;
      return function;
    }
    return Value::undefined(name);
  }

  Value evaluate(const Expression& e) {
    step();
    switch (e.kind) {
      case Expression::kOpaque:
        throw Refused{accrete::format("the expression {:?}", e.text)};
      case Expression::kString:
        return Value::of(e.text);
      case Expression::kInteger:
        return Value::of(e.integer);
      case Expression::kFloat:
        return Value::of(e.real);
      case Expression::kTrue:
      case Expression::kFalse:
        return Value::of(e.kind == Expression::kTrue);
      case Expression::kNone:
        return Value::none();
      case Expression::kName:
        return name(e.text);
      case Expression::kAttribute:
        return attribute(evaluate(e.operands[0]), e.text);
      case Expression::kIndex:
        return index(evaluate(e.operands[0]), evaluate(e.operands[1]));
      case Expression::kSlice:
        return counted(slice(evaluate(e.operands[0]), evaluate(e.operands[1]),
                             evaluate(e.operands[2]), evaluate(e.operands[3])));
      case Expression::kList: {
        std::vector<Value> items;
        for (const Expression& item : e.operands) items.push_back(evaluate(item));
        return Value::list(std::move(items));
      }
      case Expression::kDict:
        return dict(e);
      case Expression::kCall:
        return counted(call(e));
      case Expression::kFilter: {
        const Value value = evaluate(e.operands[0]);
        return counted(filtered(value, e.text, arguments(e)));
      }
      case Expression::kTest: {
        const Value value = evaluate(e.operands[0]);
        return Value::of(tested(value, e.text, arguments(e)));
      }
      case Expression::kNot:
        return Value::of(!truth(evaluate(e.operands[0])));
      case Expression::kNegative: {
        const Value value = evaluate(e.operands[0]);
        if (!value.is_number()) throw Refused{"the negative of no number"};
        return value.kind == Value::kFloat ? Value::of(-value.real) : Value::of(-value.integer);
      }
      case Expression::kAnd: {
        Value left = evaluate(e.operands[0]);
        return truth(left) ? evaluate(e.operands[1]) : left;
      }
      case Expression::kOr: {
        Value left = evaluate(e.operands[0]);
        return truth(left) ? left : evaluate(e.operands[1]);
      }
      case Expression::kBinary:
        return binary(evaluate(e.operands[0]), e.text, evaluate(e.operands[1]));
      case Expression::kCompare:
        return compare(e);
      case Expression::kIf:
        if (truth(evaluate(e.operands[1]))) return evaluate(e.operands[0]);
        return e.operands.size() > 2 ? evaluate(e.operands[2]) : Value::undefined("else");
    }
    throw Refused{"an expression"};
  }

  static Value attribute(const Value& object, const std::string& name) {
    if (object.kind == Value::kUndefined)
      throw Refused{
          accrete::format("the attribute {:?} of {:?}, which is undefined", name, object.text)};
    // Methods hide keys where a dot is written; only calls of them are understood.
    if (has_method(object, name))
      throw Refused{accrete::format("the method {:?} as a value", name)};
    if (object.has_names())
      if (const Value* found = object.find(name)) return *found;
    return Value::undefined(name);
  }

  static Value index(const Value& object, const Value& at) {
    if (object.kind == Value::kUndefined)
      throw Refused{accrete::format("an item of {:?}, which is undefined", object.text)};
    return jinja::at(object, at);
  }

  Value dict(const Expression& e) {
    Names names;
    for (size_t i = 0; i + 1 < e.operands.size(); i += 2) {
      const Value key = evaluate(e.operands[i]);
      if (key.kind != Value::kString) throw Refused{"a dict with other keys than strings"};
      Value value = evaluate(e.operands[i + 1]);
      const auto same = std::find_if(names.begin(), names.end(),
                                     [&](const auto& one) { return one.first == key.text; });
      if (same != names.end())
        same->second = std::move(value);
      else
        names.emplace_back(key.text, std::move(value));
    }
    return Value::dict(std::move(names));
  }

  Arguments arguments(const Expression& e) {
    Arguments out;
    const size_t n = e.operands.size() - 1 - e.names.size();
    for (size_t i = 0; i < n; ++i) out.positional.push_back(evaluate(e.operands[i + 1]));
    for (size_t i = 0; i < e.names.size(); ++i)
      out.named.emplace_back(e.names[i], evaluate(e.operands[n + i + 1]));
    return out;
  }

  Value call(const Expression& e) {
    const Expression& callee = e.operands[0];
    if (callee.kind == Expression::kAttribute) {
      const Value object = evaluate(callee.operands[0]);
      const Value* own = object.has_names() && !has_method(object, callee.text)
                             ? object.find(callee.text)
                             : nullptr;
      if (own == nullptr) return method(object, callee.text, arguments(e));
      throw Refused{accrete::format("a call of {:?}", callee.text)};
    }
    const Value function = evaluate(callee);
    if (function.kind == Value::kFunction) return call_function(function.text, arguments(e));
    if (function.kind == Value::kMacro) return call_macro(*function.macro, arguments(e));
    throw Refused{accrete::format("a call of {:?}", callee.text)};
  }

  // A macro sees the variables outside of all blocks and its own.
  Value call_macro(const Statement& macro, const Arguments& given) {
    if (++depth_ > kMaxDepth) throw Refused{"macros nested too deeply"};
    if (given.positional.size() > macro.names.size()) throw Refused{"too many arguments"};
    for (const auto& [name, value] : given.named)
      if (std::find(macro.names.begin(), macro.names.end(), name) == macro.names.end())
        throw Refused{accrete::format("the argument {:?}", name)};
    std::vector<Names> outside;
    outside.push_back(scopes_.front());
    std::swap(outside, scopes_);
    scopes_.emplace_back();
    const size_t required = macro.names.size() - macro.defaults.size();
    for (size_t i = 0; i < macro.names.size(); ++i) {
      Value value = given.get(i, macro.names[i]);
      if (value.kind == Value::kUndefined && i >= required)
        value = evaluate(macro.defaults[i - required]);
      assign(macro.names[i], std::move(value));
    }
    std::string text = captured(macro.branches[0].body);
    std::swap(outside, scopes_);
    --depth_;
    return Value::of(std::move(text));
  }

  Value binary(const Value& left, const std::string& how, const Value& right) {
    if (how == "~" || (how == "+" && left.kind == Value::kString && right.kind == Value::kString)) {
      std::string text = printed(left) + printed(right);
      step(text.size());
      return Value::of(std::move(text));
    }
    if (how == "+" && left.kind == Value::kList && right.kind == Value::kList) {
      std::vector<Value> items = left.items->items;
      items.insert(items.end(), right.items->items.begin(), right.items->items.end());
      step(items.size() * sizeof(Value));
      return Value::list(std::move(items));
    }
    if (!left.is_number() || !right.is_number())
      throw Refused{accrete::format("{:?} of other things than numbers or strings", how)};
    if (left.kind == Value::kFloat || right.kind == Value::kFloat) {
      const double a = left.number(), b = right.number();
      if (how == "+") return Value::of(a + b);
      if (how == "-") return Value::of(a - b);
      if (how == "*") return Value::of(a * b);
      if (how == "/" && b != 0) return Value::of(a / b);
      throw Refused{accrete::format("{:?} of floats", how)};
    }
    return of_integers(left.integer, how, right.integer);
  }

  static Value of_integers(int64_t a, const std::string& how, int64_t b) {
    int64_t out = 0;
    bool overflow = false;
    if (how == "+") {
      overflow = __builtin_add_overflow(a, b, &out);
    } else if (how == "-") {
      overflow = __builtin_sub_overflow(a, b, &out);
    } else if (how == "*") {
      overflow = __builtin_mul_overflow(a, b, &out);
    } else if (b == 0 || b == -1) {
      throw Refused{"a division by 0 or -1"};
    } else if (how == "/") {
      return Value::of(static_cast<double>(a) / static_cast<double>(b));
    } else {
      // Python rounds down.
      const int64_t rest = a % b + ((a % b != 0 && (a < 0) != (b < 0)) ? b : 0);
      out = how == "%" ? rest : (a - rest) / b;
    }
    if (overflow) throw Refused{"an integer so large"};
    return Value::of(out);
  }

  Value compare(const Expression& e) {
    Value left = evaluate(e.operands[0]);
    for (size_t i = 0; i < e.names.size(); ++i) {
      Value right = evaluate(e.operands[i + 1]);
      const std::string& how = e.names[i];
      bool holds = false;
      if (how == "==" || how == "!=")
        holds = equal(left, right) == (how == "==");
      else if (how == "in" || how == "not in")
        holds = contains(right, left) == (how == "in");
      else if (how == "<" || how == ">=")
        holds = less(left, right) == (how == "<");
      else
        holds = less(right, left) == (how == ">");
      if (!holds) return Value::of(false);
      left = std::move(right);
    }
    return Value::of(true);
  }

  std::vector<Names> scopes_;  // the innermost last
  std::string out_;
  int64_t steps_ = 0, bytes_ = 0;
  int depth_ = 0;
};

}  // namespace

std::string render(const Program& program, Names variables) {
  try {
    return Renderer(std::move(variables)).run(program);
  } catch (const Refused& refused) {
    throw Error(ErrorCode::kUnsupported,
                accrete::format("chat template: {} is not understood", refused.what),
                "use the model with --raw");
  }
}

}  // namespace accrete::text::jinja
