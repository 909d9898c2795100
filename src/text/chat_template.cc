// A template is recognised by what it does: it is evaluated on every shape of conversation of up to
// three messages, with the contents as unknowns, and each result must be ChatML's.
//
// That is a proof for longer conversations too: the evaluation knows of a message in the loop only
// its role, its content, whether it is the first or the last, and the roles of the first and last
// message. Three messages bring all combinations of these about. Whatever else a template asks
// for (an index, a length, a variable, a filter) ends the evaluation, and the template is refused.
#include "text/chat_template.h"

#include <algorithm>
#include <array>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "io/strict_json.h"
#include "text/jinja.h"
#include "text/unicode.h"

namespace accrete {
namespace {

using text::jinja::Expression;
using text::jinja::Statement;

constexpr std::string_view kStart = "<|im_start|>";
constexpr std::string_view kEnd = "<|im_end|>";
constexpr std::array<std::string_view, 3> kRoles = {"system", "user", "assistant"};

// Thrown and caught in here.
struct Unknown {
  std::string what;
};

// A conversation with unknown contents. The content of message i is written as the two bytes 0xFF
// and its digit: no template has them, since templates are UTF-8.
struct Shape {
  std::vector<std::string_view> roles;
  bool prompt = false;  // add_generation_prompt
};

std::string_view content_mark(size_t i) {
  constexpr std::array<std::string_view, 3> kMarks = {"\xFF\x30", "\xFF\x31", "\xFF\x32"};
  return kMarks.at(i);
}

struct Value {
  enum Kind { kUndefined, kNone, kBool, kString, kMessages, kMessage, kLoop, kList };
  Kind kind = kUndefined;
  bool truth = false;
  std::string text = {};
  size_t message = 0;
  std::vector<Value> items = {};
};

Value of_bool(bool truth) {
  return {Value::kBool, truth};
}
Value of_string(std::string text) {
  return {Value::kString, false, std::move(text)};
}

class Evaluation {
 public:
  explicit Evaluation(const Shape& shape) : shape_(shape) {}

  std::string run(const std::vector<Statement>& program) {
    execute(program);
    return std::move(out_);
  }

 private:
  void execute(const std::vector<Statement>& body) {
    for (const Statement& statement : body) {
      switch (statement.kind) {
        case Statement::kText:
          out_ += statement.text;
          break;
        case Statement::kOutput:
          out_ += printed(evaluate(statement.expression));
          break;
        case Statement::kIf:
          for (const auto& branch : statement.branches) {
            if (!truth(evaluate(branch.condition))) continue;
            execute(branch.body);
            break;
          }
          break;
        case Statement::kFor:
          loop(statement);
          break;
        case Statement::kSet:
          throw Unknown{fmt::format("the variable {:?}", statement.text)};
      }
    }
  }

  void loop(const Statement& statement) {
    if (evaluate(statement.expression).kind != Value::kMessages || !variable_.empty())
      throw Unknown{"a loop over something else than messages"};
    variable_ = statement.text;
    for (current_ = 0; current_ < shape_.roles.size(); ++current_)
      execute(statement.branches[0].body);
    variable_.clear();
  }

  Value evaluate(const Expression& e) const {
    switch (e.kind) {
      case Expression::kOpaque:
        throw Unknown{fmt::format("the expression {:?}", e.text)};
      case Expression::kInteger:
        throw Unknown{"arithmetic"};
      case Expression::kString:
        return of_string(e.text);
      case Expression::kTrue:
        return of_bool(true);
      case Expression::kFalse:
        return of_bool(false);
      case Expression::kNone:
        return {Value::kNone};
      case Expression::kName:
        return name(e.text);
      case Expression::kAttribute:
        return attribute(evaluate(e.operands[0]), e.text, e.dotted);
      case Expression::kIndex:
        return index(evaluate(e.operands[0]), e.operands[1]);
      case Expression::kList: {
        Value list{Value::kList};
        for (const Expression& item : e.operands) list.items.push_back(evaluate(item));
        return list;
      }
      case Expression::kNot:
        return of_bool(!truth(evaluate(e.operands[0])));
      case Expression::kAnd: {
        Value left = evaluate(e.operands[0]);
        return truth(left) ? evaluate(e.operands[1]) : left;
      }
      case Expression::kOr: {
        Value left = evaluate(e.operands[0]);
        return truth(left) ? left : evaluate(e.operands[1]);
      }
      case Expression::kAdd: {
        const Value left = evaluate(e.operands[0]), right = evaluate(e.operands[1]);
        if (left.kind != Value::kString || right.kind != Value::kString)
          throw Unknown{"a sum of other things than strings"};
        return of_string(left.text + right.text);
      }
      case Expression::kCompare:
        return compare(evaluate(e.operands[0]), e.text, evaluate(e.operands[1]));
      case Expression::kTest:
        return test(evaluate(e.operands[0]), e.text);
      case Expression::kIf:
        if (truth(evaluate(e.operands[1]))) return evaluate(e.operands[0]);
        return e.operands.size() > 2 ? evaluate(e.operands[2]) : Value{};
    }
    throw Unknown{"an expression"};
  }

