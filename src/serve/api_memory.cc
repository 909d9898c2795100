// What was taught: teaching, planning, checking, jobs, history.
#include <ctime>

#include "base/format.h"
#include "io/strict_json.h"
#include "serve/api.h"

namespace accrete::serve {
namespace {

// The body as lines of a teach set: as it is, or what stands under "items".
std::string lines_of(const std::string& body) {
  const size_t first = body.find_first_not_of(" \t\r\n");
  if (first == std::string::npos)
    throw RequestError(400, "empty_set", "", "there is nothing to teach",
                       "send lines of a teach set, or {\"items\": [...]}");
  nlohmann::json json;
  try {
    json = parse_json(body, "body", {.depth = 32, .values = 5000000});
  } catch (const Error&) {
    return body;  // several lines, or wrong in a way that is said with its line
  }
  if (json.is_object() && !json.contains("items")) return body;
  const nlohmann::json& items = json.is_object() ? json["items"] : json;
  if (!items.is_array() || items.empty())
    throw RequestError(400, "empty_set", "items", "items: a list of items is expected",
                       "an item is {\"questions\": [...], \"answer\": \"...\"}");
  std::string out;
  for (const auto& item : items)
    out += item.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return out;
}

double wait_of(const HttpRequest& request, double usual) {
  const std::string* text = request.parameter("wait");
  if (text == nullptr) return usual;
  char* end = nullptr;
  const double seconds = std::strtod(text->c_str(), &end);
  if (text->empty() || *end != '\0' || !(seconds >= 0 && seconds <= 3600))
    throw RequestError(400, "invalid_value", "wait", "wait: seconds from 0 to 3600 are expected");
  return seconds;
}

int64_t count_of(const HttpRequest& request) {
  if (request.body.find_first_not_of(" \t\r\n") == std::string::npos) return 1;
  Fields body = Fields::of_body(request.body);
  return body.integer("count", 1, 1 << 20).value_or(1);
}

// Names the set in the ledger.
std::string source_name(const std::string& key) {
  static std::atomic<int64_t> count{0};
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[32] = {};
  std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &utc);
  return accrete::format("{}-{}-{}.jsonl", key.empty() ? "server" : key, text, ++count);
}

nlohmann::ordered_json ids_json(const char* what, const std::vector<std::string>& ids,
                                const Service& service) {
  return {{what, ids}, {"state", service.fingerprint()}};
}

}  // namespace

void Api::teach(Call call) {
  const double wait = wait_of(call.request, 0);
  aside(std::move(call), [this, wait](const Call& c) {
    std::string lines = lines_of(c.request.body);
    const int64_t items = service_->check_set(lines, "facts.jsonl");
    start_job(c, JobKind::kTeach, std::move(lines), items, wait);
  });
}

void Api::plan(Call call) {
  const double wait = wait_of(call.request, 600);
  aside(std::move(call), [this, wait](const Call& c) {
    std::string lines = lines_of(c.request.body);
    const int64_t items = service_->check_set(lines, "facts.jsonl");
    start_job(c, JobKind::kPlan, std::move(lines), items, wait);
  });
}

void Api::check(Call call) {
  const double wait = wait_of(call.request, 600);
  start_job(std::move(call), JobKind::kCheck, "", 0, wait);
}

void Api::start_job(Call call, JobKind kind, std::string data, int64_t items, double wait) {
  call.request.body.clear();  // it would be kept as long as its client waits
  std::string idempotency;
  if (const std::string* key = call.request.header("idempotency-key"))
    idempotency = call.key + "\n" + *key;
  const auto id =
      jobs_.submit(kind, source_name(call.key), std::move(data), items, {}, idempotency);
  if (!id)
    return answer(call, draining_
                            ? error_response(503, "the server is ending", "", "", "draining", "")
                            : error_response(429, "too many jobs wait", "", "", "queue_full",
                                             "try again when some have ended"));
  const auto report = jobs_.find(*id);
  if (wait <= 0 || !report || report->ended()) {
    if (report) finish_job(call, *report, wait > 0);
    return;
  }
  // Answered once: when the job has ended, or when the client has waited long enough.
  const auto done = std::make_shared<std::atomic<bool>>(false);
  const auto finish = [this, call, id = *id, done] {
    if (done->exchange(true)) return;
    if (const auto now = jobs_.find(id)) finish_job(call, *now, true);
  };
  call.reply->after(std::chrono::milliseconds(static_cast<int64_t>(wait * 1000)), finish);
  jobs_.watch(*id, 0, [this, call, finish](const JobEvent& event) {
    if (event.name == "progress" || event.name == "probe" || event.name == "learned")
      return !call.reply->gone();
    // Not on the jobs' thread, which holds its lock.
    call.reply->after(std::chrono::milliseconds(0), finish);
    return false;
  });
}

