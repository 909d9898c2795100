// The routes over a socket: answers, streams, bad input of every kind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"
#include "live_server.h"
#include "model/ask.h"

namespace accrete {
namespace {

using testing::body_of;
using testing::Client;
using ::testing::HasSubstr;
using testing::json_of;
using testing::LiveServer;
using ::testing::Not;
using testing::status_of;
using testing::TemporaryFolder;

class ApiTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder();
    testing::write_tiny_fact_model(*folder_ / "tiny");
    server_ = new LiveServer(*folder_ / "tiny");
  }
  static void TearDownTestSuite() {
    delete server_;
    delete folder_;
  }
  static std::string post(const std::string& target, const std::string& body,
                          const std::string& headers = "") {
    return server_->ask("POST", target, body, headers);
  }
  static std::string chat(const std::string& more = "") {
    return R"({"model": "tiny", "max_tokens": 12, "messages": [{"role": "user", "content": "how much does it weigh"}])" +
           more + "}";
  }

  static TemporaryFolder* folder_;
  static LiveServer* server_;
};
TemporaryFolder* ApiTest::folder_ = nullptr;
LiveServer* ApiTest::server_ = nullptr;

TEST_F(ApiTest, AnswersAreThoseOfAsk) {
  const LanguageModel model = LanguageModel::open(*folder_ / "tiny", {.threads = 1});
  AskOptions how;
  how.generate.max_tokens = 12;
  const std::vector<AskRequest> asked = {single_question(model, "how much does it weigh", false)};
  const auto expected = ask(model, asked, how).front().generation;
  const auto got = json_of(post("/v1/chat/completions", chat()));
  EXPECT_EQ(got["choices"][0]["message"]["content"], expected.text);
  EXPECT_EQ(got["choices"][0]["finish_reason"], expected.finish_reason);
  EXPECT_EQ(got["usage"]["completion_tokens"], expected.tokens.size());
  EXPECT_EQ(got["model"], "tiny");
  EXPECT_THAT(got["system_fingerprint"].get<std::string>(), HasSubstr("accrete-"));
}

TEST_F(ApiTest, StreamsAreTheSameTextInPieces) {
  const auto whole = json_of(post("/v1/chat/completions", chat()));
  const std::string stream =
      post("/v1/chat/completions",
           chat(R"(, "stream": true, "stream_options": {"include_usage": true})"));
  EXPECT_THAT(stream, HasSubstr("text/event-stream"));
  EXPECT_THAT(stream, HasSubstr("data: [DONE]"));
  std::string text, reason;
  int64_t usage = 0, first = 0;
  for (size_t at = 0; (at = stream.find("data: {", at)) != std::string::npos; ++at) {
    const auto json = nlohmann::json::parse(stream.substr(at + 6, stream.find('\n', at) - at - 6));
    if (json["choices"].empty()) {
      usage = json["usage"]["total_tokens"].get<int64_t>();
      continue;
    }
    const auto& choice = json["choices"][0];
    first += choice["delta"].contains("role");
    ASSERT_TRUE(choice.contains("finish_reason"));
    text += choice["delta"].value("content", "");
    if (choice["finish_reason"].is_string()) reason = choice["finish_reason"];
  }
  EXPECT_EQ(text, whole["choices"][0]["message"]["content"]);
  EXPECT_EQ(reason, whole["choices"][0]["finish_reason"]);
  EXPECT_EQ(usage, whole["usage"]["total_tokens"]);
  EXPECT_EQ(first, 1);
}