  Value name(const std::string& name) const {
    if (!variable_.empty() && name == variable_) return {Value::kMessage, false, {}, current_};
    if (!variable_.empty() && name == "loop") return {Value::kLoop};
    if (name == "messages") return {Value::kMessages};
    if (name == "add_generation_prompt") return of_bool(shape_.prompt);
    // `transformers` passes these two as None where there are none.
    if (name == "tools" || name == "documents") return {Value::kNone};
    throw Unknown{fmt::format("the variable {:?}", name)};
  }

  Value attribute(const Value& object, const std::string& name, bool dotted) const {
    if (object.kind == Value::kLoop && name == "first") return of_bool(current_ == 0);
    if (object.kind == Value::kLoop && name == "last")
      return of_bool(current_ + 1 == shape_.roles.size());
    if (object.kind == Value::kMessage) {
      if (name == "role") return of_string(std::string(shape_.roles[object.message]));
      if (name == "content") return of_string(std::string(content_mark(object.message)));
      // Messages have no other keys, but a dict has methods.
      if (name == "tool_calls" || name == "name" || name == "tool_call_id" ||
          name == "reasoning_content" || !dotted)
        return {};
    }
    throw Unknown{fmt::format("the attribute {:?}", name)};
  }

  Value index(const Value& object, const Expression& at) const {
    if (object.kind == Value::kMessages && at.kind == Expression::kInteger) {
      if (at.integer == 0) return {Value::kMessage, false, {}, 0};
      if (at.integer == -1) return {Value::kMessage, false, {}, shape_.roles.size() - 1};
    }
    throw Unknown{"an index"};
  }

  static bool has_content(const Value& value) {
    return value.kind == Value::kString && value.text.find('\xFF') != std::string::npos;
  }

  static bool equal(const Value& left, const Value& right) {
    if (has_content(left) || has_content(right)) throw Unknown{"a comparison of contents"};
    const auto plain = [](const Value& v) { return v.kind <= Value::kString; };
    if (!plain(left) || !plain(right)) throw Unknown{"a comparison"};
    return left.kind == right.kind && left.truth == right.truth && left.text == right.text;
  }

  static Value compare(const Value& left, const std::string& how, const Value& right) {
    if (how == "==") return of_bool(equal(left, right));
    if (how == "!=") return of_bool(!equal(left, right));
    if (right.kind != Value::kList) throw Unknown{"a search"};
    bool found = false;
    for (const Value& item : right.items) found |= equal(left, item);
    return of_bool(found == (how == "in"));
  }

  static Value test(const Value& value, const std::string& name) {
    if (name == "defined") return of_bool(value.kind != Value::kUndefined);
    if (name == "undefined") return of_bool(value.kind == Value::kUndefined);
    if (name == "none") return of_bool(value.kind == Value::kNone);
    if (name == "string") return of_bool(value.kind == Value::kString);
    throw Unknown{fmt::format("the test {:?}", name)};
  }

  static bool truth(const Value& value) {
    switch (value.kind) {
      case Value::kUndefined:
      case Value::kNone:
        return false;
      case Value::kBool:
        return value.truth;
      case Value::kString:
        if (has_content(value)) throw Unknown{"a condition on contents"};
        return !value.text.empty();
      case Value::kMessages:
      case Value::kMessage:
        return true;
      default:
        throw Unknown{"a condition"};
    }
  }

  static std::string printed(const Value& value) {
    if (value.kind == Value::kString) return value.text;
    if (value.kind == Value::kUndefined) return "";
    throw Unknown{"output of something else than a string"};
  }

