// The routes of a server: OpenAI's, and those of the memory.
//
// Non-goals: sockets (http.h), the network (engine.h), models (service.h).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "serve/audit_trail.h"
#include "serve/engine.h"
#include "serve/fields.h"
#include "serve/http.h"
#include "serve/jobs.h"
#include "serve/keys.h"
#include "serve/metrics.h"
#include "serve/proposals.h"
#include "serve/quotas.h"
#include "serve/service.h"

namespace accrete::serve {

struct ApiOptions {
  std::string host = "127.0.0.1";        // that it listens on
  std::vector<std::string> allow_hosts;  // names it may be called by beside localhost and addresses
  std::string keys;                      // a file of keys; empty: none, everybody may do everything
  std::string otherwise;  // a chat's answer to what was not taught; empty: the model's
  std::string audit;      // a file that says who changed what (audit_trail.h); empty: none
  std::string
      proposals;        // a file of corrections to be confirmed (proposals.h); empty: none are kept
  std::string program;  // accrete itself, for teaching
  std::vector<std::string> child_arguments;
  Engine::Options engine;
};

// One request on its way.
struct Call {
  HttpRequest request;
  std::shared_ptr<HttpReply> reply;
  std::string key;  // the name of the key it came with; empty: none
  // What the key may reach: one overlay, or every one (`any`: without keys everybody, else admin),
  // or what all share alone. It follows from the key and from nothing that the request says.
  std::string bound;
  bool any = true;
  KeyQuotas quotas;   // of the key
  std::string route;  // as metrics name it
  std::string id;     // of what a path names
};

struct GenerateRequest;  // generating.h

class Api {
 public:
  // Throws as Service, Engine and KeyRing do.
  Api(std::shared_ptr<Service> service, ApiOptions options);
  ~Api();
  Api(const Api&) = delete;
  Api& operator=(const Api&) = delete;

  HttpHandlers handlers();
  // Health says 503, no new work is taken, a teach that runs is stopped.
  void drain();
  // Nothing is being answered.
  bool idle() const { return engine_.idle(); }

 private:
  using Method = void (Api::*)(Call);
  struct Route;
  static const std::vector<Route>& routes();
  const Route* find(const HttpRequest& request, std::string& id, bool& other_method) const;

  std::optional<Key> key_of(const HttpRequest& request);
  std::optional<HttpResponse> admit(const HttpRequest& request);
  void handle(HttpRequest request, std::shared_ptr<HttpReply> reply);
  void answer(const Call& call, HttpResponse response);
  void answer(const Call& call, int status, const nlohmann::ordered_json& json,
              std::vector<std::pair<std::string, std::string>> headers = {});
  void fail(const Call& call, std::exception_ptr error);
  // Runs f on the thread for what waits for files, and answers with what it throws.
  void aside(Call call, std::function<void(const Call&)> f);
  void work();

  // The overlay that `model` names: its own for a bound key that names the model. Throws
  // RequestError model_not_found for a name that is none, or that the key may not reach.
  std::string asked_overlay(const Call& call, const std::string& model) const;
  // The overlay that a route of the memory works on, as `named` by the body or by ?overlay=. Throws
  // RequestError foreign_overlay.
  std::string overlay_of(const Call& call, const std::optional<std::string>& named = {}) const;
  bool may_reach(const Call& call, const std::string& overlay) const;
  std::vector<std::string> reachable(const Call& call) const;
  JobReport job_of(const Call& call) const;
  void generate(Call call, GenerateRequest request);
  // A line of the audit trail, where there is one. Throws as AuditTrail::add.
  void note(const Call& call, const std::string& overlay, const char* action,
            const nlohmann::ordered_json& more);
  // Runs f between two lines: what is not written down does not happen. Returns what f did.
  nlohmann::ordered_json noted(const Call& call, const std::string& overlay, const char* action,
                               const nlohmann::ordered_json& asked,
                               const std::function<nlohmann::ordered_json()>& f);
  void note_end(const JobReport& report);

  // api.cc
  void health(Call call);
  void metrics(Call call);
  void models(Call call);
  void model(Call call);
  void page(Call call);
  // api_tokens.cc
  void tokenize(Call call);
  void detokenize(Call call);
  void tokenizer_info(Call call);
  void embeddings(Call call);
  // api_generate.cc
  void chat_completions(Call call);
  void completions(Call call);
  // api_memory.cc
  void teach(Call call);
  void plan(Call call);
  void check(Call call);
  void jobs(Call call);
  void job(Call call);
  void job_events(Call call);
  void cancel_job(Call call);
  void updates(Call call);
  void update(Call call);
  void undo_last(Call call);
  void redo_last(Call call);
  void undo_one(Call call);
  void forget(Call call);
  void redo_one(Call call);
  void merge(Call call);
  // `started` is told the job's id before it can run.
  void start_job(Call call, JobKind kind, const std::string& overlay, std::string data,
                 int64_t items, double wait,
                 const std::function<void(const std::string& job)>& started = nullptr);
  void finish_job(const Call& call, const JobReport& report, bool waited);

  // api_proposals.cc
  void propose(const Call& call, const Query& query);
  Proposal proposal_of(const Call& call) const;
  void proposals(Call call);
  void proposal(Call call);
  void decide_proposal(Call call);

  // api_overlays.cc
  void overlays(Call call);
  void overlay(Call call);
  void create_overlay(Call call);
  void erase_overlay(Call call);
  void export_overlay(Call call);

  friend class Generating;

  std::shared_ptr<Service> service_;
  ApiOptions options_;
  std::optional<KeyRing> keys_;
  std::optional<AuditTrail> trail_;
  std::optional<Proposals> proposals_;
  Quotas quotas_;
  Metrics metrics_;
  Engine engine_;
  Jobs jobs_;
  std::atomic<bool> draining_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> aside_;
  bool stopping_ = false;
  std::thread thread_;
};

// The response that an error becomes.
HttpResponse error_response(int status, const std::string& message, const std::string& type,
                            const std::string& param, const std::string& code,
                            const std::string& hint);
HttpResponse error_response(std::exception_ptr error);

// JSON as text; what is not UTF-8 becomes U+FFFD.
std::string dump(const nlohmann::ordered_json& json);

// Whether a Host header names this server: localhost, an address, or a name of `allowed`.
bool host_allowed(std::string_view host, const std::vector<std::string>& allowed);
bool is_loopback(const std::string& host);

// The seconds of ?wait=, or `usual`. Throws RequestError.
double wait_of(const HttpRequest& request, double usual);

}  // namespace accrete::serve