TEST_F(ApiTest, SeveralChoicesSeedsAndStops) {
  const std::string many = chat(R"(, "n": 3, "temperature": 1.0, "seed": 7)");
  const auto a = json_of(post("/v1/chat/completions", many));
  const auto b = json_of(post("/v1/chat/completions", many));
  ASSERT_EQ(a["choices"].size(), 3U);
  EXPECT_EQ(a["choices"], b["choices"]);
  EXPECT_NE(a["choices"][0]["message"], a["choices"][1]["message"]);
  const std::string text = json_of(
      post("/v1/completions", R"({"prompt": "abc", "max_tokens": 12})"))["choices"][0]["text"];
  ASSERT_GT(text.size(), 5U);
  const nlohmann::json stop = {{"prompt", "abc"}, {"max_tokens", 12}, {"stop", text.substr(3, 1)}};
  const auto stopped = json_of(
      post("/v1/completions", stop.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
  if (static_cast<unsigned char>(text[3]) < 0x80) {
    EXPECT_EQ(stopped["choices"][0]["text"], text.substr(0, text.find(text[3])));
  }
}

// What lm-evaluation-harness sends and reads.
TEST_F(ApiTest, PromptsAreScoredAsTheHarnessReadsThem) {
  const auto ids =
      json_of(post("/tokenize", R"({"prompt": "hello", "add_special_tokens": false})"));
  const auto json = json_of(
      post("/v1/completions", R"({"max_tokens": 1, "logprobs": 1, "echo": true, "temperature": 0,
      "seed": 1234, "prompt": [)" +
                                  ids["tokens"].dump() + ", [97, 98]]}"));
  ASSERT_EQ(json["choices"].size(), 2U) << json;
  const auto& logprobs = json["choices"][0]["logprobs"];
  const auto made = json["choices"][0]["finish_reason"] == "length" ? 1U : 0U;
  for (const char* name : {"tokens", "token_logprobs", "top_logprobs", "text_offset"})
    EXPECT_EQ(logprobs[name].size(), 5U + made) << name;
  EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
  for (size_t i = 1; i < 5; ++i) {
    const double own = logprobs["token_logprobs"][i];
    double best = -1e9;
    for (const auto& [name, value] : logprobs["top_logprobs"][i].items())
      best = std::max(best, value.get<double>());
    EXPECT_LE(own, best);
  }
  EXPECT_THAT(json["choices"][0]["text"].get<std::string>(), HasSubstr("hello"));
  // Nothing is written with max_tokens 0; alone it says the same to the bit.
  const auto none = json_of(post("/v1/completions", R"({"prompt": "hello", "max_tokens": 0,
      "logprobs": 1, "echo": true})"));
  EXPECT_EQ(none["choices"][0]["text"], "hello");
  ASSERT_EQ(none["choices"][0]["logprobs"]["token_logprobs"].size(), 5U);
  for (size_t i = 0; i < 5; ++i)
    EXPECT_EQ(none["choices"][0]["logprobs"]["token_logprobs"][i], logprobs["token_logprobs"][i]);
}

TEST_F(ApiTest, TokensVectorsModelsAndHealth) {
  const auto tokens =
      json_of(post("/tokenize", R"({"prompt": "hello", "add_special_tokens": false})"));
  EXPECT_EQ(tokens["tokens"].size(), 5U);
  EXPECT_EQ(
      json_of(post("/detokenize", nlohmann::json{{"tokens", tokens["tokens"]}}.dump()))["prompt"],
      "hello");
  const auto end = json_of(post("/tokenize", R"({"prompt": "<|im_end|>"})"));
  EXPECT_EQ(end["tokens"], nlohmann::json({257}));  // on this route it is control
  const auto info = json_of(server_->ask("GET", "/tokenizer_info"));
  EXPECT_EQ(info["eos_token"], "<|im_end|>");
  EXPECT_THAT(info["chat_template"].get<std::string>(), HasSubstr("im_start"));
  const auto vectors =
      json_of(post("/v1/embeddings", R"({"input": ["how", "much"], "model": "tiny"})"));
  ASSERT_EQ(vectors["data"].size(), 2U);
  double length = 0;
  for (const double x : vectors["data"][0]["embedding"]) length += x * x;
  EXPECT_NEAR(length, 1, 1e-4);
  EXPECT_EQ(json_of(server_->ask("GET", "/v1/models"))["data"][0]["id"], "tiny");
  EXPECT_EQ(json_of(server_->ask("GET", "/v1/models/tiny"))["id"], "tiny");
  EXPECT_EQ(json_of(server_->ask("GET", "/health"))["status"], "ok");
  const std::string metrics = server_->ask("GET", "/metrics");
  EXPECT_THAT(metrics, HasSubstr("accrete_requests_total{route=\"/v1/models\",code=\"200\"}"));
  EXPECT_THAT(metrics, HasSubstr("accrete_queue_depth"));
  EXPECT_EQ(json_of(server_->ask("GET", "/v1/memory/updates"))["data"].size(), 0U);
}

TEST_F(ApiTest, ThePageNeedsNothingFromElsewhere) {
  const std::string page = server_->ask("GET", "/");
  EXPECT_EQ(status_of(page), 200);
  EXPECT_THAT(page, HasSubstr("Content-Security-Policy: default-src 'none'"));
  EXPECT_THAT(page, HasSubstr("script-src 'sha256-"));
  EXPECT_THAT(body_of(page), Not(HasSubstr("http")));
  EXPECT_THAT(body_of(page), Not(HasSubstr("innerHTML")));
  EXPECT_THAT(page, HasSubstr("</html>"));
}

// What a message says is text, whatever it looks like.
TEST_F(ApiTest, ControlTokensInAMessageAreText) {
  const auto written = json_of(
      post("/v1/chat/completions",
           R"({"max_tokens": 4, "messages": [{"role": "user", "content": "<|im_end|>"}]})"));
  const auto plain =
      json_of(post("/v1/chat/completions",
                   R"({"max_tokens": 4, "messages": [{"role": "user", "content": "a"}]})"));
  EXPECT_EQ(written["usage"]["prompt_tokens"].get<int64_t>(),
            plain["usage"]["prompt_tokens"].get<int64_t>() + 9);
}

struct Bad {
  const char* name;
  std::string method, target, body;
  int status;
  std::string says;  // in the body
};

TEST_F(ApiTest, BadInputHasItsStatusAndNamesItsField) {
  const std::string deep = std::string(100, '[') + std::string(100, ']');
  const std::string message = R"("messages": [{"role": "user", "content": "a"}])";
  const auto with = [&](const std::string& more) { return "{" + message + ", " + more + "}"; };
  std::string many = "[";
  for (int i = 0; i < 2100; ++i) many += "97,";
  many += "97]";
  const std::vector<Bad> table = {
      {"no JSON", "POST", "/v1/chat/completions", "hello", 400, "invalid_json"},
      {"nothing", "POST", "/v1/chat/completions", "", 400, "invalid_json"},
      {"a list", "POST", "/v1/chat/completions", "[1]", 400, "no JSON object"},
      {"invalid UTF-8", "POST", "/v1/chat/completions",
       "{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\xfe\"}]}", 400, "invalid_json"},
      {"a key twice", "POST", "/v1/chat/completions", with(R"("n": 1, "n": 2)"), 400,
       "invalid_json"},
      {"deep nesting", "POST", "/v1/chat/completions", with("\"x\": " + deep), 400, "invalid_json"},
      {"NaN", "POST", "/v1/chat/completions", with(R"("temperature": NaN)"), 400, "invalid_json"},
      {"a huge number", "POST", "/v1/chat/completions", with(R"("temperature": 1e999)"), 400, ""},
      {"a text for a number", "POST", "/v1/chat/completions", with(R"("temperature": "hot")"), 400,
       "temperature: a number"},
      {"out of range", "POST", "/v1/chat/completions", with(R"("top_p": 2)"), 400,
       "top_p: a number"},
      {"below zero", "POST", "/v1/chat/completions", with(R"("max_tokens": -1)"), 400,
       "max_tokens"},
      {"no tokens", "POST", "/v1/chat/completions", with(R"("max_tokens": 0)"), 400, "max_tokens"},
      {"half a token", "POST", "/v1/chat/completions", with(R"("max_tokens": 1.5)"), 400,
       "max_tokens"},
      {"too many choices", "POST", "/v1/chat/completions", with(R"("n": 9)"), 400,
       "\"param\":\"n\""},
      {"empty stop", "POST", "/v1/chat/completions", with(R"("stop": [""])"), 400, "stop"},
      {"a stop that is none", "POST", "/v1/chat/completions", with(R"("stop": ["a", 1])"), 400,
       "stop[1]"},
      {"a flag that is none", "POST", "/v1/chat/completions", with(R"("stream": 1)"), 400,
       "stream"},
      {"another model", "POST", "/v1/chat/completions", with(R"("model": "gpt-4")"), 404,
       "model_not_found"},
      {"tools", "POST", "/v1/chat/completions", with(R"("tools": [{"type": "function"}])"), 400,
       "unsupported_parameter"},
      {"a tool's message", "POST", "/v1/chat/completions",
       R"({"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "a"}]})", 400,
       "messages[1].role"},
      {"calls of tools", "POST", "/v1/chat/completions",
       R"({"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}, {"role": "user", "content": "a"}]})",
       400, "messages[0].tool_calls"},
      {"logit bias", "POST", "/v1/chat/completions", with(R"("logit_bias": {"5": 1})"), 400,
       "unsupported_parameter"},
      {"a penalty", "POST", "/v1/chat/completions", with(R"("frequency_penalty": 0.5)"), 400,
       "unsupported_parameter"},
      {"a response format", "POST", "/v1/chat/completions",
       with(R"("response_format": {"type": "json_object"})"), 400, "unsupported_parameter"},
      {"no messages", "POST", "/v1/chat/completions", "{}", 400, "messages"},
      {"no message", "POST", "/v1/chat/completions", R"({"messages": []})", 400, "messages"},
      {"a message that is none", "POST", "/v1/chat/completions", R"({"messages": ["a"]})", 400,
       "messages[0]"},
      {"a role that is none", "POST", "/v1/chat/completions",
       R"({"messages": [{"role": "user", "content": "a"}, {"role": "owner", "content": "a"}]})",
       400, "messages[1].role"},
      {"no user", "POST", "/v1/chat/completions",
       R"({"messages": [{"role": "assistant", "content": "a"}]})", 400, "messages[0].role"},
      {"no question", "POST", "/v1/chat/completions",
       R"({"messages": [{"role": "user", "content": " "}]})", 400, "messages[0].content"},
      {"content that is none", "POST", "/v1/chat/completions",
       R"({"messages": [{"role": "user", "content": 5}]})", 400, "messages[0].content"},
      {"a picture", "POST", "/v1/chat/completions",
       R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})", 400,
       "messages[0].content[0]"},
      {"top without logprobs", "POST", "/v1/chat/completions", with(R"("top_logprobs": 3)"), 400,
       "top_logprobs"},
      {"no prompt", "POST", "/v1/completions", "{}", 400, "prompt"},
      {"an empty prompt", "POST", "/v1/completions", R"({"prompt": ""})", 400, "empty"},
      {"an empty list", "POST", "/v1/completions", R"({"prompt": []})", 400, "prompt"},
      {"an empty list in a list", "POST", "/v1/completions", R"({"prompt": [[97], []]})", 400,
       "prompt[1]"},
      {"no token", "POST", "/v1/completions", R"({"prompt": [97, "a"]})", 400, "prompt[1]"},
      {"a token below zero", "POST", "/v1/completions", R"({"prompt": [97, -5]})", 400,
       "prompt[1]"},
      {"a token of another vocabulary", "POST", "/v1/completions", R"({"prompt": [97, 100000]})",
       400, "100000"},
      {"a prompt too long", "POST", "/v1/completions", "{\"prompt\": " + many + "}", 400,
       "context_length_exceeded"},
      {"a book", "POST", "/v1/completions", "{\"prompt\": \"" + std::string(1 << 20, 'a') + "\"}",
       400, "context_length_exceeded"},
      {"nothing to write", "POST", "/v1/completions", R"({"prompt": "a", "max_tokens": 0})", 400,
       "echo"},
      {"tokens that are none", "POST", "/detokenize", R"({"tokens": "abc"})", 400, "tokens"},
      {"a token out of range", "POST", "/detokenize", R"({"tokens": [1000000]})", 400, ""},
      {"nothing to embed", "POST", "/v1/embeddings", R"({"input": []})", 400, "input"},
      {"an empty set", "POST", "/v1/memory/facts", "", 400, "empty_set"},
      {"an empty list of items", "POST", "/v1/memory/facts", R"({"items": []})", 400, "empty_set"},
      {"a bad line", "POST", "/v1/memory/facts",
       "{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \"c\"}\n", 400, ":2"},
      {"two answers to one question", "POST", "/v1/memory/facts",
       R"({"items": [{"question": "how much", "answer": "b"}, {"question": "how much", "answer": "c"}]})",
       400, "two answers"},
      {"a wait that is none", "POST", "/v1/memory/facts?wait=soon", R"({"items": []})", 400,
       "wait"},
      {"nothing to merge", "POST", "/v1/memory/merge", "", 400, "nothing to merge"},
      {"no file of facts", "POST", "/v1/memory/merge", "hello", 400, "the file"},
      {"a conflict that is none", "POST", "/v1/memory/merge?on_conflict=mine", "hello", 400,
       "on_conflict"},
      {"no proposals", "GET", "/v1/memory/proposals", "", 404, "keeps no proposals"},
      {"no proposal", "POST", "/v1/memory/proposals/p-1", "{}", 404, "keeps no proposals"},
      {"no such job", "GET", "/v1/memory/jobs/job-99", "", 404, "job-99"},
      {"no such job's events", "GET", "/v1/memory/jobs/job-99/events", "", 404, "job-99"},
      {"no such update", "GET", "/v1/memory/updates/0123456789abcdef", "", 404, "not_found"},
      {"nothing to undo", "POST", "/v1/memory/undo", "", 400, "GET /v1/memory/updates lists"},
      {"nothing to forget", "POST", "/v1/memory/forget", "{}", 400, "source"},
      {"an unknown source", "POST", "/v1/memory/forget", R"({"source": "a.md"})", 404, "a.md"},
      {"nothing to redo", "POST", "/v1/memory/redo", "", 400, "GET /v1/memory/updates lists"},
      {"an update that is none", "POST", "/v1/memory/updates/xyz/undo", "", 404,
       "GET /v1/memory/updates lists"},
      {"no such model", "GET", "/v1/models/other", "", 404, "model_not_found"},
      {"no such route", "GET", "/v1/nothing", "", 404, "unknown_route"},
      {"the wrong method", "GET", "/v1/chat/completions", "", 405, "method_not_allowed"},
      {"the wrong method too", "DELETE", "/v1/models", "", 405, "method_not_allowed"},
      {"a torn target", "GET", "/v1/%zz", "", 400, "bad_request"},
  };
  for (const Bad& bad : table) {
    const std::string response = server_->ask(bad.method, bad.target, bad.body);
    EXPECT_EQ(status_of(response), bad.status) << bad.name << "\n" << response;
    EXPECT_THAT(body_of(response), HasSubstr(bad.says)) << bad.name;
    const auto json = json_of(response);
    ASSERT_TRUE(json.is_object() && json.contains("error")) << bad.name << "\n" << response;
    for (const char* field : {"message", "type", "param", "code", "hint"})
      EXPECT_TRUE(json["error"].contains(field)) << bad.name;
    // A client has fields and routes, no command line.
    for (const char* of_the_command_line : {"--", "`accrete ", "command"})
      EXPECT_THAT(json["error"].value("hint", nlohmann::json()).dump(),
                  Not(HasSubstr(of_the_command_line)))
          << bad.name;
  }
  EXPECT_EQ(json_of(server_->ask("GET", "/v1/memory/jobs"))["data"].size(), 0U);  // nothing queued
  EXPECT_EQ(status_of(post("/v1/chat/completions", chat())), 200);
}

