#include "text/chat_template.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "io/strict_json.h"
#include "text/jinja/value.h"
#include "text/json_fields.h"
#include "text/unicode.h"

namespace accrete {

using text::jinja::Value;

namespace {

// A JSON value as templates see it; names keep their order.
Value value_of(const nlohmann::ordered_json& json) {
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean:
      return Value::of(json.get<bool>());
    case nlohmann::ordered_json::value_t::number_integer:
    case nlohmann::ordered_json::value_t::number_unsigned:
      return Value::of(json.get<int64_t>());
    case nlohmann::ordered_json::value_t::number_float:
      return Value::of(json.get<double>());
    case nlohmann::ordered_json::value_t::string:
      return Value::of(json.get<std::string>());
    case nlohmann::ordered_json::value_t::array: {
      std::vector<Value> items;
      for (const auto& item : json) items.push_back(value_of(item));
      return Value::list(std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      text::jinja::Names names;
      for (const auto& [name, item] : json.items()) names.emplace_back(name, value_of(item));
      return Value::dict(std::move(names));
    }
    default:
      return Value::none();
  }
}

nlohmann::ordered_json parsed(std::string_view text) {
  auto json = nlohmann::ordered_json::parse(text, nullptr, false);
  if (json.is_discarded())
    throw Error(ErrorCode::kInvalidArgument, "tools or a message's fields are no JSON");
  return json;
}

}  // namespace

struct ChatTemplate::Template {
  text::jinja::Program program;
  std::map<std::string, std::string> special_tokens;

  std::string render(std::span<const Message> messages, bool add_generation_prompt,
                     std::string_view tools = {}) const {
    std::vector<Value> list;
    for (const Message& m : messages) {
      text::jinja::Names fields = {{"role", Value::of(m.role)}, {"content", Value::of(m.content)}};
      if (!m.more.empty()) {
        const auto more = parsed(m.more);
        for (const auto& [name, value] : more.items()) fields.emplace_back(name, value_of(value));
      }
      list.push_back(Value::dict(std::move(fields)));
    }
    text::jinja::Names variables = {
        {"messages", Value::list(std::move(list))},
        {"add_generation_prompt", Value::of(add_generation_prompt)},
        // `transformers` passes these two as None.
        {"tools", tools.empty() ? Value::none() : value_of(parsed(tools))},
        {"documents", Value::none()}};
    for (const auto& [name, token] : special_tokens) variables.emplace_back(name, Value::of(token));
    return text::jinja::render(program, std::move(variables));
  }
};

namespace {

constexpr std::string_view kProbeTool =
    R"([{"type": "function", "function": {"name": "accrete_tool", "description": "d",
         "parameters": {"type": "object", "properties": {}}}}])";

constexpr std::array<std::string_view, 3> kRoles = {"system", "user", "assistant"};

// For messages: the first line, cut where it is long.
std::string first_line(std::string_view jinja) {
  std::string_view line = jinja.substr(0, jinja.find_first_of("\r\n"));
  line = line.substr(0, unicode::valid_prefix(line.substr(0, 120)));
  return accrete::format("{:?}", line);
}

[[noreturn]] void refuse(std::string_view jinja, std::string_view why) {
  throw Error(ErrorCode::kUnsupported,
              accrete::format("the chat template that begins {} is not supported: {}",
                              first_line(jinja), why),
              "give plain prompts (--raw)");
}

// What follows the answer in `rendered`, up to the end of the first token between < and >.
std::string end_behind(std::string_view rendered, std::string_view answer) {
  const size_t at = rendered.find(answer);
  std::string_view rest = rendered.substr(at + answer.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(" \n"), rest.size()));
  if (rest.starts_with('<')) return std::string(rest.substr(0, rest.find('>') + 1));
  return std::string(rest.substr(0, rest.find_first_of(" \n")));
}

