#include "serve/api.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/format.h"
#include "serve/page.h"

namespace accrete::serve {
namespace {

std::string type_of(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 409:
      return "conflict_error";
    case 422:
      return "refused_error";
    case 429:
      return "rate_limit_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

int status_of(const Error& e) {
  switch (e.code()) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kFormat:
    case ErrorCode::kUnsupported:
      return 400;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kConflict:
      return 409;
    case ErrorCode::kRefused:
      return 422;
    case ErrorCode::kInterrupted:
      return 503;
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      break;
  }
  return std::string_view(e.what()).find("No space left") != std::string_view::npos ? 507 : 500;
}

bool is_address(std::string_view host) {
  if (!host.empty() && host.front() == '[') return host.back() == ']';
  int dots = 0;
  for (const char c : host) {
    dots += c == '.';
    if (c != '.' && std::isdigit(static_cast<unsigned char>(c)) == 0) return false;
  }
  return dots == 3;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

}  // namespace

std::string dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

HttpResponse error_response(int status, const std::string& message, const std::string& type,
                            const std::string& param, const std::string& code,
                            const std::string& hint) {
  const auto or_null = [](const std::string& text) -> nlohmann::ordered_json {
    if (text.empty()) return nullptr;
    return text;
  };
  HttpResponse out;
  out.status = status;
  out.body = dump({{"error",
                    {{"message", message},
                     {"type", type.empty() ? type_of(status) : type},
                     {"param", or_null(param)},
                     {"code", or_null(code)},
                     {"hint", or_null(hint)}}}}) +
             "\n";
  if (status == 429) out.headers.emplace_back("Retry-After", "1");
  if (status == 401) out.headers.emplace_back("WWW-Authenticate", "Bearer");
  return out;
}

namespace {

// What lies below names verbs and options of the command line; a client has routes.
std::string in_routes(const std::string& hint) {
  const auto has = [&](std::string_view text) { return hint.find(text) != std::string::npos; };
  if (has("`accrete revert "))
    return "POST /v1/memory/updates/ID/redo brings back what was reverted, or undone before; GET "
           "/v1/memory/updates lists the ids";
  if (has("`accrete log`")) return "GET /v1/memory/updates lists them";
  if (has("--raw")) return "/v1/completions goes on with a text, without the chat template";
  return hint;
}

}  // namespace

HttpResponse error_response(std::exception_ptr error) {
  try {
    std::rethrow_exception(std::move(error));
  } catch (const RequestError& e) {
    return error_response(e.status(), e.what(), "", e.param(), e.code_text(), e.hint());
  } catch (const Error& e) {
    return error_response(status_of(e), e.what(), "", "", std::string(error_code_name(e.code())),
                          in_routes(e.hint()));
  } catch (const std::bad_alloc&) {
    return error_response(503, "out of memory", "", "", "out_of_memory",
                          "ask for less at a time: a shorter prompt, a smaller max_tokens or n");
  } catch (const std::exception& e) {
    // Of libtorch's the first line; what follows is of the program's inside.
    const std::string what = e.what();
    return error_response(500, what.substr(0, what.find('\n')), "", "", "internal",
                          "please report this with the request that you sent");
  }
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.rfind("127.", 0) == 0;
}

bool host_allowed(std::string_view host, const std::vector<std::string>& allowed) {
  // Without the port.
  const size_t bracket = host.rfind(']');
  const size_t colon = host.rfind(':');
  if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket))
    host = host.substr(0, colon);
  if (host.empty()) return false;
  const std::string name = lower(host);
  // Names that lead here by another's hand are how web pages reach a server of one's own; an
  // address cannot be turned.
  return name == "localhost" || is_address(name) ||
         std::any_of(allowed.begin(), allowed.end(),
                     [&](const std::string& one) { return lower(one) == name; });
}

struct Api::Route {
  const char* method;
  const char* path;  // {id} stands for one part
  std::optional<Scope> scope;
  Method handler;
};