TEST_F(ApiTest, UnknownFieldsAreNamedAndNotRefused) {
  const std::string response =
      post("/v1/chat/completions", chat(R"(, "frobnicate": 1, "user": "desk")"));
  EXPECT_EQ(status_of(response), 200);
  EXPECT_THAT(response, HasSubstr("X-Accrete-Ignored: frobnicate\r\n"));
}

TEST_F(ApiTest, WhatIsSaidOtherwise) {
  const std::string own = R"(, "accrete": {"otherwise": "Call us. \u2603", "frob": 1})";
  const std::string response = post("/v1/chat/completions", chat(own));
  EXPECT_THAT(response, HasSubstr("X-Accrete-Ignored: accrete.frob\r\n"));
  EXPECT_EQ(json_of(response)["choices"][0]["message"]["content"], "Call us. \u2603");
  // What asks the model without what was taught asks the model.
  const std::string base = R"(, "accrete": {"otherwise": "x", "facts": false})";
  const auto plain = json_of(post("/v1/chat/completions", chat()));
  EXPECT_EQ(json_of(post("/v1/chat/completions", chat(base)))["choices"], plain["choices"]);
  serve::ApiOptions options;
  options.otherwise = "Ask at the desk.";
  LiveServer server(*folder_ / "tiny", options);
  const auto said = [&](const std::string& more) {
    return json_of(
        server.ask("POST", "/v1/chat/completions", chat(more)))["choices"][0]["message"]["content"];
  };
  EXPECT_EQ(said(""), "Ask at the desk.");
  EXPECT_EQ(said(own), "Call us. \u2603");
  EXPECT_EQ(said(R"(, "accrete": {"otherwise": ""})"), plain["choices"][0]["message"]["content"]);
}

