// An HTTP/1.1 server: one thread, many connections, streams, and limits against bad clients.
//
// Boost.Beast parses; what is written is written here. Every connection has a read outstanding
// while its request is worked on, so a client that leaves is seen at once. A reader that is too
// slow for its stream is dropped rather than waited for. Handlers run on the server's thread and
// must not block; replies may be made from any thread.
//
// Non-goals: TLS, HTTP/2, files, compression.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace accrete::serve {

struct HttpRequest {
  std::string method;
  std::string path;                                          // decoded, without the query
  std::vector<std::pair<std::string, std::string>> query;    // decoded
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;

  // The first of that name (in lower case); null: none.
  const std::string* header(std::string_view name) const;
  const std::string* parameter(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
};

// The answer to one request: one response, or a stream of pieces. All calls are safe from any
// thread; after the client is gone they do nothing.
class HttpReply {
 public:
  virtual ~HttpReply() = default;
  virtual void send(HttpResponse response) = 0;
  // Status and headers of a stream; then pieces, then end().
  virtual void begin(HttpResponse head) = 0;
  virtual void write(std::string piece) = 0;
  virtual void end() = 0;
  virtual bool gone() const = 0;
  // Calls f on the server's thread when that time has passed, unless the client is gone by then.
  virtual void after(std::chrono::milliseconds time, std::function<void()> f) = 0;
};

struct HttpLimits {
  uint32_t header_bytes = 16 << 10;
  uint64_t body_bytes = 16 << 20;
  std::chrono::milliseconds header_time{10000};  // from a request's first byte
  std::chrono::milliseconds body_time{60000};
  std::chrono::milliseconds idle_time{120000};  // between requests
  size_t unsent_bytes = 4 << 20;                // of a stream whose reader is slow
  size_t connections = 4096;
};

struct HttpHandlers {
  // Sees a request before its body is read. What it returns is sent, and the connection closed.
  std::function<std::optional<HttpResponse>(const HttpRequest&)> admit;
  std::function<void(HttpRequest, std::shared_ptr<HttpReply>)> handle;
  // The response for what is not HTTP or breaks a limit: 400, 408, 413, 431.
  std::function<HttpResponse(int status, std::string_view what)> refuse;
};

// A Unix socket, which only its owner may open unless `everybody` may.
struct UnixSocket {
  std::filesystem::path path;
  bool everybody = false;
};

class HttpServer {
 public:
  // Listens; port 0: one that is free. Throws kInvalidArgument (no such address), kIo (in use).
  HttpServer(const std::string& host, uint16_t port, HttpHandlers handlers, HttpLimits limits = {});
  // Listens on a Unix socket. One that a killed server left is replaced; the file is removed at the
  // end. Throws kInvalidArgument (too long a path), kIo (in use, or something else is there).
  HttpServer(const UnixSocket& socket, HttpHandlers handlers, HttpLimits limits = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;  // 0: of a Unix socket
  // Serves until stop(). Call it on one thread.
  void run();
  // No new connections; idle ones are closed, the others after their answer. Any thread.
  void drain();
  // Connections that are open.
  size_t connections() const;
  // Closes everything and ends run(). Any thread.
  void stop();

  struct Impl;  // of http.cc

 private:
  std::shared_ptr<Impl> impl_;
};

// "%41" and "+" undone where they may stand; nullopt: torn.
std::optional<std::string> url_decoded(std::string_view text, bool plus_is_space);

}  // namespace accrete::serve