const std::vector<Api::Route>& Api::routes() {
  static const std::vector<Route> all = {
      {"GET", "/", std::nullopt, &Api::page},
      {"GET", "/health", Scope::kAsk, &Api::health},
      {"GET", "/metrics", Scope::kAsk, &Api::metrics},
      {"GET", "/v1/models", Scope::kAsk, &Api::models},
      {"GET", "/v1/models/{id}", Scope::kAsk, &Api::model},
      {"POST", "/v1/chat/completions", Scope::kAsk, &Api::chat_completions},
      {"POST", "/v1/completions", Scope::kAsk, &Api::completions},
      {"POST", "/v1/embeddings", Scope::kAsk, &Api::embeddings},
      {"POST", "/tokenize", Scope::kAsk, &Api::tokenize},
      {"POST", "/detokenize", Scope::kAsk, &Api::detokenize},
      {"GET", "/tokenizer_info", Scope::kAsk, &Api::tokenizer_info},
      {"POST", "/v1/memory/facts", Scope::kTeach, &Api::teach},
      {"POST", "/v1/memory/teach", Scope::kTeach, &Api::teach},
      {"POST", "/v1/memory/documents", Scope::kTeach, &Api::teach},
      {"POST", "/v1/memory/forget", Scope::kTeach, &Api::forget},
      {"POST", "/v1/memory/merge", Scope::kTeach, &Api::merge},
      {"GET", "/v1/memory/proposals", Scope::kTeach, &Api::proposals},
      {"GET", "/v1/memory/proposals/{id}", Scope::kTeach, &Api::proposal},
      {"POST", "/v1/memory/proposals/{id}", Scope::kTeach, &Api::decide_proposal},
      {"POST", "/v1/memory/plan", Scope::kTeach, &Api::plan},
      {"POST", "/v1/memory/check", Scope::kTeach, &Api::check},
      {"GET", "/v1/memory/jobs", Scope::kTeach, &Api::jobs},
      {"GET", "/v1/memory/jobs/{id}", Scope::kTeach, &Api::job},
      {"DELETE", "/v1/memory/jobs/{id}", Scope::kTeach, &Api::cancel_job},
      {"GET", "/v1/memory/jobs/{id}/events", Scope::kTeach, &Api::job_events},
      {"GET", "/v1/memory/updates", Scope::kTeach, &Api::updates},
      {"GET", "/v1/memory/updates/{id}", Scope::kTeach, &Api::update},
      {"POST", "/v1/memory/undo", Scope::kUndo, &Api::undo_last},
      {"POST", "/v1/memory/redo", Scope::kUndo, &Api::redo_last},
      {"POST", "/v1/memory/updates/{id}/undo", Scope::kUndo, &Api::undo_one},
      {"POST", "/v1/memory/updates/{id}/revert", Scope::kUndo, &Api::undo_one},
      {"POST", "/v1/memory/updates/{id}/redo", Scope::kUndo, &Api::redo_one},
      {"GET", "/v1/overlays", Scope::kTeach, &Api::overlays},
      {"POST", "/v1/overlays", Scope::kAdmin, &Api::create_overlay},
      {"GET", "/v1/overlays/{id}", Scope::kTeach, &Api::overlay},
      {"GET", "/v1/overlays/{id}/export", Scope::kTeach, &Api::export_overlay},
      {"DELETE", "/v1/overlays/{id}", Scope::kAdmin, &Api::erase_overlay},
  };
  return all;
}

namespace {

// Whether a path fits a pattern; what {id} stands for.
bool fits(std::string_view pattern, std::string_view path, std::string& id) {
  const size_t at = pattern.find("{id}");
  if (at == std::string_view::npos) return pattern == path;
  const std::string_view before = pattern.substr(0, at), after = pattern.substr(at + 4);
  if (path.size() <= before.size() + after.size() || path.substr(0, at) != before ||
      path.substr(path.size() - after.size()) != after)
    return false;
  const std::string_view part = path.substr(at, path.size() - before.size() - after.size());
  if (part.find('/') != std::string_view::npos) return false;
  id = part;
  return true;
}

}  // namespace

const Api::Route* Api::find(const HttpRequest& request, std::string& id, bool& other_method) const {
  other_method = false;
  for (const Route& route : routes()) {
    if (!fits(route.path, request.path, id)) continue;
    if (request.method == route.method ||
        (request.method == "HEAD" && std::string_view(route.method) == "GET"))
      return &route;
    other_method = true;
  }
  return nullptr;
}

