// Limits over a socket: slow and many clients, keys and their scopes, children that fail, the end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/un.h>

#include <fstream>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"
#include "live_server.h"

namespace accrete {
namespace {

using testing::body_of;
using testing::Client;
using ::testing::HasSubstr;
using testing::json_of;
using testing::LiveServer;
using testing::status_of;
using testing::TemporaryFolder;

TEST(ApiLimits, SlowHeadersSlowBodiesAndSlowReadersEnd) {
  TemporaryFolder folder;
  testing::write_tiny_fact_model(folder / "tiny");
  serve::HttpLimits limits;
  limits.header_time = std::chrono::milliseconds(300);
  limits.body_time = std::chrono::milliseconds(300);
  limits.idle_time = std::chrono::milliseconds(500);
  LiveServer server(folder / "tiny", {}, limits);
  Client half(server.port());
  half.send("GET /health HTT");
  EXPECT_EQ(status_of(half.response(5)), 408);
  Client body(server.port());
  body.send("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{");
  EXPECT_EQ(status_of(body.response(5)), 408);
  Client idle(server.port());
  idle.read_until([](const std::string&) { return false; }, 5);
  EXPECT_TRUE(idle.ended());
}

TEST(ApiLimits, AFullQueueSaysTryAgain) {
  TemporaryFolder folder;
  testing::write_tiny_fact_model(folder / "tiny");
  serve::ApiOptions options;
  options.engine.rows = 1;
  options.engine.queue = 1;
  LiveServer server(folder / "tiny", options);
  const std::string longest =
      R"({"prompt": "abc", "max_tokens": 2000, "stream": true, "temperature": 1, "seed": 3})";
  std::vector<std::unique_ptr<Client>> clients;
  int full = 0;
  for (int i = 0; i < 6; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->send(LiveServer::request("POST", "/v1/completions", longest));
  }
  for (const auto& client : clients) {
    const std::string head = client->read_until(
        [](const std::string& text) { return text.find("\r\n\r\n") != std::string::npos; }, 1);
    if (status_of(head) != 429) continue;
    ++full;
    EXPECT_THAT(head, HasSubstr("Retry-After: 1"));
  }
  EXPECT_GE(full, 1);
}

TEST(ApiKeys, EveryRouteAsksForAKeyWithItsScope) {
  TemporaryFolder folder;
  testing::write_tiny_fact_model(folder / "tiny");
  const auto file = folder / "keys.jsonl";
  using serve::Scope;
  const std::string asks = serve::add_key(file, "asks", {Scope::kAsk}),
                    teaches = serve::add_key(file, "teaches", {Scope::kTeach}),
                    undoes = serve::add_key(file, "undoes", {Scope::kUndo}),
                    admin = serve::add_key(file, "admin", {Scope::kAdmin});
  serve::ApiOptions options;
  options.keys = file.string();
  LiveServer server(folder / "tiny", options);
  const auto status = [&](const std::string& method, const std::string& target,
                          const std::string& key) {
    const std::string header = key.empty() ? "" : "Authorization: Bearer " + key + "\r\n";
    return status_of(server.ask(method, target, "", header));
  };
  struct Guarded {
    const char *method, *target;
    Scope scope;
  };
  const Guarded routes[] = {{"GET", "/health", Scope::kAsk},
                            {"GET", "/metrics", Scope::kAsk},
                            {"GET", "/v1/models", Scope::kAsk},
                            {"GET", "/v1/models/tiny", Scope::kAsk},
                            {"POST", "/v1/chat/completions", Scope::kAsk},
                            {"POST", "/v1/completions", Scope::kAsk},
                            {"POST", "/v1/embeddings", Scope::kAsk},
                            {"POST", "/tokenize", Scope::kAsk},
                            {"POST", "/detokenize", Scope::kAsk},
                            {"GET", "/tokenizer_info", Scope::kAsk},
                            {"POST", "/v1/memory/facts", Scope::kTeach},
                            {"POST", "/v1/memory/teach", Scope::kTeach},
                            {"POST", "/v1/memory/plan", Scope::kTeach},
                            {"GET", "/v1/memory/jobs", Scope::kTeach},
                            {"GET", "/v1/memory/jobs/job-1", Scope::kTeach},
                            {"GET", "/v1/memory/jobs/job-1/events", Scope::kTeach},
                            {"DELETE", "/v1/memory/jobs/job-1", Scope::kTeach},
                            {"GET", "/v1/memory/updates", Scope::kTeach},
                            {"GET", "/v1/memory/updates/abcd", Scope::kTeach},
                            {"POST", "/v1/memory/documents", Scope::kTeach},
                            {"POST", "/v1/memory/forget", Scope::kTeach},
                            {"POST", "/v1/memory/merge", Scope::kTeach},
                            {"GET", "/v1/memory/proposals", Scope::kTeach},
                            {"GET", "/v1/memory/proposals/p-1", Scope::kTeach},
                            {"POST", "/v1/memory/proposals/p-1", Scope::kTeach},
                            {"POST", "/v1/memory/undo", Scope::kUndo},
                            {"POST", "/v1/memory/redo", Scope::kUndo},
                            {"POST", "/v1/memory/updates/abcd/undo", Scope::kUndo},
                            {"POST", "/v1/memory/updates/abcd/revert", Scope::kUndo},
                            {"POST", "/v1/memory/updates/abcd/redo", Scope::kUndo},
                            {"GET", "/v1/overlays", Scope::kTeach},
                            {"POST", "/v1/overlays", Scope::kAdmin},
                            {"DELETE", "/v1/overlays/desk", Scope::kAdmin}};
  const std::pair<std::string, Scope> keys[] = {
      {asks, Scope::kAsk}, {teaches, Scope::kTeach}, {undoes, Scope::kUndo}};
  for (const Guarded& route : routes) {
    EXPECT_EQ(status(route.method, route.target, ""), 401) << route.target;
    EXPECT_EQ(status(route.method, route.target, "acc-0000"), 401) << route.target;
    for (const auto& [key, scope] : keys) {
      const int got = status(route.method, route.target, key);
      if (scope == route.scope) {
        EXPECT_TRUE(got != 401 && got != 403) << route.target << " " << got;
      } else {
        EXPECT_EQ(got, 403) << route.target;
      }
    }
    const int got = status(route.method, route.target, admin);
    EXPECT_TRUE(got != 401 && got != 403) << route.target << " " << got;
  }
  EXPECT_EQ(status("GET", "/v1/nothing", ""), 401);
  serve::revoke_key(file, "asks");
  EXPECT_EQ(status("GET", "/v1/models", asks), 401);
  // Before the body is read: it never comes.
  Client client(server.port());
  client.send("POST /v1/memory/facts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n");
  EXPECT_EQ(status_of(client.response(5)), 401);
}

TEST(ApiKeys, QuotasBoundWhatIsTaught) {
  TemporaryFolder folder;
  testing::write_tiny_fact_model(folder / "tiny");
  const auto file = folder / "keys.jsonl";
  using serve::Scope;
  const std::string few = serve::add_key(file, "few", {Scope::kTeach}, "", {2, 3}),
                    any = serve::add_key(file, "any", {Scope::kTeach});
  serve::ApiOptions options;
  options.keys = file.string();
  LiveServer server(folder / "tiny", options);
  const auto teach = [&](const std::string& key, int items) {
    std::string lines;
    for (int i = 0; i < items; ++i)
      lines.append(R"({"question": "What is number )")
          .append(std::to_string(i))
          .append("?\", \"answer\": \"b\"}\n");
    std::string header = "Authorization: Bearer ";
    header.append(key).append("\r\n");
    return server.ask("POST", "/v1/memory/facts", lines, header);
  };
  EXPECT_EQ(status_of(teach(few, 3)), 202);
  const std::string many = teach(few, 4);
  EXPECT_EQ(status_of(many), 429);
  EXPECT_THAT(many, HasSubstr("3 items at a time, not 4"));
  EXPECT_EQ(status_of(teach(few, 1)), 202);  // what was refused does not count
  EXPECT_THAT(teach(few, 1), HasSubstr("quota_exceeded"));
  EXPECT_EQ(status_of(server.ask("POST", "/v1/memory/merge", "x",
                                 "Authorization: Bearer " + few + "\r\n")),
            429);
  EXPECT_EQ(status_of(teach(any, 5)), 202);
}

// A program that fails takes nothing down, and the model is as it was.
TEST(ApiJobs, AChildThatFailsIsAFailedJob) {
  TemporaryFolder folder;
  testing::write_tiny_fact_model(folder / "tiny");
  const auto script = folder / "accrete";
  std::ofstream(script) << "#!/bin/sh\necho '{\"stage\": \"teach\", \"done\": 1, \"total\": 2, "
                           "\"detail\": \"\"}' >&2\nsleep 0.3\necho broken >&2\nexit 3\n";
  std::filesystem::permissions(script, std::filesystem::perms::owner_all);
  serve::ApiOptions options;
  options.program = script.string();
  LiveServer server(folder / "tiny", options);
  const std::string set =
      R"({"items": [{"question": "how much does the Zorb weigh", "answer": "b"}]})";
  const std::string header = "Idempotency-Key: one\r\n";
  const std::string first = server.ask("POST", "/v1/memory/facts", set, header);
  ASSERT_EQ(status_of(first), 202) << first;
  const std::string id = json_of(first)["job"];
  EXPECT_THAT(first, HasSubstr("Location: /v1/memory/jobs/" + id));
  EXPECT_EQ(json_of(server.ask("POST", "/v1/memory/facts", set, header))["job"], id);
  const std::string other =
      R"({"items": [{"question": "how much does the Zorb weigh", "answer": "c"}]})";
  EXPECT_EQ(status_of(server.ask("POST", "/v1/memory/facts", other, header)), 409);
  const std::string events = server.ask("GET", "/v1/memory/jobs/" + id + "/events");
  EXPECT_THAT(events, HasSubstr("event: progress"));
  EXPECT_THAT(events, HasSubstr("event: failed"));
  EXPECT_THAT(events, HasSubstr("status 3: broken"));
  EXPECT_EQ(json_of(server.ask("GET", "/v1/memory/jobs/" + id))["state"], "failed");
  const std::string waited = server.ask("POST", "/v1/memory/facts?wait=10", set);
  EXPECT_EQ(status_of(waited), 500) << waited;
  EXPECT_THAT(waited, HasSubstr("broken"));
  // A job that waits, and one that runs, can be cancelled.
  const std::string runs = json_of(server.ask("POST", "/v1/memory/facts", set))["job"];
  const std::string waits = json_of(server.ask("POST", "/v1/memory/facts", set))["job"];
  EXPECT_EQ(status_of(server.ask("DELETE", "/v1/memory/jobs/" + waits)), 202);
  EXPECT_THAT(server.ask("GET", "/v1/memory/jobs/" + waits + "/events"),
              HasSubstr("event: cancelled"));
  EXPECT_EQ(status_of(server.ask("DELETE", "/v1/memory/jobs/" + runs)), 409);
  EXPECT_THAT(server.ask("GET", "/v1/memory/jobs/" + runs + "/events"), HasSubstr("event: failed"));
}

TEST(ApiDrain, NothingNewIsBegunAndWhatRunsIsFinished) {
  TemporaryFolder folder;
  testing::write_tiny_fact_model(folder / "tiny");
  LiveServer server(folder / "tiny");
  Client client(server.port());
  client.send(LiveServer::request("POST", "/v1/completions",
                                  R"({"prompt": "abc", "max_tokens": 300, "stream": true})"));
  client.read_until(
      [](const std::string& text) { return text.find("data: ") != std::string::npos; });
  server.api().drain();
  EXPECT_EQ(status_of(server.ask("GET", "/health")), 503);
  EXPECT_EQ(status_of(server.ask("POST", "/v1/completions", R"({"prompt": "abc"})")), 503);
  EXPECT_THAT(client.response(), HasSubstr("[DONE]"));
}

int connect_to(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  ::close(fd);
  return -1;
}

TEST(UnixSocket, AnswersReplacesAStaleOneAndLeavesWhatIsInUse) {
  TemporaryFolder folder;
  const std::filesystem::path path = folder / "s.sock";
  serve::HttpHandlers handlers;
  handlers.admit = [](const serve::HttpRequest&) { return std::nullopt; };
  handlers.handle = [](serve::HttpRequest request, std::shared_ptr<serve::HttpReply> reply) {
    serve::HttpResponse response;
    response.body = request.path;
    reply->send(std::move(response));
  };
  handlers.refuse = [](int status, std::string_view) {
    serve::HttpResponse response;
    response.status = status;
    return response;
  };
  // What a killed server leaves: bound, and nobody listens.
  {
    const int left = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.string().copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(left, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ::close(left);
  }
  {
    serve::HttpServer server(serve::UnixSocket{path}, handlers);
    EXPECT_EQ(server.port(), 0);
    EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms(0600));
    std::thread io([&server] { server.run(); });
    const int fd = connect_to(path.string());
    EXPECT_GE(fd, 0);
    const std::string request =
        "GET /here HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    EXPECT_EQ(::send(fd, request.data(), request.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(request.size()));
    std::string got;
    char some[1024];
    pollfd wait = {fd, POLLIN, 0};
    while (::poll(&wait, 1, 10000) > 0) {
      const ssize_t n = ::recv(fd, some, sizeof some, 0);
      if (n <= 0) break;
      got.append(some, static_cast<size_t>(n));
    }
    ::close(fd);
    EXPECT_EQ(body_of(got), "/here");
    EXPECT_THROW(serve::HttpServer(serve::UnixSocket{path}, handlers), Error);  // in use
    EXPECT_TRUE(std::filesystem::exists(path));
    server.stop();
    io.join();
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  {
    std::ofstream(path) << "no socket";
  }
  EXPECT_THROW(serve::HttpServer(serve::UnixSocket{path}, handlers), Error);
  EXPECT_TRUE(std::filesystem::is_regular_file(path));
  EXPECT_THROW(serve::HttpServer(serve::UnixSocket{folder / std::string(200, 'a')}, handlers),
               Error);
  serve::HttpServer open(serve::UnixSocket{folder / "open.sock", true}, handlers);
  EXPECT_EQ(std::filesystem::status(folder / "open.sock").permissions(),
            std::filesystem::perms(0666));
}

}  // namespace
}  // namespace accrete
