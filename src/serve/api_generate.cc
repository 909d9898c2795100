// Chats and completions: reading the request.
#include <algorithm>
#include <random>

#include "base/format.h"
#include "serve/api.h"
#include "serve/generating.h"
#include "serve/tools.h"

namespace accrete::serve {
namespace {

// What both take alike.
void read_options(Fields& body, GenerateRequest& out) {
  GenerateOptions& o = out.options;
  o.max_tokens = out.chat ? 256 : 16;
  if (const auto n = body.integer("max_tokens", 0, 1 << 20)) o.max_tokens = *n;
  if (const auto n = body.integer("max_completion_tokens", 0, 1 << 20)) o.max_tokens = *n;
  o.temperature = body.number("temperature", 0, 2).value_or(0);
  o.top_p = body.number("top_p", 0, 1).value_or(1);
  if (o.top_p == 0) o.top_p = 1e-9;  // the best token
  o.top_k = std::max<int64_t>(0, body.integer("top_k", -1, 1 << 20).value_or(0));
  o.min_p = body.number("min_p", 0, 1).value_or(0);
  o.repetition_penalty = body.number("repetition_penalty", 1e-3, 1000).value_or(1);
  if (auto stop = body.texts("stop", 16)) o.stop = std::move(*stop);
  for (const std::string& stop : o.stop)
    if (stop.empty()) throw body.wrong("stop", "a stop string must not be empty");
  if (const auto seed = body.integer("seed", INT64_MIN, INT64_MAX))
    o.seed = static_cast<uint64_t>(*seed);
  else if (o.temperature > 0)
    o.seed = std::random_device()();
  out.n = body.integer("n", 1, 8).value_or(1);
  out.stream = body.flag("stream").value_or(false);
  if (auto how = body.object("stream_options"))
    out.usage = how->flag("include_usage").value_or(false);
  for (const char* known : {"user", "safety_identifier", "prompt_cache_key", "metadata", "store"})
    (void)body.any(known);
  body.refuse("logit_bias");
  body.refuse("presence_penalty", 0, "leave it out; repetition_penalty is there");
  body.refuse("frequency_penalty", 0, "leave it out; repetition_penalty is there");
}

// Our own: {"explain": true, "facts": false, "caution": 0.5, "question": "…", "otherwise": "…"}.
void read_own(Fields& body, GenerateRequest& out, Query& query) {
  auto own = body.object("accrete");
  if (!own) return;
  out.explain = query.explain = own->flag("explain").value_or(false);
  query.facts = own->flag("facts").value_or(true);
  query.caution = own->number("caution", -100, 100).value_or(0);
  query.question = own->text("question").value_or("");
  if (const auto text = own->text("otherwise")) query.otherwise = *text;
  out.ignored = own->ignored();
}

// Beside what "accrete" has that is not known.
void also_ignored(const Fields& body, GenerateRequest& out) {
  const std::string more = body.ignored();
  if (!more.empty()) out.ignored += (out.ignored.empty() ? "" : ", ") + more;
}

constexpr const char* kNoTools = "this model's chat template takes no tools";

std::string content_of(const Fields& message, const nlohmann::json& content) {
  if (content.is_string()) return content.get<std::string>();
  if (content.is_null()) return "";
  if (!content.is_array()) throw message.wrong("content", "a text is expected");
  std::string out;
  for (size_t i = 0; i < content.size(); ++i) {
    const std::string where = accrete::format("content[{}]", i);
    if (!content[i].is_object() || !content[i].contains("type") || !content[i]["type"].is_string())
      throw message.wrong(where, "an object with a type is expected");
    if (content[i]["type"] != "text")
      throw RequestError(400, "unsupported_parameter", message.path(where),
                         message.path(where) + ": only texts are supported");
    if (!content[i].contains("text") || !content[i]["text"].is_string())
      throw message.wrong(where + ".text", "a text is expected");
    out += content[i]["text"].get<std::string>();
  }
  return out;
}

}  // namespace

// An overlay that is not open is opened first, beside the step loop.
void Api::generate(Call call, GenerateRequest request) {
  if (service_->ready(request.overlay))
    return std::make_shared<Generating>(*this, std::move(call), std::move(request))->start();
  const auto kept = std::make_shared<GenerateRequest>(std::move(request));
  aside(std::move(call), [this, kept](const Call& c) {
    service_->open_overlay(kept->overlay);
    std::make_shared<Generating>(*this, c, std::move(*kept))->start();
  });
}

void Api::chat_completions(Call call) {
  Fields body = Fields::of_body(call.request.body);
  GenerateRequest out;
  out.overlay = asked_overlay(call, body.text("model").value_or(service_->name()));
  read_options(body, out);
  Query query;
  query.overlay = out.overlay;
  query.otherwise = options_.otherwise;
  read_own(body, out, query);
  const auto& messages = body.any("messages");
  if (!messages.is_array() || messages.empty())
    throw body.wrong("messages", "a list of at least one message is expected");
  // Templates write tools and calls down with their fields in order.
  const bool tools =
      body.has("tools") ||
      std::any_of(messages.begin(), messages.end(), [](const nlohmann::json& message) {
        return message.is_object() && (message.contains("tool_calls") ||
                                       message.value("role", nlohmann::json()) == "tool");
      });
  nlohmann::ordered_json ordered;
  if (tools && service_->takes_tools()) ordered = nlohmann::ordered_json::parse(call.request.body);
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string where = accrete::format("messages[{}]", i);
    if (!messages[i].is_object()) throw body.wrong(where, "an object is expected");
    Fields message(messages[i], where);
    std::string role = message.text("role").value_or("");
    if (role == "developer") role = "system";
    if ((role == "tool" && ordered.is_null()) || role == "function")
      throw RequestError(400, "unsupported_parameter", where + ".role", kNoTools);
    if (role != "system" && role != "user" && role != "assistant" && role != "tool")
      throw message.wrong("role", "system, user, assistant or tool is expected");
    if (role != "assistant" || ordered.is_null()) message.refuse("tool_calls", nullptr, kNoTools);
    query.messages.push_back({role, content_of(message, message.any("content"))});
    if (!ordered.is_null() && (role == "assistant" || role == "tool"))
      query.messages.back().more = message_fields(message, ordered["messages"][i]);
  }
  if (query.messages.back().role != "user" && query.messages.back().role != "tool")
    throw body.wrong(accrete::format("messages[{}].role", messages.size() - 1),
                     "the last message must be the user's or a tool's");
  if (query.messages.back().role == "user" &&
      query.messages.back().content.find_first_not_of(" \t\r\n") == std::string::npos)
    throw body.wrong(accrete::format("messages[{}].content", messages.size() - 1),
                     "the question is empty");
  if (!service_->can_chat())
    throw RequestError(400, "unsupported_parameter", "messages", "this model has no chat template",
                       "use /v1/completions");
  if (out.options.max_tokens == 0) throw body.wrong("max_tokens", "at least 1 is expected");
  const auto top = body.integer("top_logprobs", 0, 20);
  if (body.flag("logprobs").value_or(false)) out.top = top.value_or(0);
  if (top && out.top < 0) throw body.wrong("top_logprobs", "it needs \"logprobs\": true");
  if (body.has("tools") && !ordered.is_null()) {
    OfferedTools offered = offered_tools(body, ordered);
    query.tools = std::move(offered.json);
    out.tools = std::move(offered.names);
  } else {
    body.refuse("tools", nullptr, kNoTools);
    body.refuse("tool_choice", "none", kNoTools);
    (void)body.any("parallel_tool_calls");
  }
  for (const char* name : {"functions", "audio", "prediction"}) body.refuse(name);
  body.refuse("function_call", "none");
  body.refuse("response_format", {{"type", "text"}});
  body.refuse("modalities", {"text"});
  out.queries.push_back(std::move(query));
  also_ignored(body, out);
  generate(std::move(call), std::move(out));
}

