// A server of a tiny model on a free port of this machine, and a client that sends what it is told,
// well formed or not.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "serve/api.h"

namespace accrete::testing {

// A connection with timeouts everywhere: a test never hangs.
class Client {
 public:
  explicit Client(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      ADD_FAILURE() << "cannot connect";
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }
  void send(const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n = ::send(socket_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<size_t>(n);
    }
  }
  // Reads until `enough(text)`, the end, or so many seconds.
  template <typename F>
  std::string read_until(F enough, double seconds = 20) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (!enough(text_) && std::chrono::steady_clock::now() < end) {
      pollfd wait = {socket_, POLLIN, 0};
      if (::poll(&wait, 1, 100) <= 0) continue;
      char some[4096];
      const ssize_t n = ::recv(socket_, some, sizeof some, 0);
      if (n <= 0) {
        ended_ = true;
        break;
      }
      text_.append(some, static_cast<size_t>(n));
    }
    return text_;
  }
  bool ended() const { return ended_; }
  // The next response whole: its head and its body.
  std::string response(double seconds = 20) {
    size_t size = std::string::npos;
    read_until(
        [&](const std::string& text) {
          const size_t head = text.find("\r\n\r\n");
          if (head == std::string::npos) return false;
          const size_t at = text.find("Content-Length: ");
          if (at < head)
            size = head + 4 + std::stoul(text.substr(at + 16));
          else if (const size_t last = text.find("\r\n0\r\n\r\n", head); last != std::string::npos)
            size = last + 7;
          return size != std::string::npos && text.size() >= size;
        },
        seconds);
    std::string out = text_.substr(0, size);
    text_.erase(0, out.size());
    return out;
  }

 private:
  int socket_;
  std::string text_;
  bool ended_ = false;
};

inline int status_of(const std::string& response) {
  return response.size() > 12 ? std::atoi(response.c_str() + 9) : 0;
}
inline std::string body_of(const std::string& response) {
  const size_t head = response.find("\r\n\r\n");
  return head == std::string::npos ? "" : response.substr(head + 4);
}
inline nlohmann::json json_of(const std::string& response) {
  return nlohmann::json::parse(body_of(response), nullptr, false);
}

class LiveServer {
 public:
  explicit LiveServer(const std::filesystem::path& model, serve::ApiOptions options = {},
                      serve::HttpLimits limits = {}, size_t resident = 256) {
    api::OpenOptions open;
    open.threads = 1;
    if (options.program.empty()) options.program = "/bin/false";
    api_ = std::make_unique<serve::Api>(std::make_shared<serve::Service>(model, open, resident),
                                        options);
    server_ = std::make_unique<serve::HttpServer>("127.0.0.1", 0, api_->handlers(), limits);
    thread_ = std::thread([this] { server_->run(); });
  }
  ~LiveServer() {
    server_->stop();
    thread_.join();
    api_.reset();
  }
  uint16_t port() const { return server_->port(); }
  serve::Api& api() { return *api_; }
  serve::HttpServer& http() { return *server_; }

  static std::string request(const std::string& method, const std::string& target,
                             const std::string& body = "", const std::string& headers = "",
                             const std::string& host = "localhost") {
    std::string out = method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + headers;
    if (!body.empty() || method == "POST")
      out += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    return out + "\r\n" + body;
  }
  std::string ask(const std::string& method, const std::string& target,
                  const std::string& body = "", const std::string& headers = "") {
    Client client(port());
    client.send(request(method, target, body, headers));
    return client.response();
  }

 private:
  std::unique_ptr<serve::Api> api_;
  std::unique_ptr<serve::HttpServer> server_;
  std::thread thread_;
};

}  // namespace accrete::testing
