#include "serve/http.h"

#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cctype>
#include <cerrno>
#include <deque>
#include <set>

#include "base/error.h"
#include "base/format.h"

namespace accrete::serve {
namespace asio = boost::asio;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using local = asio::local::stream_protocol;
using Socket = asio::generic::stream_protocol::socket;  // of either
using boost::beast::error_code;

const std::string* HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key == name) return &value;
  return nullptr;
}

const std::string* HttpRequest::parameter(std::string_view name) const {
  for (const auto& [key, value] : query)
    if (key == name) return &value;
  return nullptr;
}

std::optional<std::string> url_decoded(std::string_view text, bool plus_is_space) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = digit(text[i + 1]), low = digit(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += text[i] == '+' && plus_is_space ? ' ' : text[i];
    }
  }
  return out;
}

namespace {

// Path and query of a request's target; false: torn.
bool split_target(std::string_view target, HttpRequest& out) {
  const size_t mark = target.find('?');
  const auto path = url_decoded(target.substr(0, mark), false);
  if (!path || path->empty() || path->front() != '/') return false;
  out.path = *path;
  if (mark == std::string_view::npos) return true;
  std::string_view rest = target.substr(mark + 1);
  while (!rest.empty()) {
    const std::string_view one = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    const size_t equals = one.find('=');
    const auto key = url_decoded(one.substr(0, equals), true);
    const auto value = equals == std::string_view::npos ? std::optional<std::string>("")
                                                        : url_decoded(one.substr(equals + 1), true);
    if (!key || !value) return false;
    out.query.emplace_back(*key, *value);
  }
  return true;
}

std::string head_of(const HttpResponse& response, bool keep_alive, bool chunked,
                    std::optional<size_t> length) {
  std::string out = accrete::format(
      "HTTP/1.1 {} {}\r\n", response.status,
      std::string(http::obsolete_reason(static_cast<http::status>(response.status))));
  if (!response.type.empty()) out += "Content-Type: " + response.type + "\r\n";
  if (length) out += accrete::format("Content-Length: {}\r\n", *length);
  if (chunked) out += "Transfer-Encoding: chunked\r\n";
  for (const auto& [name, value] : response.headers) out += name + ": " + value + "\r\n";
  out += "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n";
  out += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return out;
}

}  // namespace

class Connection;

struct HttpServer::Impl : std::enable_shared_from_this<HttpServer::Impl> {
  Impl(HttpHandlers h, HttpLimits l) : handlers(std::move(h)), limits(l) {}
  template <typename Acceptor>
  void accept(Acceptor& from);
  void close_acceptors() {
    error_code ignored;
    acceptor.close(ignored);
    local_acceptor.close(ignored);
  }

  asio::io_context io{1};
  // One of them is open.
  tcp::acceptor acceptor{io};
  local::acceptor local_acceptor{io};
  std::filesystem::path socket_file;
  HttpHandlers handlers;
  HttpLimits limits;
  std::set<std::shared_ptr<Connection>> open;
  std::atomic<size_t> count{0};
  std::atomic<bool> draining{false};
};