void Api::completions(Call call) {
  Fields body = Fields::of_body(call.request.body);
  GenerateRequest out;
  out.chat = false;
  out.overlay = asked_overlay(call, body.text("model").value_or(service_->name()));
  read_options(body, out);
  Query query;
  query.overlay = out.overlay;
  query.chat = false;
  read_own(body, out, query);
  out.echo = body.flag("echo").value_or(false);
  if (out.echo) query.facts = false;  // scores are the base's
  out.top = body.integer("logprobs", 0, 20).value_or(-1);
  out.write = out.options.max_tokens > 0;
  if (!out.write) {
    if (!out.echo) throw body.wrong("max_tokens", "0 is for \"echo\": true alone");
    out.options.max_tokens = 1;
  }
  body.refuse("best_of", 1);
  body.refuse("suffix");
  if (out.stream && out.echo && out.top >= 0)
    throw RequestError(400, "unsupported_parameter", "stream", "echo with logprobs is not streamed",
                       "leave out stream");

  const auto& prompt = body.any("prompt");
  const auto ids_of = [&](const nlohmann::json& list, const std::string& where) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < list.size(); ++i) {
      if (!list[i].is_number_integer() || list[i].get<int64_t>() < 0 ||
          list[i].get<int64_t>() > INT32_MAX)
        throw body.wrong(accrete::format("{}[{}]", where, i), "a token id is expected");
      ids.push_back(list[i].get<int32_t>());
    }
    if (ids.empty()) throw body.wrong(where, "the prompt is empty");
    return ids;
  };
  const auto add_text = [&](const nlohmann::json& text, const std::string& where) {
    Query one = query;
    one.text = text.get<std::string>();
    if (one.text.empty()) throw body.wrong(where, "the prompt is empty");
    out.queries.push_back(std::move(one));
  };
  const auto add_ids = [&](const nlohmann::json& list, const std::string& where) {
    Query one = query;
    one.tokens = ids_of(list, where);
    out.queries.push_back(std::move(one));
  };
  constexpr size_t kPrompts = 1024;
  if (prompt.is_string()) {
    add_text(prompt, "prompt");
  } else if (prompt.is_array() && !prompt.empty() && prompt.size() <= (1 << 20)) {
    if (prompt.front().is_number()) {
      add_ids(prompt, "prompt");
    } else {
      if (prompt.size() > kPrompts)
        throw body.wrong("prompt", accrete::format("at most {} prompts are taken", kPrompts));
      for (size_t i = 0; i < prompt.size(); ++i) {
        const std::string where = accrete::format("prompt[{}]", i);
        if (prompt[i].is_string())
          add_text(prompt[i], where);
        else if (prompt[i].is_array())
          add_ids(prompt[i], where);
        else
          throw body.wrong(where, "a text or a list of token ids is expected");
      }
    }
  } else {
    throw body.wrong("prompt", "a text, texts, token ids or lists of them are expected");
  }
  also_ignored(body, out);
  generate(std::move(call), std::move(out));
}

}  // namespace accrete::serve
