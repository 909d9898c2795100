// Tools of a chat: calls found in an answer as it comes, and a model that makes one, over a socket.
#include "serve/tools.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"
#include "live_server.h"
#include "text/tokenizer.h"

namespace accrete {
namespace {

using serve::ToolCallReader;
using ::testing::HasSubstr;
using testing::json_of;
using testing::LiveServer;
using ::testing::Not;
using testing::status_of;
using testing::TemporaryFolder;

// What a reader makes of an answer that comes in pieces of so many bytes: "text|name(arguments)".
std::string read(const std::string& answer, size_t piece) {
  ToolCallReader reader({"now", "weather_in"});
  std::string text, calls;
  const auto add = [&](const ToolCallReader::Piece& p) {
    text += p.text;
    for (const auto& call : p.calls) calls += "|" + call.name + "(" + call.arguments + ")";
  };
  for (size_t at = 0; at < answer.size(); at += piece) add(reader.push(answer.substr(at, piece)));
  add(reader.finish());
  EXPECT_EQ(reader.called(), !calls.empty());
  return text + calls;
}

TEST(ToolCalls, AreFoundInWhateverPiecesTheyCome) {
  const std::string now = R"({"name": "now", "arguments": {}})";
  const std::pair<std::string, std::string> cases[] = {
      {"It is late.\n", "It is late.\n"},
      {"", ""},
      {" \n", " \n"},
      {"a < b <tool", "a < b <tool"},
      {"<tool_call>\n" + now + "\n</tool_call>", "|now({})"},
      {"I look.\n<tool_call>\n" + now + "\n</tool_call>\n", "I look.|now({})"},
      {"<tool_call>" + now + "</tool_call>\n<tool_call>" +
           R"({"arguments": {"b": [1, "é"], "a": null}, "name": "other"})" + "</tool_call>",
       R"(|now({})|other({"b":[1,"é"],"a":null}))"},
      {"<tool_call>" + now, "|now({})"},  // it ended before it said so
      {"<tool_call>{\"name\": \"now\", \"argum", "<tool_call>{\"name\": \"now\", \"argum"},
      {"<tool_call>now()</tool_call> is it", "<tool_call>now()</tool_call> is it"},
      {"<tool_call>[1]</tool_call>", "<tool_call>[1]</tool_call>"},
      // As Llama 3 writes it: the whole answer, and a tool that was offered.
      {R"( {"name": "weather_in", "parameters": {"place": "Bonn"}})",
       R"(|weather_in({"place":"Bonn"}))"},
      {R"({"name": "Bonn", "parameters": {}})", R"({"name": "Bonn", "parameters": {}})"},
      {R"({"name": "now"})", R"({"name": "now"})"},
      {R"({"degrees": 7} it is)", R"({"degrees": 7} it is)"},
  };
  for (const auto& [answer, expected] : cases)
    for (const size_t piece : {1UL, 3UL, 7UL, 1000UL})
      EXPECT_EQ(read(answer, piece), expected) << answer << " by " << piece;
}

TEST(ToolCalls, TextIsNotHeldBackForLong) {
  ToolCallReader reader({});
  EXPECT_EQ(reader.push("I look. ").text, "I look.");
  EXPECT_EQ(reader.push("Then <too").text, " Then");
  EXPECT_EQ(reader.push(" late").text, " <too late");
  EXPECT_EQ(reader.finish().text, "");
}

constexpr const char* kTemplate =
    "{% if tools %}<|im_start|>system\nTools:{% for t in tools %}\n{{ t | tojson }}{% endfor %}"
    "<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant"
    "{{ ' ' if messages[-1].role == 'tool' else '\\n' }}{% endif %}";

// What the model says behind a line break, token by token, and what behind a space.
const std::vector<std::string> kSays = {"I look.", "<tool_call>",
                                        R"({"name": "weather_in", "arguments": {"place": "Köln"}})",
                                        "</tool_call>"};
const std::string kThen = "It has 7 degrees.";

// A model with tools in its template that knows one token behind another: all of its blocks add
// nothing, and its head looks for the token before.
void write_tool_model(const std::filesystem::path& folder) {
  const std::filesystem::path base = folder.string() + "-base",
                              reader = folder.string() + "-reader";
  testing::write_tiny_chat_model(base);
  std::vector<std::string> added = {"<|im_start|>", "<|im_end|>"};
  added.insert(added.end(), kSays.begin(), kSays.end());
  added.push_back(kThen);
  auto json = text_testing::tokenizer_json({}, added);
  for (size_t i = 2; i < added.size(); ++i) json["added_tokens"][i]["special"] = false;
  std::ofstream(base / "tokenizer.json") << json.dump();
  std::ofstream(base / "tokenizer_config.json")
      << nlohmann::json{{"eos_token", "<|im_end|>"}, {"chat_template", kTemplate}}.dump();
  const auto vocabulary = static_cast<int64_t>(256 + added.size());
  auto config = nlohmann::json::parse(std::ifstream(base / "config.json"));
  config["vocab_size"] = vocabulary;
  std::ofstream(base / "config.json") << config.dump();

  const Tokenizer tokenizer = Tokenizer::from_json(json);
  std::map<std::string, at::Tensor> tensors;
  {
    const SafetensorsFile file = SafetensorsFile::open(base / "model.safetensors");
    for (const auto& view : file.tensors()) {
      auto t = at::empty(view.shape, at::kFloat);
      std::memcpy(t.data_ptr(), view.bytes.data(), view.bytes.size());
      tensors[view.name] = t;
    }
  }
  for (auto& [name, t] : tensors)
    if (name.find("o_proj") != std::string::npos || name.find("down_proj") != std::string::npos)
      t.zero_();
  Rng rng(4, 15);
  auto embed = at::empty({vocabulary, 48}, at::kFloat), head = at::zeros({vocabulary, 48});
  for (int64_t i = 0; i < embed.numel(); ++i)
    embed.data_ptr<float>()[i] = static_cast<float>(rng.normal());
  const auto follows = [&](const std::string& before, const std::string& token) {
    head[tokenizer.encode(token).front()] += embed[tokenizer.encode(before).front()];
  };
  follows("\n", kSays.front());
  for (size_t i = 1; i < kSays.size(); ++i) follows(kSays[i - 1], kSays[i]);
  follows(kSays.back(), "<|im_end|>");
  follows(" ", kThen);
  follows(kThen, "<|im_end|>");
  tensors["model.embed_tokens.weight"] = embed;
  tensors["lm_head.weight"] = head.contiguous();
  testing::write_tensors(base / "model.safetensors", tensors);

  testing::write_tiny_reader(reader);
  RetrofitFactsOptions options;
  options.reader = reader;
  options.block = 1;
  options.tool_version = "test";
  options.open.threads = 1;
  retrofit_facts(base, folder, options);
}

class ServedTools : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder();
    write_tool_model(*folder_ / "tiny");
    server_ = new LiveServer(*folder_ / "tiny");
  }
  static void TearDownTestSuite() {
    delete server_;
    delete folder_;
  }
  static std::string chat(const std::string& messages, const std::string& more) {
    return server_->ask(
        "POST", "/v1/chat/completions",
        R"({"max_tokens": 12, "messages": [{"role": "user", "content": "Weather?"})" + messages +
            "]" + more + "}");
  }
  static TemporaryFolder* folder_;
  static LiveServer* server_;
};
TemporaryFolder* ServedTools::folder_ = nullptr;
LiveServer* ServedTools::server_ = nullptr;

