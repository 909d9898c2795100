#include "serve/jobs.h"

#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/strict_json.h"
#include "serve/child.h"

namespace accrete::serve {
namespace {

int64_t now_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string name_of(JobKind kind) {
  switch (kind) {
    case JobKind::kTeach:
      return "teach";
    case JobKind::kPlan:
      return "plan";
    case JobKind::kCheck:
      break;
  }
  return "check";
}

std::filesystem::path make_scratch() {
  std::string name = (std::filesystem::temp_directory_path() / "accrete-serve-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr)
    throw Error(ErrorCode::kIo, accrete::format("cannot make a folder {}", name),
                "set TMPDIR to a folder that can be written to");
  return name;
}

}  // namespace

struct Jobs::Job : JobRequest {
  std::string id;
  std::string state = "queued";
  int64_t created = 0, started = 0, finished = 0;
  nlohmann::ordered_json progress, result, error;
  std::vector<JobEvent> events;
  std::vector<std::function<bool(const JobEvent&)>> watchers;
  std::atomic<bool> cancelled{false};

  bool ended() const { return finished != 0; }
  nlohmann::ordered_json json() const { return json(state, finished); }
  JobReport report() const { return report(state, finished); }
  // What they would be with this state.
  nlohmann::ordered_json json(const std::string& as, int64_t at) const;
  JobReport report(const std::string& as, int64_t at) const {
    return {id, key, overlay, as, json(as, at), result, error};
  }
};

nlohmann::ordered_json Jobs::Job::json(const std::string& as, int64_t at) const {
  nlohmann::ordered_json out = {
      {"id", id},           {"object", "memory.job"}, {"kind", name_of(kind)},
      {"state", as},        {"source", source},       {"items", items},
      {"created", created}, {"started", started},     {"finished", at}};
  if (!overlay.empty()) out["overlay"] = overlay;
  if (!progress.is_null() && at == 0) out["progress"] = progress;
  if (!result.is_null()) {
    out["report"] = result;
    if (result.contains("update")) out["update"] = result["update"];
  }
  if (!error.is_null()) out["error"] = error;
  return out;
}

Jobs::Jobs(Options options, std::function<void(const std::string&)> committed, Ended ended)
    : options_(std::move(options)),
      committed_(std::move(committed)),
      ended_(std::move(ended)),
      scratch_(make_scratch()),
      thread_([this] { work(); }) {}

Jobs::~Jobs() {
  stop();
  std::error_code ec;
  std::filesystem::remove_all(scratch_, ec);
}

std::optional<std::string> Jobs::submit(JobRequest request,
                                        const std::function<void(const std::string& id)>& named) {
  const std::lock_guard lock(mutex_);
  const std::string digest =
      sha256_hex(name_of(request.kind) + "\n" + request.overlay + "\n" + request.data);
  const std::string idempotency = request.idempotency;
  if (!idempotency.empty()) {
    const auto at = used_.find(idempotency);
    if (at != used_.end()) {
      if (at->second.first != digest)
        throw Error(ErrorCode::kConflict, "this Idempotency-Key was used for another body",
                    "use a key of its own for each set");
      if (named) named(at->second.second);
      return at->second.second;
    }
  }
  if (stopping_ || waiting_.size() >= options_.queue) return std::nullopt;
  auto job = std::make_shared<Job>();
  static_cast<JobRequest&>(*job) = std::move(request);
  job->id = accrete::format("job-{}", ++made_);
  job->created = now_seconds();
  if (named) named(job->id);
  jobs_[job->id] = job;
  order_.push_back(job);
  waiting_.push_back(job);
  if (!idempotency.empty()) used_[idempotency] = {digest, job->id};
  while (order_.size() > options_.kept && order_.front()->ended()) {
    jobs_.erase(order_.front()->id);
    order_.pop_front();
  }
  while (used_.size() > options_.kept) used_.erase(used_.begin());
  wake_.notify_all();
  return job->id;
}

std::optional<JobReport> Jobs::find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto at = jobs_.find(id);
  if (at == jobs_.end()) return std::nullopt;
  return at->second->report();
}

nlohmann::ordered_json Jobs::list(const std::optional<std::string>& overlay) const {
  const std::lock_guard lock(mutex_);
  auto out = nlohmann::ordered_json::array();
  for (auto at = order_.rbegin(); at != order_.rend(); ++at)
    if (!overlay || (*at)->overlay == *overlay) out.push_back((*at)->json());
  return out;
}

void Jobs::erase(const std::string& overlay) {
  const std::lock_guard lock(mutex_);
  for (const auto& job : order_) {
    if (job->overlay != overlay) continue;
    job->cancelled = true;
    if (job->state == "running") continue;
    job->result = job->error = nullptr;
    job->events.clear();
    job->data.clear();
  }
  wake_.notify_all();
}

bool Jobs::watch(const std::string& id, int64_t after, std::function<bool(const JobEvent&)> f) {
  const std::lock_guard lock(mutex_);
  const auto at = jobs_.find(id);
  if (at == jobs_.end()) return false;
  for (const JobEvent& event : at->second->events)
    if (event.number > after && !f(event)) return true;
  if (!at->second->ended()) at->second->watchers.push_back(std::move(f));
  return true;
}

bool Jobs::cancel(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto at = jobs_.find(id);
  if (at == jobs_.end() || at->second->ended()) return false;
  at->second->cancelled = true;
  wake_.notify_all();
  return true;
}

void Jobs::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const auto& [id, job] : jobs_) job->cancelled = true;
    wake_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