// All of it runs on the server's thread.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Socket socket, std::shared_ptr<HttpServer::Impl> server)
      : socket_(std::move(socket)),
        server_(std::move(server)),
        deadline_(server_->io),
        buffer_(server_->limits.header_bytes + (64 << 10)) {}

  void read() {
    if (closed_) return;
    state_ = State::kReading;
    parser_.emplace();
    parser_->header_limit(server_->limits.header_bytes);
    parser_->body_limit(server_->limits.body_bytes);
    // An idle client may wait; one that has begun may not take long.
    if (buffer_.size() > 0) return read_header();
    state_ = State::kIdle;
    if (server_->draining) return close();
    expire(server_->limits.idle_time, 0);
    socket_.async_read_some(buffer_.prepare(4096),
                            [self = shared_from_this()](error_code ec, size_t n) {
                              if (ec) return self->close();
                              self->buffer_.commit(n);
                              self->read_header();
                            });
  }

  // Of the reply with that number; what comes late for an earlier one is dropped.
  void send(uint64_t reply, HttpResponse response) {
    if (reply != reply_ || closed_ || state_ != State::kWorking || begun_) return;
    const bool keep = keep_alive_ && !server_->draining;
    std::string out = head_of(response, keep, false, response.body.size());
    if (!head_only_) out += response.body;
    keep_alive_ = keep;
    push(std::move(out));
    finish();
  }
  void begin(uint64_t reply, const HttpResponse& head) {
    if (reply != reply_ || closed_ || state_ != State::kWorking || begun_) return;
    begun_ = true;
    chunked_ = version_ >= 11;
    keep_alive_ = keep_alive_ && chunked_ && !server_->draining;
    push(head_of(head, keep_alive_, chunked_, std::nullopt));
  }
  void write(uint64_t reply, const std::string& piece) {
    if (reply != reply_ || closed_ || !begun_ || piece.empty() || head_only_) return;
    push(chunked_ ? accrete::format("{:x}\r\n", piece.size()) + piece + "\r\n" : piece);
  }
  void end(uint64_t reply) {
    if (reply != reply_ || closed_ || !begun_) return;
    if (chunked_ && !head_only_) push("0\r\n\r\n");
    finish();
  }
  // A stream that nobody will end: its client sees that it is torn.
  void abort(uint64_t reply) {
    if (reply == reply_ && begun_) close();
  }
  void drain() {
    if (state_ == State::kIdle) close();
  }

  void close() {
    if (closed_) return;
    closed_ = true;
    if (gone_) *gone_ = true;
    deadline_.cancel();
    error_code ignored;
    socket_.shutdown(asio::socket_base::shutdown_both, ignored);
    socket_.close(ignored);
    server_->open.erase(shared_from_this());
    server_->count = server_->open.size();
  }

 private:
  enum class State { kIdle, kReading, kWorking };
  class Reply;

  void expire(std::chrono::milliseconds time, int status) {
    deadline_.expires_after(time);
    deadline_.async_wait([weak = weak_from_this(), status](error_code ec) {
      const auto self = weak.lock();
      if (ec || !self) return;
      if (status == 0) return self->close();
      self->refuse(status, "the request was not sent in time");
    });
  }

  void read_header() {
    state_ = State::kReading;
    expire(server_->limits.header_time, 408);
    http::async_read_header(
        socket_, buffer_, *parser_,
        [self = shared_from_this()](error_code ec, size_t) { self->on_header(ec); });
  }

  void on_header(error_code ec) {
    if (closed_ || state_ != State::kReading) return;
    if (ec == http::error::end_of_stream || ec == asio::error::operation_aborted ||
        ec == asio::error::connection_reset || ec == http::error::partial_message)
      return close();
    if (ec == http::error::header_limit || ec == http::error::buffer_overflow)
      return refuse(431, "the request's header is too large");
    if (ec == http::error::body_limit) return refuse(413, "the request's body is too large");
    if (ec) return refuse(400, "this is no HTTP request: " + ec.message());
    const auto& message = parser_->get();
    request_ = HttpRequest();
    request_.method = std::string(message.method_string());
    version_ = message.version();
    keep_alive_ = message.keep_alive();
    head_only_ = request_.method == "HEAD";
    // Whoever stands in front may read such a request otherwise than we do.
    const auto coding = message.equal_range(http::field::transfer_encoding);
    for (auto it = coding.first; it != coding.second; ++it)
      if (!boost::beast::iequals(it->value(), "chunked") || std::next(it) != coding.second)
        return refuse(501, "of transfer encodings \"chunked\" alone is known");
    if (message.count(http::field::host) > 1) return refuse(400, "there is more than one Host");
    for (const auto& field : message) {
      std::string name(field.name_string());
      std::transform(name.begin(), name.end(), name.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      request_.headers.emplace_back(std::move(name), std::string(field.value()));
    }
    const auto target = message.target();
    if (!split_target({target.data(), target.size()}, request_))
      return refuse(400, "the request's target is no path");
    if (auto refusal = server_->handlers.admit(request_)) return give_up(std::move(*refusal));
    const auto length = parser_->content_length();
    if (length && *length > server_->limits.body_bytes)
      return refuse(413, "the request's body is too large");
    expire(server_->limits.body_time, 408);
    const std::string* expect = request_.header("expect");
    if (expect != nullptr && boost::beast::iequals(*expect, "100-continue") && version_ >= 11) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      return asio::async_write(socket_, asio::buffer(kContinue),
                               [self = shared_from_this()](error_code failed, size_t) {
                                 if (failed) return self->close();
                                 self->read_body();
                               });
    }
    read_body();
  }

  void read_body() {
    http::async_read(socket_, buffer_, *parser_,
                     [self = shared_from_this()](error_code ec, size_t) { self->on_body(ec); });
  }

  void on_body(error_code ec) {
    if (closed_ || state_ != State::kReading) return;
    if (ec == http::error::body_limit) return refuse(413, "the request's body is too large");
    if (ec == asio::error::operation_aborted || ec == asio::error::connection_reset ||
        ec == http::error::partial_message || ec == http::error::end_of_stream)
      return close();
    if (ec) return refuse(400, "this is no HTTP request: " + ec.message());
    deadline_.cancel();
    request_.body = std::move(parser_->get().body());
    work();
  }

  void work();

  // While a request is worked on a read is outstanding: it tells when the client leaves.
  void watch() {
    if (closed_ || watching_ || buffer_.size() >= (64 << 10)) return;
    watching_ = true;
    socket_.async_read_some(buffer_.prepare(4096),
                            [self = shared_from_this()](error_code ec, size_t n) {
                              self->watching_ = false;
                              // Called off by next(), whose request is there already.
                              const bool on = ec == asio::error::operation_aborted &&
                                              self->state_ == State::kIdle && !self->closed_;
                              if (on) return self->read_header();
                              if (ec) return self->close();
                              self->buffer_.commit(n);
                              if (self->state_ == State::kWorking) return self->watch();
                              self->read_header();
                            });
  }

  // A response to a request that is not worked on; the rest of it is not read.
  void give_up(HttpResponse response) {
    keep_alive_ = false;
    state_ = State::kWorking;
    begun_ = false;
    if (gone_) *gone_ = true;
    gone_ = std::make_shared<std::atomic<bool>>(false);
    ++reply_;
    expire(std::chrono::seconds(5), 0);
    send(reply_, std::move(response));
  }
  void refuse(int status, const std::string& what) {
    if (closed_ || state_ == State::kWorking) return close();
    give_up(server_->handlers.refuse(status, what));
  }

  void push(std::string bytes) {
    unsent_ += bytes.size();
    queue_.push_back(std::move(bytes));
    if (begun_ && unsent_ > server_->limits.unsent_bytes) return close();
    if (!writing_) flush();
  }
  void flush() {
    writing_ = true;
    asio::async_write(socket_, asio::buffer(queue_.front()),
                      [self = shared_from_this()](error_code ec, size_t) {
                        if (self->closed_) return;
                        if (ec) return self->close();
                        self->unsent_ -= self->queue_.front().size();
                        self->queue_.pop_front();
                        if (!self->queue_.empty()) return self->flush();
                        self->writing_ = false;
                        if (self->finished_) self->next();
                      });
  }
  void finish() {
    finished_ = true;
    ++reply_;  // what still comes for it is dropped
    if (!writing_) next();
  }
  void next() {
    finished_ = begun_ = false;
    if (!keep_alive_) {
      // The client reads what was sent before it sees the end.
      error_code ignored;
      socket_.shutdown(asio::socket_base::shutdown_send, ignored);
      return linger();
    }
    if (watching_) {  // its end begins the next request
      state_ = State::kIdle;
      if (server_->draining) return close();
      parser_.emplace();
      parser_->header_limit(server_->limits.header_bytes);
      parser_->body_limit(server_->limits.body_bytes);
      expire(server_->limits.idle_time, 0);
      error_code ignored;
      if (buffer_.size() > 0) socket_.cancel(ignored);
      return;
    }
    read();
  }
  // Reads what a client that was refused still sends, for a moment: closing at once would take the
  // response from it.
  void linger() {
    if (closed_) return;
    expire(std::chrono::seconds(2), 0);
    if (!watching_) drop();
    state_ = State::kWorking;
  }
  void drop() {
    socket_.async_read_some(asio::buffer(waste_),
                            [self = shared_from_this()](error_code ec, size_t) {
                              if (ec) return self->close();
                              self->drop();
                            });
  }

  Socket socket_;
  std::shared_ptr<HttpServer::Impl> server_;
  asio::steady_timer deadline_;
  boost::beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  HttpRequest request_;
  State state_ = State::kReading;
  std::shared_ptr<std::atomic<bool>> gone_;
  uint64_t reply_ = 0;
  unsigned version_ = 11;
  bool keep_alive_ = true, head_only_ = false, begun_ = false, chunked_ = false, finished_ = false;
  bool watching_ = false, writing_ = false, closed_ = false;
  std::deque<std::string> queue_;
  size_t unsent_ = 0;
  std::array<char, 4096> waste_{};
};

