// What was taught: teaching, planning, checking, jobs, history.
#include "base/format.h"
#include "base/sha256.h"
#include "base/utc.h"
#include "io/strict_json.h"
#include "serve/api.h"

namespace accrete::serve {
namespace {

// A teach set as lines: the body as it is, or what stands under "items", and the overlay named
// there.
struct Lines {
  std::string text;
  std::optional<std::string> overlay;
};
Lines lines_of(const std::string& body) {
  const size_t first = body.find_first_not_of(" \t\r\n");
  if (first == std::string::npos)
    throw RequestError(400, "empty_set", "", "there is nothing to teach",
                       "send lines of a teach set, or {\"items\": [...]}");
  nlohmann::json json;
  try {
    json = parse_json(body, "body", {.depth = 32, .values = 5000000});
  } catch (const Error&) {
    return {body, {}};  // several lines, or wrong in a way that is said with its line
  }
  if (json.is_object() && !json.contains("items")) return {body, {}};
  const nlohmann::json& items = json.is_object() ? json["items"] : json;
  if (!items.is_array() || items.empty())
    throw RequestError(400, "empty_set", "items", "items: a list of items is expected",
                       "an item is {\"questions\": [...], \"answer\": \"...\"}");
  Lines out;
  if (json.is_object() && json.contains("overlay")) {
    if (!json["overlay"].is_string())
      throw RequestError(400, "invalid_type", "overlay", "overlay: a text is expected");
    out.overlay = json["overlay"].get<std::string>();
  }
  for (const auto& item : items)
    out.text += item.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return out;
}

// What undo and redo say: how many, and whose.
struct Steps {
  int64_t count = 1;
  std::optional<std::string> overlay;
};
Steps steps_of(const HttpRequest& request) {
  if (request.body.find_first_not_of(" \t\r\n") == std::string::npos) return {};
  Fields body = Fields::of_body(request.body);
  return {body.integer("count", 1, 1 << 20).value_or(1), body.text("overlay")};
}

// Of a body that may be empty.
std::optional<std::string> overlay_in(const HttpRequest& request) {
  return steps_of(request).overlay;
}

// Names the set in the ledger.
std::string source_name(const std::string& key) {
  static std::atomic<int64_t> count{0};
  return accrete::format("{}-{}-{}.jsonl", key.empty() ? "server" : key, utc_now("%Y%m%dT%H%M%SZ"),
                         ++count);
}

nlohmann::ordered_json ids_json(const char* what, const nlohmann::ordered_json& ids,
                                const Service& service, const std::string& overlay) {
  return {{what, ids}, {"state", service.fingerprint(overlay)}};
}

}  // namespace

double wait_of(const HttpRequest& request, double usual) {
  const std::string* text = request.parameter("wait");
  if (text == nullptr) return usual;
  char* end = nullptr;
  const double seconds = std::strtod(text->c_str(), &end);
  if (text->empty() || *end != '\0' || !(seconds >= 0 && seconds <= 3600))
    throw RequestError(400, "invalid_value", "wait", "wait: seconds from 0 to 3600 are expected");
  return seconds;
}

void Api::teach(Call call) {
  const double wait = wait_of(call.request, 0);
  aside(std::move(call), [this, wait](const Call& c) {
    Lines lines = lines_of(c.request.body);
    const std::string overlay = overlay_of(c, lines.overlay);
    if (!overlay.empty()) (void)service_->fingerprint(overlay);  // it is there
    const int64_t items = service_->check_set(lines.text, "facts.jsonl");
    start_job(c, JobKind::kTeach, overlay, std::move(lines.text), items, wait);
  });
}

void Api::plan(Call call) {
  const double wait = wait_of(call.request, 600);
  aside(std::move(call), [this, wait](const Call& c) {
    Lines lines = lines_of(c.request.body);
    const std::string overlay = overlay_of(c, lines.overlay);
    if (!overlay.empty()) (void)service_->fingerprint(overlay);  // it is there
    const int64_t items = service_->check_set(lines.text, "facts.jsonl");
    start_job(c, JobKind::kPlan, overlay, std::move(lines.text), items, wait);
  });
}

void Api::check(Call call) {
  const double wait = wait_of(call.request, 600);
  const std::string overlay = overlay_of(call, overlay_in(call.request));
  start_job(std::move(call), JobKind::kCheck, overlay, "", 0, wait);
}

void Api::start_job(Call call, JobKind kind, const std::string& overlay, std::string data,
                    int64_t items, double wait,
                    const std::function<void(const std::string& job)>& started) {
  if (kind == JobKind::kTeach) quotas_.take(call.key, call.quotas, items);
  call.request.body.clear();  // it would be kept as long as its client waits
  std::string idempotency;
  if (const std::string* key = call.request.header("idempotency-key"))
    idempotency = call.key + "\n" + *key;
  JobRequest request{kind,  call.key,   overlay, source_name(call.key), std::move(data),
                     items, idempotency};
  if (kind == JobKind::kTeach)
    note(call, overlay, "teach",
         {{"state", "asked"},
          {"source", request.source},
          {"sha256", sha256_hex(request.data)},
          {"items", items}});
  const auto id = jobs_.submit(std::move(request), started);
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
    try {
      json["fingerprint"] = service_->fingerprint(report.overlay);
    } catch (const Error&) {  // it was erased meanwhile
    }
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
  std::optional<std::string> overlay = overlay_of(call);
  if (call.any && call.request.parameter("overlay") == nullptr) overlay.reset();  // all
  answer(call, 200, {{"object", "list"}, {"data", jobs_.list(overlay)}});
}

// A job of what the key does not reach is not there for it.
JobReport Api::job_of(const Call& call) const {
  if (auto report = jobs_.find(call.id); report && may_reach(call, report->overlay)) return *report;
  throw RequestError(404, "not_found", "id", accrete::format("there is no job \"{}\"", call.id),
                     "GET /v1/memory/jobs lists them");
}

void Api::job(Call call) {
  answer(call, 200, job_of(call).json);
}

void Api::cancel_job(Call call) {
  const JobReport report = job_of(call);
  note(call, report.overlay, "cancel", {{"state", "asked"}, {"job", call.id}});
  if (!jobs_.cancel(call.id))
    throw RequestError(409, "ended", "id", accrete::format("job {} has ended", call.id), "");
  answer(call, 202, jobs_.find(call.id)->json);
}

void Api::job_events(Call call) {
  (void)job_of(call);
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
    const std::string overlay = overlay_of(c);
    answer(c, 200,
           {{"object", "list"},
            {"data", service_->updates(overlay)},
            {"state", service_->fingerprint(overlay)}});
  });
}