  const Shape& shape_;
  std::string out_;
  std::string variable_;  // of the loop; empty outside
  size_t current_ = 0;
};

// What distinguishes one ChatML template from another.
struct Dialect {
  std::optional<std::string> default_system;
  bool closes_last = true;              // "<|im_end|>" also behind the last message
  bool prompts_after_assistant = true;  // add_generation_prompt acts whoever spoke last
};

void append_turn(std::string& out, std::string_view role, std::string_view content) {
  out.append(kStart).append(role).append("\n").append(content).append(kEnd).append("\n");
}

std::string rendered(const Dialect& dialect, size_t count, bool prompt,
                     const std::function<std::string_view(size_t)>& role,
                     const std::function<std::string_view(size_t)>& content) {
  std::string out;
  if (dialect.default_system && role(0) != "system")
    append_turn(out, "system", *dialect.default_system);
  for (size_t i = 0; i < count; ++i) append_turn(out, role(i), content(i));
  if (!prompt && !dialect.closes_last) out.resize(out.size() - kEnd.size() - 1);
  if (prompt && (dialect.prompts_after_assistant || role(count - 1) != "assistant"))
    out.append(kStart).append("assistant\n");
  return out;
}

std::vector<Shape> all_shapes() {
  std::vector<Shape> shapes;
  std::vector<std::vector<std::string_view>> conversations = {{}};
  for (int length = 1; length <= 3; ++length) {
    std::vector<std::vector<std::string_view>> longer;
    for (const auto& conversation : conversations) {
      for (const std::string_view role : kRoles) {
        longer.push_back(conversation);
        longer.back().push_back(role);
      }
    }
    conversations = std::move(longer);
    for (const auto& conversation : conversations)
      for (const bool prompt : {false, true}) shapes.push_back({conversation, prompt});
  }
  return shapes;
}

// The default system message, read off the result for a user's message alone.
std::optional<std::string> default_system_in(std::string_view result) {
  std::string before(kStart), behind(kEnd);
  before += "system\n";
  behind.append("\n").append(kStart).append("user\n").append(content_mark(0));
  const size_t end = result.find(behind);
  if (!result.starts_with(before) || end == std::string_view::npos || end < before.size())
    return std::nullopt;
  return std::string(result.substr(before.size(), end - before.size()));
}

std::optional<Dialect> recognise(const std::vector<Statement>& program) {
  const std::vector<Shape> shapes = all_shapes();
  std::vector<std::string> results;
  for (const Shape& shape : shapes) results.push_back(Evaluation(shape).run(program));
  Dialect dialect;
  dialect.default_system = default_system_in(Evaluation({{"user"}, true}).run(program));
  for (const bool closes_last : {true, false}) {
    for (const bool prompts_after_assistant : {true, false}) {
      dialect.closes_last = closes_last;
      dialect.prompts_after_assistant = prompts_after_assistant;
      bool same = true;
      for (size_t i = 0; same && i < shapes.size(); ++i) {
        const Shape& shape = shapes[i];
        same = results[i] == rendered(
                                 dialect, shape.roles.size(), shape.prompt,
                                 [&](size_t m) { return shape.roles[m]; }, content_mark);
      }
      if (same) return dialect;
    }
  }
  return std::nullopt;
}

// For messages: the first line, cut where it is long.
std::string first_line(std::string_view jinja) {
  std::string_view line = jinja.substr(0, jinja.find_first_of("\r\n"));
  line = line.substr(0, unicode::valid_prefix(line.substr(0, 120)));
  return fmt::format("{:?}", line);
}

[[noreturn]] void refuse(std::string_view jinja, std::string_view why) {
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("the chat template that begins {} is not supported: {}", first_line(jinja), why),
      "ChatML templates (SmolLM2, Qwen2 and alike) are supported; for other models give "
      "plain prompts (--raw)");
}

}  // namespace

ChatTemplate ChatTemplate::from_jinja(std::string_view jinja) {
  std::optional<Dialect> dialect;
  try {
    dialect = recognise(text::jinja::parse(jinja));
  } catch (const Unknown& unknown) {
    refuse(jinja, "it depends on " + unknown.what);
  } catch (const Error& error) {
    refuse(jinja, error.what());
  }
  if (!dialect) refuse(jinja, "it does not write ChatML");
  ChatTemplate result;
  result.default_system_ = std::move(dialect->default_system);
  result.closes_last_ = dialect->closes_last;
  result.prompts_after_assistant_ = dialect->prompts_after_assistant;
  return result;
}

std::optional<ChatTemplate> ChatTemplate::from_folder(const std::filesystem::path& folder) {
  // The order of `transformers`: the file of its own wins.
  const std::filesystem::path jinja = folder / "chat_template.jinja";
  if (std::filesystem::exists(jinja)) return from_jinja(read_file(jinja));
  const std::filesystem::path config_path = folder / "tokenizer_config.json";
  if (!std::filesystem::exists(config_path)) return std::nullopt;
  const nlohmann::json config = read_json_object(config_path);
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return std::nullopt;
  if (found->is_string()) return from_jinja(found->get_ref<const std::string&>());
  // Several, by name: "default" is the one for conversations.
  if (found->is_array()) {
    for (const auto& entry : *found) {
      if (!entry.is_object() || entry.value("name", nlohmann::json()) != "default") continue;
      const auto text = entry.find("template");
      if (text != entry.end() && text->is_string())
        return from_jinja(text->get_ref<const std::string&>());
    }
  }
  throw Error(ErrorCode::kFormat,
              fmt::format("{}: chat_template is neither a text nor a list with a \"default\"",
                          config_path.string()),
              "the file is damaged; fetch it again");
}

std::string ChatTemplate::render(std::span<const Message> messages,
                                 bool add_generation_prompt) const {
  if (messages.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "a conversation without messages",
                "give at least one message");
  }
  for (const Message& message : messages) {
    if (std::find(kRoles.begin(), kRoles.end(), message.role) == kRoles.end()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("a message has the role {:?}", message.role),
                  "roles are system, user and assistant");
    }
  }
  return rendered(
      {default_system_, closes_last_, prompts_after_assistant_}, messages.size(),
      add_generation_prompt, [&](size_t i) -> std::string_view { return messages[i].role; },
      [&](size_t i) -> std::string_view { return messages[i].content; });
}

}  // namespace accrete