class Connection::Reply : public HttpReply {
 public:
  Reply(std::weak_ptr<Connection> connection, std::shared_ptr<HttpServer::Impl> server,
        uint64_t number, std::shared_ptr<std::atomic<bool>> gone)
      : connection_(std::move(connection)),
        server_(std::move(server)),
        number_(number),
        gone_(std::move(gone)) {}
  // A reply that nobody made would keep its client waiting.
  ~Reply() override {
    if (answered_) return;
    if (begun_)
      post([](Connection& c, uint64_t n) { c.abort(n); });
    else
      send(server_->handlers.refuse(500, "the request was dropped"));
  }

  void send(HttpResponse response) override {
    answered_ = true;
    post([response = std::move(response)](Connection& c, uint64_t n) mutable {
      c.send(n, std::move(response));
    });
  }
  void begin(HttpResponse head) override {
    begun_ = true;
    post([head = std::move(head)](Connection& c, uint64_t n) { c.begin(n, head); });
  }
  void write(std::string piece) override {
    post([piece = std::move(piece)](Connection& c, uint64_t n) { c.write(n, piece); });
  }
  void end() override {
    answered_ = true;
    post([](Connection& c, uint64_t n) { c.end(n); });
  }
  bool gone() const override { return *gone_; }
  void after(std::chrono::milliseconds time, std::function<void()> f) override {
    if (*gone_) return;
    asio::post(server_->io,
               [weak = std::weak_ptr(server_), gone = gone_, time, f = std::move(f)]() mutable {
                 const auto server = weak.lock();
                 if (!server) return;
                 auto timer = std::make_shared<asio::steady_timer>(server->io, time);
                 timer->async_wait([timer, gone, f = std::move(f)](error_code ec) {
                   if (!ec && !*gone) f();
                 });
               });
  }