// With the lock held.
void Jobs::emit(Job& job, const std::string& name, nlohmann::ordered_json data) {
  JobEvent event{static_cast<int64_t>(job.events.size()) + 1, name, std::move(data)};
  std::erase_if(job.watchers, [&](const auto& f) { return !f(event); });
  job.events.push_back(std::move(event));
}

void Jobs::work() {
  for (;;) {
    std::shared_ptr<Job> job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      job = waiting_.front();
      waiting_.pop_front();
      if (!job->cancelled) {
        job->state = "running";
        job->started = now_seconds();
      }
    }
    std::string state = "cancelled";
    if (!job->cancelled) {
      try {
        run(job);
        state.clear();
      } catch (const std::exception& e) {
        const std::lock_guard lock(mutex_);
        job->error = {{"code", "internal"}, {"message", e.what()}, {"hint", ""}};
        state = "failed";
      }
    }
    JobReport report;
    const int64_t finished = std::max<int64_t>(1, now_seconds());
    {
      const std::lock_guard lock(mutex_);
      if (state.empty()) {
        const std::string code = job->error.is_null() ? "" : job->error.value("code", "internal");
        state = code.empty()            ? (job->kind == JobKind::kTeach ? "committed" : "done")
                : code == "refused"     ? "refused"
                : code == "interrupted" ? "cancelled"
                                        : "failed";
      }
      job->data.clear();
      report = job->report(state, finished);
    }
    if (ended_) ended_(job->kind, report);
    {
      const std::lock_guard lock(mutex_);
      job->state = state;
      job->finished = finished;
      if (job->result.contains("kept"))
        for (const auto& [name, kept] : job->result["kept"].items())
          emit(*job, "probe",
               {{"name", name},
                {"now", kept.value("kept", nlohmann::ordered_json())},
                {"floor", kept.value("floor", nlohmann::ordered_json())}});
      if (job->result.contains("learned")) emit(*job, "learned", job->result["learned"]);
      emit(*job, state, job->json());
      job->watchers.clear();
    }
  }
}

void Jobs::run(const std::shared_ptr<Job>& job) {
  std::vector<std::string> command = {options_.program, name_of(job->kind),
                                      options_.folder.string()};
  if (job->kind != JobKind::kCheck) {
    write_file_atomically(scratch_ / job->source, job->data);
    command.push_back(job->source);
  }
  command.insert(command.end(), {"--json"});
  if (job->kind != JobKind::kCheck) command.insert(command.end(), {"--progress", "json"});
  command.insert(command.end(), options_.arguments.begin(), options_.arguments.end());
  if (!job->overlay.empty()) command.insert(command.end(), {"--overlay", job->overlay});
  const auto line = [&](std::string_view text) {
    if (text.empty() || text.front() != '{') return;
    const auto json = nlohmann::ordered_json::parse(text, nullptr, false);
    if (!json.is_object() || !json.contains("stage")) return;
    const std::lock_guard lock(mutex_);
    job->progress = json;
    constexpr size_t kMost = 2000;
    if (job->events.size() < kMost) emit(*job, "progress", json);
  };
  const ChildResult child =
      run_child(command, scratch_, options_.niceness, line, [&] { return job->cancelled.load(); });
  std::error_code ec;
  std::filesystem::remove(scratch_ / job->source, ec);
  auto json = nlohmann::ordered_json::parse(child.output, nullptr, false);
  if (!json.is_object()) json = nlohmann::ordered_json::object();
  // A check whose floor is broken reports and exits with 1.
  const bool failed = json.contains("error") || (child.status != 0 && json.empty());
  if (!failed && job->kind == JobKind::kTeach) committed_(job->overlay);
  const std::lock_guard lock(mutex_);
  if (!failed) {
    job->result = std::move(json);
  } else if (json.contains("error")) {
    job->error = json["error"];
  } else {
    const size_t last = child.errors.find_last_not_of('\n');
    const size_t at = last == std::string::npos ? 0 : child.errors.rfind('\n', last) + 1;
    job->error = {{"code", job->cancelled ? "interrupted" : "internal"},
                  {"message", accrete::format("the process ended with status {}: {}", child.status,
                                              child.errors.substr(at, 400))},
                  {"hint", "the model is as it was, or as GET /v1/memory/updates says"}};
  }
}

}  // namespace accrete::serve
