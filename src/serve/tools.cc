#include "serve/tools.h"

#include <algorithm>
#include <optional>

#include "base/format.h"

namespace accrete::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kOpen = "<tool_call>", kClose = "</tool_call>", kSpace = " \t\r\n";

bool is_function_name(const Json& name) {
  if (!name.is_string()) return false;
  const auto& text = name.get_ref<const std::string&>();
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '-';
  });
}

Json member(const Json& json, const char* name) {
  return json.is_object() && json.contains(name) ? json[name] : Json();
}

std::string dumped(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The end of `text` that is a beginning of the opening mark, with the space before it.
size_t may_open(std::string_view text) {
  size_t kept = std::min(text.size(), kOpen.size() - 1);
  while (!text.ends_with(kOpen.substr(0, kept))) --kept;
  const std::string_view before = text.substr(0, text.size() - kept);
  const size_t last = before.find_last_not_of(kSpace);
  return text.size() - (last == std::string_view::npos ? 0 : last + 1);
}

}  // namespace

OfferedTools offered_tools(Fields& body, const Json& ordered) {
  OfferedTools out;
  const auto& choice = body.any("tool_choice");
  if (!choice.is_null() && choice != "auto" && choice != "none")
    throw RequestError(400, "unsupported_parameter", "tool_choice",
                       "tool_choice: only \"auto\" and \"none\" are supported");
  if (!body.flag("parallel_tool_calls").value_or(true))
    throw RequestError(400, "unsupported_parameter", "parallel_tool_calls",
                       "parallel_tool_calls: the model writes as many calls as it likes",
                       "leave it out");
  const auto& tools = body.any("tools");
  if (tools.is_null()) return out;
  if (!tools.is_array() || tools.size() > 128)
    throw body.wrong("tools", "a list of at most 128 tools is expected");
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string where = accrete::format("tools[{}]", i);
    if (!tools[i].is_object() || tools[i].value("type", nlohmann::json()) != "function")
      throw body.wrong(where, "an object with the type \"function\" is expected");
    const Json function = member(ordered["tools"][i], "function");
    if (!is_function_name(member(function, "name")))
      throw body.wrong(where + ".function.name",
                       "letters, digits, '_' and '-', at most 64, are expected");
    if (const Json text = member(function, "description"); !text.is_null() && !text.is_string())
      throw body.wrong(where + ".function.description", "a text is expected");
    if (const Json schema = member(function, "parameters");
        !schema.is_null() && !schema.is_object())
      throw body.wrong(where + ".function.parameters", "a JSON schema is expected");
    out.names.push_back(function["name"].get<std::string>());
  }
  if (tools.empty() || choice == "none") return {};
  out.json = dumped(ordered["tools"]);
  return out;
}

std::string message_fields(Fields& message, const Json& ordered) {
  Json out = Json::object();
  const auto& calls = message.any("tool_calls");
  if (!calls.is_null()) {
    if (!calls.is_array()) throw message.wrong("tool_calls", "a list is expected");
    for (size_t i = 0; i < calls.size(); ++i) {
      const std::string where = accrete::format("tool_calls[{}].function", i);
      Json call = ordered["tool_calls"][i];
      const Json function = member(call, "function");
      if (!is_function_name(member(function, "name")))
        throw message.wrong(where + ".name", "the name of a function is expected");
      // Clients send the arguments as text; templates write them down as JSON.
      Json arguments = member(function, "arguments");
      if (arguments.is_string())
        arguments = Json::parse(arguments.get_ref<const std::string&>(), nullptr, false);
      if (!arguments.is_object())
        throw message.wrong(where + ".arguments", "a JSON object as text is expected");
      call["function"]["arguments"] = std::move(arguments);
      out["tool_calls"].push_back(std::move(call));
    }
  }
  for (const char* name : {"tool_call_id", "name"})
    if (const auto text = message.text(name)) out[name] = *text;
  return out.empty() ? "" : dumped(out);
}

ToolCallReader::Piece ToolCallReader::push(std::string_view text) {
  pending_ += text;
  Piece out;
  advance(out);
  return out;
}

void ToolCallReader::write(Piece& out, std::string_view text) {
  // Between calls, and behind the last one, stand line breaks.
  if (called_ && text.find_first_not_of(kSpace) == std::string_view::npos) return;
  out.text += text;
}

bool ToolCallReader::call(Piece& out, std::string_view json, bool known) {
  const Json object = Json::parse(json, nullptr, false);
  const Json name = member(object, "name");
  Json arguments = member(object, "arguments");
  if (arguments.is_null()) arguments = member(object, "parameters");
  if (arguments.is_null() && !known) arguments = Json::object();
  if (!name.is_string() || !arguments.is_object()) return false;
  if (known &&
      std::find(names_.begin(), names_.end(), name.get_ref<const std::string&>()) == names_.end())
    return false;
  out.calls.push_back({name.get<std::string>(), dumped(arguments)});
  called_ = true;
  return true;
}

void ToolCallReader::advance(Piece& out) {
  for (;;) {
    if (state_ == State::kBegin) {
      const size_t first = pending_.find_first_not_of(kSpace);
      if (first == std::string::npos) return;
      state_ = pending_[first] == '{' ? State::kObject : State::kText;
    }
    if (state_ == State::kObject) return;  // known at the end
    if (state_ == State::kText) {
      const size_t at = pending_.find(kOpen);
      if (at == std::string::npos) {
        const size_t ready = pending_.size() - may_open(pending_);
        write(out, std::string_view(pending_).substr(0, ready));
        pending_.erase(0, ready);
        return;
      }
      const size_t last = pending_.substr(0, at).find_last_not_of(kSpace);
      if (last != std::string::npos) write(out, std::string_view(pending_).substr(0, last + 1));
      pending_.erase(0, at + kOpen.size());
      state_ = State::kCall;
    }
    const size_t end = pending_.find(kClose);
    if (end == std::string::npos) return;
    if (!call(out, std::string_view(pending_).substr(0, end), false))
      out.text += std::string(kOpen) + pending_.substr(0, end) + std::string(kClose);
    pending_.erase(0, end + kClose.size());
    state_ = State::kText;
  }
}

ToolCallReader::Piece ToolCallReader::finish() {
  Piece out;
  if (state_ == State::kObject ? !call(out, pending_, true)
                               : state_ == State::kCall && !call(out, pending_, false))
    out.text = (state_ == State::kCall ? std::string(kOpen) : "") + pending_;
  else if (state_ == State::kBegin || state_ == State::kText)
    write(out, pending_);
  pending_.clear();
  return out;
}

}  // namespace accrete::serve