 private:
  template <typename F>
  void post(F f) {
    if (*gone_) return;
    asio::post(server_->io, [weak = connection_, n = number_, f = std::move(f)]() mutable {
      if (const auto connection = weak.lock()) f(*connection, n);
    });
  }

  std::weak_ptr<Connection> connection_;
  std::shared_ptr<HttpServer::Impl> server_;
  uint64_t number_;
  std::shared_ptr<std::atomic<bool>> gone_;
  std::atomic<bool> begun_{false}, answered_{false};
};

void Connection::work() {
  state_ = State::kWorking;
  begun_ = false;
  gone_ = std::make_shared<std::atomic<bool>>(false);
  ++reply_;
  watch();
  server_->handlers.handle(std::move(request_),
                           std::make_shared<Reply>(weak_from_this(), server_, reply_, gone_));
}

template <typename Acceptor>
void HttpServer::Impl::accept(Acceptor& from) {
  const auto socket = std::make_shared<Socket>(io);
  from.async_accept(*socket, [self = shared_from_this(), socket, &from](error_code ec) {
    if (ec == asio::error::operation_aborted || !from.is_open()) return;
    if (!ec && self->open.size() < self->limits.connections && !self->draining) {
      error_code ignored;
      socket->set_option(tcp::no_delay(true), ignored);
      const auto connection = std::make_shared<Connection>(std::move(*socket), self);
      self->open.insert(connection);
      self->count = self->open.size();
      connection->read();
    }
    if (!ec) return self->accept(from);
    // No descriptor is left, for example: a moment later there may be one.
    auto timer = std::make_shared<asio::steady_timer>(self->io, std::chrono::milliseconds(50));
    timer->async_wait([self, timer, &from](error_code) { self->accept(from); });
  });
}