TEST_F(ApiTest, ForeignHostsAndOriginsAreRefused) {
  const auto host = [&](const std::string& name) {
    Client client(server_->port());
    client.send(LiveServer::request("GET", "/health", "", "", name));
    return status_of(client.response());
  };
  EXPECT_EQ(host("localhost:8080"), 200);
  EXPECT_EQ(host("127.0.0.1"), 200);
  EXPECT_EQ(host("[::1]:80"), 200);
  EXPECT_EQ(host(""), 403);
  EXPECT_EQ(host("evil.example"), 403);
  EXPECT_EQ(host("localhost.evil.example"), 403);
  EXPECT_EQ(host("1.2.3.4.evil.example:80"), 403);
  Client bare(server_->port());
  bare.send("GET /health HTTP/1.0\r\n\r\n");
  EXPECT_EQ(status_of(bare.response()), 403);
  EXPECT_EQ(status_of(server_->ask("GET", "/health", "", "Origin: http://evil.example\r\n")), 403);
  EXPECT_EQ(status_of(server_->ask("GET", "/health", "", "Origin: null\r\n")), 403);
  EXPECT_EQ(status_of(server_->ask("GET", "/health", "", "Origin: http://localhost\r\n")), 200);
}

TEST_F(ApiTest, WhatIsNoHttpOrTooLargeIsRefused) {
  const auto raw = [&](const std::string& bytes) {
    Client client(server_->port());
    client.send(bytes);
    return status_of(client.response());
  };
  EXPECT_EQ(raw("hello\r\n\r\n"), 400);
  EXPECT_EQ(raw("GET / HTTP/9.9\r\n\r\n"), 400);
  EXPECT_EQ(raw("GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n"), 400);
  EXPECT_EQ(
      raw("GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(20000, 'x') + "\r\n\r\n"),
      431);
  EXPECT_EQ(raw("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"),
            413);
  for (const char* coding : {"xchunked", "gzip, chunked", "chunked, identity"})
    EXPECT_EQ(raw(std::string("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: ") +
                  coding + "\r\n\r\n0\r\n\r\n"),
              501)
        << coding;
  EXPECT_EQ(raw("GET /health HTTP/1.1\r\nHost: localhost\r\nHost: elsewhere\r\n\r\n"), 400);
  // Pieces without a length are counted too.
  std::string chunk = "100000\r\n" + std::string(0x100000, ' ') + "\r\n", chunks;
  for (int i = 0; i < 17; ++i) chunks += chunk;
  EXPECT_EQ(raw("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" +
                chunks),
            413);
}

TEST_F(ApiTest, AConnectionServesManyRequestsAndPipelines) {
  Client client(server_->port());
  for (int i = 0; i < 3; ++i) {
    client.send(LiveServer::request("GET", "/health"));
    EXPECT_EQ(status_of(client.response()), 200);
  }
  client.send(LiveServer::request("POST", "/v1/chat/completions", chat()) +
              LiveServer::request("GET", "/v1/models") + LiveServer::request("GET", "/health"));
  EXPECT_THAT(client.response(), HasSubstr("chat.completion"));
  EXPECT_THAT(client.response(), HasSubstr("\"list\""));
  EXPECT_THAT(client.response(), HasSubstr("\"ok\""));
  client.send(LiveServer::request("GET", "/health", "", "Connection: close\r\n"));
  EXPECT_EQ(status_of(client.response()), 200);
  client.read_until([](const std::string&) { return false; }, 5);
  EXPECT_TRUE(client.ended());
}

TEST_F(ApiTest, AClientThatLeavesIsTakenOut) {
  const std::string longest = R"({"prompt": "abc", "max_tokens": 2000, "stream": true})";
  {
    Client client(server_->port());
    client.send(LiveServer::request("POST", "/v1/completions", longest));
    client.read_until(
        [](const std::string& text) { return text.find("data: ") != std::string::npos; });
    EXPECT_FALSE(server_->api().idle());
  }
  for (int i = 0; i < 500 && !server_->api().idle(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(server_->api().idle());
}

TEST_F(ApiTest, ANulCharacterIsRefusedWhereItStands) {
  const auto refused = [](const std::string& target, const std::string& body) {
    const std::string got = post(target, body);
    EXPECT_EQ(status_of(got), 400) << got;
    return json_of(got)["error"]["param"].get<std::string>();
  };
  EXPECT_EQ(refused("/v1/chat/completions",
                    R"({"messages": [{"role": "user", "content": "how \u0000 much"}]})"),
            "messages[0].content");
  EXPECT_EQ(refused("/v1/completions", R"({"prompt": ["a", "b\u0000"]})"), "prompt[1]");
  EXPECT_EQ(refused("/tokenize", R"({"prompt": "\u0000"})"), "prompt");
  // A backslash and five characters are none.
  EXPECT_EQ(status_of(post("/tokenize", R"({"prompt": "\\u0000"})")), 200);
}

}  // namespace
}  // namespace accrete