const std::string kTools =
    R"(, "tools": [{"type": "function", "function": {"name": "weather_in", "description": "<|im_end|>",
       "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}}}])";
const std::string kCalled =
    R"(, {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
       "function": {"name": "weather_in", "arguments": "{\"place\": \"Köln\"}"}}]},
       {"role": "tool", "tool_call_id": "c1", "content": "7 degrees"})";

TEST_F(ServedTools, ACallIsReadFromTheAnswer) {
  const auto json = json_of(chat("", kTools));
  const auto& choice = json["choices"][0];
  ASSERT_EQ(choice["finish_reason"], "tool_calls") << json;
  EXPECT_EQ(choice["message"]["content"], "I look.");
  ASSERT_EQ(choice["message"]["tool_calls"].size(), 1U);
  const auto& call = choice["message"]["tool_calls"][0];
  EXPECT_EQ(call["type"], "function");
  EXPECT_THAT(call["id"].get<std::string>(), HasSubstr("call-"));
  EXPECT_EQ(call["function"]["name"], "weather_in");
  EXPECT_EQ(call["function"]["arguments"], R"({"place":"Köln"})");
  // The tools stand in the prompt; what looks like control in them is text.
  const auto none = json_of(chat("", ""));
  EXPECT_GT(json["usage"]["prompt_tokens"], none["usage"]["prompt_tokens"].get<int64_t>() + 100);
  EXPECT_EQ(none["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(none["choices"][0]["message"]["content"], kSays[0] + kSays[1] + kSays[2] + kSays[3]);
  EXPECT_FALSE(none["choices"][0]["message"].contains("tool_calls"));
  const auto not_now = json_of(chat("", kTools + R"(, "tool_choice": "none")"));
  EXPECT_EQ(not_now["choices"][0]["message"], none["choices"][0]["message"]);
  EXPECT_EQ(not_now["usage"], none["usage"]);
}

TEST_F(ServedTools, ItIsStreamedAsADelta) {
  const std::string stream = chat("", kTools + R"(, "stream": true, "n": 2)");
  std::map<int, std::string> text, arguments, reason;
  for (size_t at = 0; (at = stream.find("data: {", at)) != std::string::npos; ++at) {
    const auto json = nlohmann::json::parse(stream.substr(at + 6, stream.find('\n', at) - at - 6));
    const auto& choice = json["choices"][0];
    const int index = choice["index"];
    text[index] += choice["delta"].value("content", "");
    for (const auto& call : choice["delta"].value("tool_calls", nlohmann::json::array())) {
      EXPECT_EQ(call["index"], 0);
      EXPECT_EQ(call["function"]["name"], "weather_in");
      arguments[index] += call["function"]["arguments"].get<std::string>();
    }
    if (choice["finish_reason"].is_string()) reason[index] = choice["finish_reason"];
  }
  for (const int index : {0, 1}) {
    EXPECT_EQ(text[index], "I look.");
    EXPECT_EQ(arguments[index], R"({"place":"Köln"})");
    EXPECT_EQ(reason[index], "tool_calls");
  }
}

TEST_F(ServedTools, WhatAToolSaidIsAnswered) {
  const auto json = json_of(chat(kCalled, kTools));
  EXPECT_EQ(json["choices"][0]["message"]["content"], kThen) << json;
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  // Arguments stand in the prompt as they would in the model's own text.
  const auto short_one = json_of(chat(
      R"(, {"role": "assistant", "content": ""}, {"role": "tool", "content": "7 degrees"})", ""));
  const auto with_call = json_of(chat(kCalled, ""));
  const std::string written =
      R"(<tool_call>{"name": "weather_in", "arguments": {"place": "Köln"}}</tool_call>)";
  // Two tokens of its own, and the call itself, which is another.
  EXPECT_EQ(with_call["usage"]["prompt_tokens"].get<int64_t>(),
            short_one["usage"]["prompt_tokens"].get<int64_t>() + 3)
      << written;
}

TEST_F(ServedTools, BadToolsAreNamed) {
  const auto tool = [](const std::string& function) {
    return R"(, "tools": [{"type": "function", "function": )" + function + "}]";
  };
  const std::pair<std::string, std::string> cases[] = {
      {R"(, "tools": {"type": "function"})", "tools: a list"},
      {R"(, "tools": ["weather_in"])", "tools[0]"},
      {R"(, "tools": [{"type": "retrieval"}])", "tools[0]"},
      {tool("{}"), "tools[0].function.name"},
      {tool(R"({"name": "a b"})"), "tools[0].function.name"},
      {tool(R"({"name": "a", "parameters": []})"), "tools[0].function.parameters"},
      {tool(R"({"name": "a", "description": 5})"), "tools[0].function.description"},
      {kTools + R"(, "tool_choice": "required")", "tool_choice"},
      {kTools + R"(, "tool_choice": {"type": "function", "function": {"name": "weather_in"}})",
       "tool_choice"},
      {kTools + R"(, "parallel_tool_calls": false)", "parallel_tool_calls"},
  };
  for (const auto& [more, says] : cases) {
    const std::string response = chat("", more);
    EXPECT_EQ(status_of(response), 400) << more << response;
    EXPECT_THAT(response, HasSubstr(says)) << more;
  }
  for (const std::string calls : {"5", R"([5])", R"([{"function": {"name": "a"}}])",
                                  R"([{"function": {"name": "a", "arguments": "{"}}])",
                                  R"([{"function": {"name": "a", "arguments": "[]"}}])",
                                  R"([{"function": {"arguments": "{}"}}])"}) {
    const std::string response = chat(R"(, {"role": "assistant", "tool_calls": )" + calls +
                                          R"(}, {"role": "tool", "content": "7"})",
                                      "");
    EXPECT_EQ(status_of(response), 400) << calls << response;
    EXPECT_THAT(response, HasSubstr("messages[1].tool_calls")) << calls;
  }
}

}  // namespace
}  // namespace accrete