HttpServer::HttpServer(const std::string& host, uint16_t port, HttpHandlers handlers,
                       HttpLimits limits)
    : impl_(std::make_shared<Impl>(std::move(handlers), limits)) {
  error_code ec;
  const auto address = asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, ec);
  if (ec)
    throw Error(ErrorCode::kInvalidArgument, accrete::format("\"{}\" is no address", host),
                "give --host an address of this machine, such as 127.0.0.1");
  const tcp::endpoint endpoint(address, port);
  impl_->acceptor.open(endpoint.protocol(), ec);
  if (!ec) impl_->acceptor.set_option(asio::socket_base::reuse_address(true), ec);
  if (!ec) impl_->acceptor.bind(endpoint, ec);
  if (!ec) impl_->acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (ec)
    throw Error(ErrorCode::kIo,
                accrete::format("cannot listen on {}:{}: {}", host, port, ec.message()),
                "choose another --port; 0 takes a free one");
  impl_->accept(impl_->acceptor);
}

HttpServer::HttpServer(const UnixSocket& socket, HttpHandlers handlers, HttpLimits limits)
    : impl_(std::make_shared<Impl>(std::move(handlers), limits)) {
  constexpr size_t kLongestPath = sizeof(sockaddr_un::sun_path) - 1;
  const std::string path = socket.path.string();
  if (path.empty() || path.size() > kLongestPath)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("\"{}\" is no path of a socket: 1 to {} bytes", path, kLongestPath),
                "give --unix a shorter path");
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorCode::kIo, accrete::format("cannot listen on {}: {}", path, why),
                "choose another --unix, in a folder that can be written to");
  };
  // A server that was killed leaves its socket. Nothing but a socket that nobody serves is taken
  // away.
  error_code ec;
  std::error_code absent;
  const auto there = std::filesystem::symlink_status(socket.path, absent).type();
  if (there == std::filesystem::file_type::socket) {
    local::socket probe(impl_->io);
    probe.connect(local::endpoint(path), ec);
    if (!ec) fail("another server listens there");
    if (ec == asio::error::connection_refused) std::filesystem::remove(socket.path, absent);
    ec = {};
  }
  impl_->local_acceptor.open(local(), ec);
  if (!ec) impl_->local_acceptor.bind(local::endpoint(path), ec);
  // Nobody can connect before it listens, so the mode is set in time.
  if (!ec) {
    impl_->socket_file = socket.path;
    if (::chmod(path.c_str(), socket.everybody ? 0666 : 0600) != 0)
      ec.assign(errno, boost::system::system_category());
  }
  if (!ec) impl_->local_acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (ec) {
    std::filesystem::remove(impl_->socket_file, absent);
    fail(ec.message());
  }
  impl_->accept(impl_->local_acceptor);
}

HttpServer::~HttpServer() {
  for (const auto& connection : std::set(impl_->open)) connection->close();
  impl_->close_acceptors();
  std::error_code ignored;
  if (!impl_->socket_file.empty()) std::filesystem::remove(impl_->socket_file, ignored);
  // What was cut short and still holds the server.
  impl_->io.restart();
  impl_->io.poll();
}

uint16_t HttpServer::port() const {
  return impl_->acceptor.is_open() ? impl_->acceptor.local_endpoint().port() : uint16_t{0};
}

void HttpServer::run() {
  const auto guard = asio::make_work_guard(impl_->io);
  impl_->io.run();
}

size_t HttpServer::connections() const {
  return impl_->count;
}

void HttpServer::drain() {
  impl_->draining = true;
  asio::post(impl_->io, [impl = impl_] {
    impl->close_acceptors();
    for (const auto& connection : std::set(impl->open)) connection->drain();
  });
}

void HttpServer::stop() {
  asio::post(impl_->io, [impl = impl_] {
    impl->close_acceptors();
    for (const auto& connection : std::set(impl->open)) connection->close();
    impl->io.stop();
  });
}

}  // namespace accrete::serve