void Api::finish_job(const Call& call, const JobReport& report, bool waited) {
  nlohmann::ordered_json json = report.json;
  json["job"] = report.id;
  const std::vector<std::pair<std::string, std::string>> where = {
      {"Location", "/v1/memory/jobs/" + report.id}};
  if (!report.ended() || (!waited && report.error.is_null()))
    return answer(call, report.ended() ? 200 : 202, json, where);
  if (report.error.is_null()) {
    json["fingerprint"] = service_->fingerprint();
    return answer(call, 200, json, where);
  }
  const std::string code = report.error.value("code", "internal");
  const int status = report.state == "refused"                           ? 422
                     : report.state == "cancelled" || code == "conflict" ? 409
                     : code == "invalid_argument" || code == "format" || code == "unsupported"
                         ? 400
                         : 500;
  HttpResponse response = error_response(status, report.error.value("message", ""), "", "", code,
                                         report.error.value("hint", ""));
  response.headers.insert(response.headers.end(), where.begin(), where.end());
  answer(call, std::move(response));
}

void Api::jobs(Call call) {
  answer(call, 200, {{"object", "list"}, {"data", jobs_.list()}});
}

void Api::job(Call call) {
  const auto report = jobs_.find(call.id);
  if (!report)
    throw RequestError(404, "not_found", "id", accrete::format("there is no job \"{}\"", call.id),
                       "GET /v1/memory/jobs lists them");
  answer(call, 200, report->json);
}

void Api::cancel_job(Call call) {
  const auto report = jobs_.find(call.id);
  if (!report)
    throw RequestError(404, "not_found", "id", accrete::format("there is no job \"{}\"", call.id),
                       "GET /v1/memory/jobs lists them");
  if (!jobs_.cancel(call.id))
    throw RequestError(409, "ended", "id", accrete::format("job {} has ended", call.id), "");
  answer(call, 202, jobs_.find(call.id)->json);
}

void Api::job_events(Call call) {
  if (!jobs_.find(call.id))
    throw RequestError(404, "not_found", "id", accrete::format("there is no job \"{}\"", call.id),
                       "GET /v1/memory/jobs lists them");
  int64_t after = 0;
  if (const std::string* last = call.request.header("last-event-id"))
    after = std::strtoll(last->c_str(), nullptr, 10);
  HttpResponse head;
  head.type = "text/event-stream; charset=utf-8";
  metrics_.add("accrete_requests_total", accrete::format("route=\"{}\",code=\"200\"", call.route));
  call.reply->begin(std::move(head));
  const auto reply = call.reply;
  jobs_.watch(call.id, after, [reply](const JobEvent& event) {
    if (reply->gone()) return false;
    reply->write(accrete::format("id: {}\nevent: {}\ndata: {}\n\n", event.number, event.name,
                                 dump(event.data)));
    const bool more = event.name == "progress" || event.name == "probe" || event.name == "learned";
    if (!more) reply->end();
    return more;
  });
  // A job that had ended before has no new event for one who has seen them all.
  if (const auto now = jobs_.find(call.id); now && now->ended()) reply->end();
}

void Api::updates(Call call) {
  aside(std::move(call), [this](const Call& c) {
    answer(c, 200,
           {{"object", "list"}, {"data", service_->updates()}, {"state", service_->fingerprint()}});
  });
}

void Api::update(Call call) {
  aside(std::move(call), [this](const Call& c) { answer(c, 200, service_->update(c.id)); });
}

void Api::undo_last(Call call) {
  const int64_t count = count_of(call.request);
  aside(std::move(call), [this, count](const Call& c) {
    answer(c, 200, ids_json("undone", service_->undo(count), *service_));
  });
}

void Api::redo_last(Call call) {
  const int64_t count = count_of(call.request);
  aside(std::move(call), [this, count](const Call& c) {
    answer(c, 200, ids_json("redone", service_->redo(count), *service_));
  });
}

void Api::forget(Call call) {
  aside(std::move(call), [this](const Call& c) {
    Fields body = Fields::of_body(c.request.body);
    const auto source = body.text("source");
    if (!source || source->empty())
      throw RequestError(400, "missing_field", "source",
                         "source: the path or address of a document that was taught is expected");
    nlohmann::ordered_json json = service_->forget(*source);
    json["state"] = service_->fingerprint();
    answer(c, 200, json);
  });
}

void Api::undo_one(Call call) {
  aside(std::move(call), [this](const Call& c) {
    service_->set_active(c.id, false);
    answer(c, 200, service_->update(c.id));
  });
}

void Api::redo_one(Call call) {
  aside(std::move(call), [this](const Call& c) {
    service_->set_active(c.id, true);
    answer(c, 200, service_->update(c.id));
  });
}

}  // namespace accrete::serve