Api::Api(std::shared_ptr<Service> service, ApiOptions options)
    : service_(std::move(service)),
      options_(std::move(options)),
      keys_(options_.keys.empty() ? std::nullopt : std::optional<KeyRing>(options_.keys)),
      engine_(service_->network(), options_.engine),
      jobs_(
          {.program = options_.program,
           .folder = service_->folder(),
           .arguments = options_.child_arguments},
          [this](const std::string& overlay) { service_->refresh(overlay); },
          [this](JobKind kind, const JobReport& report) {
            if (kind != JobKind::kTeach) return;
            metrics_.add("accrete_teach_jobs_total", "result=\"" + report.state + "\"");
            note_end(report);
          }),
      thread_([this] { work(); }) {
  if (!options_.audit.empty()) trail_.emplace(options_.audit);
  if (!options_.proposals.empty()) proposals_.emplace(options_.proposals);
}

Api::~Api() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  jobs_.stop();
  engine_.stop();
}

void Api::drain() {
  draining_ = true;
  engine_.drain();
  jobs_.stop();
}

HttpHandlers Api::handlers() {
  HttpHandlers out;
  out.admit = [this](const HttpRequest& request) { return admit(request); };
  out.handle = [this](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    handle(std::move(request), std::move(reply));
  };
  out.refuse = [](int status, std::string_view what) {
    return error_response(status, std::string(what), "", "",
                          status == 413   ? "body_too_large"
                          : status == 431 ? "header_too_large"
                          : status == 408 ? "timeout"
                          : status >= 500 ? "internal"
                                          : "bad_request",
                          "");
  };
  return out;
}

// The key that a request came with.
std::optional<Key> Api::key_of(const HttpRequest& request) {
  const std::string* given = request.header("authorization");
  std::string_view text = given == nullptr ? std::string_view() : std::string_view(*given);
  constexpr std::string_view kBearer = "bearer ";
  if (lower(text.substr(0, kBearer.size())) == kBearer) text.remove_prefix(kBearer.size());
  return text.empty() ? std::nullopt : keys_->find(text);
}

// Who asks, from where, and whether they may: before a body is read.
std::optional<HttpResponse> Api::admit(const HttpRequest& request) {
  const auto refuse = [&](int status, const std::string& message, const char* code,
                          const std::string& hint) {
    metrics_.add("accrete_requests_total",
                 accrete::format("route=\"refused\",code=\"{}\"", status));
    return error_response(status, message, "", "", code, hint);
  };
  const std::string* host = request.header("host");
  if (host == nullptr || !host_allowed(*host, options_.allow_hosts))
    return refuse(403, "this server is not known by the name in the Host header", "foreign_host",
                  "call it by its address or as localhost; whoever runs it can allow this name "
                  "(--allow-host)");
  if (const std::string* origin = request.header("origin"))
    if (*origin != "http://" + *host && *origin != "https://" + *host)
      return refuse(403, "pages of other origins may not ask this server", "foreign_origin", "");
  std::string id;
  bool other_method = false;
  const Route* route = find(request, id, other_method);
  if (keys_ && (route == nullptr || route->scope)) {
    const bool given = request.header("authorization") != nullptr;
    const auto key = key_of(request);
    if (!key)
      return refuse(401, !given ? "a key is needed" : "this key is not known", "invalid_api_key",
                    "send it as `Authorization: Bearer KEY`");
    if (route != nullptr && !key->allows(*route->scope))
      return refuse(403,
                    accrete::format("this key may not do that: it lacks the scope {}",
                                    std::string(scope_name(*route->scope))),
                    "missing_scope",
                    accrete::format("ask whoever runs the server for a key with the scope {}",
                                    std::string(scope_name(*route->scope))));
  }
  if (route == nullptr) {
    if (other_method)
      return refuse(405, accrete::format("{} is not for this route", request.method.substr(0, 16)),
                    "method_not_allowed", "");
    return refuse(404, "there is no such route", "unknown_route", "docs/server.md lists them");
  }
  return std::nullopt;
}