std::map<std::string, std::string> special_tokens_of(const nlohmann::json& config) {
  std::map<std::string, std::string> tokens;
  for (const char* name :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
    if (auto token = text::token_text(text::member(config, name))) tokens[name] = std::move(*token);
  return tokens;
}

}  // namespace

ChatTemplate ChatTemplate::from_jinja(std::string_view jinja,
                                      const std::map<std::string, std::string>& special_tokens) {
  const std::string question = "accrete-asks", answer = "accrete-answers";
  auto own = std::make_shared<Template>();
  own->special_tokens = special_tokens;
  const std::array<Message, 2> turns = {Message{"user", question}, Message{"assistant", answer}};
  std::string prompt, both;
  try {
    own->program = text::jinja::parse(jinja);
    prompt = own->render(std::span(turns).first(1), true);
    both = own->render(turns, false);
  } catch (const text::jinja::Raised& raised) {
    refuse(jinja,
           accrete::format("it refuses a user's message and its answer: {}", raised.message));
  } catch (const Error& error) {
    refuse(jinja, error.what());
  }
  if (prompt.find(question) == std::string::npos) refuse(jinja, "it drops the user's message");
  if (both.find(answer) == std::string::npos) refuse(jinja, "it drops the assistant's message");
  ChatTemplate result(std::move(own));
  result.end_of_turn_ = end_behind(both, answer);
  try {
    const std::string name = "accrete_tool";
    result.takes_tools_ =
        result.own_->render(std::span(turns).first(1), true, kProbeTool).find(name) !=
        std::string::npos;
  } catch (const text::jinja::Raised&) {  // it refuses tools
  } catch (const Error&) {
  }
  return result;
}

std::optional<ChatTemplate> ChatTemplate::from_folder(const std::filesystem::path& folder) {
  const std::filesystem::path config_path = folder / "tokenizer_config.json";
  const nlohmann::json config = std::filesystem::exists(config_path) ? read_json_object(config_path)
                                                                     : nlohmann::json::object();
  const auto special_tokens = special_tokens_of(config);
  // The order of `transformers`: the file of its own wins.
  const std::filesystem::path jinja = folder / "chat_template.jinja";
  if (std::filesystem::exists(jinja)) return from_jinja(read_file(jinja), special_tokens);
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return std::nullopt;
  if (found->is_string()) return from_jinja(found->get_ref<const std::string&>(), special_tokens);
  // Several, by name: "default" is the one for conversations.
  if (found->is_array()) {
    for (const auto& entry : *found) {
      if (!entry.is_object() || entry.value("name", nlohmann::json()) != "default") continue;
      const auto text = entry.find("template");
      if (text != entry.end() && text->is_string())
        return from_jinja(text->get_ref<const std::string&>(), special_tokens);
    }
  }
  throw Error(ErrorCode::kFormat,
              accrete::format("{}: chat_template is neither a text nor a list with a \"default\"",
                              config_path.string()),
              "the file is damaged; fetch it again");
}

std::string ChatTemplate::render(std::span<const Message> messages, bool add_generation_prompt,
                                 std::string_view tools) const {
  if (messages.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "a conversation without messages",
                "give at least one message");
  }
  if (!tools.empty() && !takes_tools_)
    throw Error(ErrorCode::kUnsupported, "this model's chat template takes no tools",
                "leave out the tools, or take a model that was made for them");
  for (const Message& message : messages) {
    if (takes_tools_ && message.role == "tool") continue;
    if (std::find(kRoles.begin(), kRoles.end(), message.role) == kRoles.end()) {
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("a message has the role {:?}", message.role),
                  "roles are system, user and assistant");
    }
  }
  try {
    return own_->render(messages, add_generation_prompt, tools);
  } catch (const text::jinja::Raised& raised) {
    throw Error(
        ErrorCode::kInvalidArgument,
        accrete::format("the model's chat template refuses this conversation: {}", raised.message),
        "give the messages that it takes");
  }
}

}  // namespace accrete