void Api::update(Call call) {
  aside(std::move(call),
        [this](const Call& c) { answer(c, 200, service_->update(overlay_of(c), c.id)); });
}

void Api::undo_last(Call call) {
  const Steps steps = steps_of(call.request);
  const std::string overlay = overlay_of(call, steps.overlay);
  aside(std::move(call), [this, steps, overlay](const Call& c) {
    const auto ids = noted(c, overlay, "undo", {{"count", steps.count}},
                           [&] { return service_->undo(overlay, steps.count); });
    answer(c, 200, ids_json("undone", ids, *service_, overlay));
  });
}

void Api::redo_last(Call call) {
  const Steps steps = steps_of(call.request);
  const std::string overlay = overlay_of(call, steps.overlay);
  aside(std::move(call), [this, steps, overlay](const Call& c) {
    const auto ids = noted(c, overlay, "redo", {{"count", steps.count}},
                           [&] { return service_->redo(overlay, steps.count); });
    answer(c, 200, ids_json("redone", ids, *service_, overlay));
  });
}

void Api::forget(Call call) {
  aside(std::move(call), [this](const Call& c) {
    Fields body = Fields::of_body(c.request.body);
    const auto source = body.text("source");
    if (!source || source->empty())
      throw RequestError(400, "missing_field", "source",
                         "source: the path or address of a document that was taught is expected");
    const std::string overlay = overlay_of(c, body.text("overlay"));
    nlohmann::ordered_json json = noted(c, overlay, "forget", {{"source", *source}},
                                        [&] { return service_->forget(overlay, *source); });
    json["state"] = service_->fingerprint(overlay);
    answer(c, 200, json);
  });
}

// An update file, as `GET /v1/overlays/NAME/export` and `accrete overlay export` write it.
void Api::merge(Call call) {
  aside(std::move(call), [this](const Call& c) {
    const std::string* given = c.request.parameter("on_conflict");
    const std::string how = given == nullptr ? "refuse" : *given;
    if (how != "refuse" && how != "ours" && how != "theirs")
      throw RequestError(400, "invalid_value", "on_conflict",
                         "on_conflict: refuse, ours or theirs is expected");
    if (c.request.body.empty())
      throw RequestError(400, "empty_set", "", "there is nothing to merge",
                         "send a file that GET /v1/overlays/NAME/export gave");
    const std::string overlay = overlay_of(c);
    quotas_.take(c.key, c.quotas, 0);
    nlohmann::ordered_json json =
        noted(c, overlay, "merge", {{"sha256", sha256_hex(c.request.body)}, {"on_conflict", how}},
              [&] { return service_->merge(overlay, c.request.body, how); });
    json["state"] = service_->fingerprint(overlay);
    answer(c, 200, json);
  });
}

void Api::undo_one(Call call) {
  aside(std::move(call), [this](const Call& c) {
    const std::string overlay = overlay_of(c, overlay_in(c.request));
    const auto json = noted(c, overlay, "undo", {{"update", c.id}}, [&] {
      service_->set_active(overlay, c.id, false);
      return service_->update(overlay, c.id);
    });
    answer(c, 200, json);
  });
}

void Api::redo_one(Call call) {
  aside(std::move(call), [this](const Call& c) {
    const std::string overlay = overlay_of(c, overlay_in(c.request));
    const auto json = noted(c, overlay, "redo", {{"update", c.id}}, [&] {
      service_->set_active(overlay, c.id, true);
      return service_->update(overlay, c.id);
    });
    answer(c, 200, json);
  });
}

}  // namespace accrete::serve