void Api::handle(HttpRequest request, std::shared_ptr<HttpReply> reply) {
  Call call;
  bool other_method = false;
  const Route* route = find(request, call.id, other_method);
  const auto key = keys_ ? key_of(request) : std::nullopt;
  if (key) {
    call.key = key->name;
    call.bound = key->overlay;
    call.quotas = key->quotas;
  }
  call.any = !keys_ || (key && key->allows(Scope::kAdmin));
  call.route = route->path;
  call.request = std::move(request);
  call.reply = std::move(reply);
  const Call kept{{}, call.reply, call.key, call.bound, call.any, call.quotas, call.route, call.id};
  try {
    // It was admitted, and revoked while its body came.
    if (keys_ && route->scope && (!key || !key->allows(*route->scope)))
      throw RequestError(401, "invalid_api_key", "", "this key is not known");
    (this->*route->handler)(std::move(call));
  } catch (...) {
    fail(kept, std::current_exception());
  }
}

void Api::answer(const Call& call, HttpResponse response) {
  metrics_.add("accrete_requests_total",
               accrete::format("route=\"{}\",code=\"{}\"", call.route, response.status));
  call.reply->send(std::move(response));
}

void Api::answer(const Call& call, int status, const nlohmann::ordered_json& json,
                 std::vector<std::pair<std::string, std::string>> headers) {
  HttpResponse response;
  response.status = status;
  response.body = dump(json) + "\n";
  response.headers = std::move(headers);
  answer(call, std::move(response));
}

void Api::fail(const Call& call, std::exception_ptr error) {
  answer(call, error_response(std::move(error)));
}

void Api::aside(Call call, std::function<void(const Call&)> f) {
  const std::lock_guard lock(mutex_);
  constexpr size_t kMost = 1000;
  if (stopping_ || aside_.size() >= kMost)
    return answer(call, error_response(429, "too many requests wait", "", "", "queue_full",
                                       "try again in a moment"));
  aside_.push_back([this, call = std::move(call), f = std::move(f)] {
    try {
      f(call);
    } catch (...) {
      fail(call, std::current_exception());
    }
  });
  wake_.notify_all();
}

// What waits for files; and once a second, what others taught.
void Api::work() {
  for (;;) {
    std::function<void()> next;
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, std::chrono::seconds(1), [&] { return stopping_ || !aside_.empty(); });
      if (stopping_) return;
      if (!aside_.empty()) {
        next = std::move(aside_.front());
        aside_.pop_front();
      }
    }
    if (next) {
      next();
      continue;
    }
    try {
      (void)service_->refresh();
    } catch (const std::exception&) {  // the state of before is served; the ledger's routes say why
      metrics_.add("accrete_refresh_failures_total", "");
    }
  }
}

void Api::health(Call call) {
  const bool ready = !draining_;
  answer(call, ready ? 200 : 503,
         {{"status", ready ? "ok" : "draining"},
          {"model", service_->name()},
          {"state", service_->fingerprint("")}});
}

void Api::metrics(Call call) {
  metrics_.set("accrete_rows_running", "", static_cast<double>(engine_.running()));
  metrics_.set("accrete_overlays_resident", "", static_cast<double>(service_->resident()));
  metrics_.set("accrete_queue_depth", "", static_cast<double>(engine_.queued()));
  HttpResponse response;
  response.type = "text/plain; version=0.0.4";
  response.body = metrics_.text();
  answer(call, std::move(response));
}

namespace {

nlohmann::ordered_json model_json(const Service& service, const std::string& overlay) {
  return {{"id", service.model_name(overlay)},
          {"object", "model"},
          {"created", service.created()},
          {"owned_by", "accrete"},
          {"max_model_len", service.positions()}};
}

}  // namespace

void Api::models(Call call) {
  aside(std::move(call), [this](const Call& c) {
    auto data = nlohmann::ordered_json::array({model_json(*service_, "")});
    for (const std::string& overlay : reachable(c)) data.push_back(model_json(*service_, overlay));
    answer(c, 200, {{"object", "list"}, {"data", data}});
  });
}

void Api::model(Call call) {
  const bool whole = call.id == service_->name();
  const std::string overlay = whole ? "" : asked_overlay(call, call.id);
  aside(std::move(call), [this, overlay](const Call& c) {
    service_->open_overlay(overlay);
    answer(c, 200, model_json(*service_, overlay));
  });
}

void Api::page(Call call) {
  HttpResponse response;
  response.type = "text/html; charset=utf-8";
  response.body = std::string(page_text());
  response.headers = {{"Content-Security-Policy", page_policy()},
                      {"Referrer-Policy", "no-referrer"}};
  answer(call, std::move(response));
}

}  // namespace accrete::serve
