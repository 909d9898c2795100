// Teaching, planning and checking beside the answers: each in a child process, one at a time.
//
// A teach runs as `accrete teach`, so the ledger's promises hold whatever happens to it or to the
// server. It runs at low priority. Afterwards the new state is served, and only then is the job
// said to be committed. Jobs are kept in memory: after a restart the ledger says what was
// committed.
//
// Non-goals: several folders, schedules.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace accrete::serve {

enum class JobKind { kTeach, kPlan, kCheck };

struct JobEvent {
  int64_t number = 0;  // 1, 2, ... of its job
  std::string name;    // progress, probe, learned; the last is the state that it ended in
  nlohmann::ordered_json data;
};

struct JobRequest {
  JobKind kind = JobKind::kTeach;
  std::string key;      // the name of the key that asks for it
  std::string overlay;  // whose facts it is about; empty: those that all share
  std::string source;   // names the set in the ledger
  std::string data;     // the lines of a teach set; of a check none
  int64_t items = 0;
  std::string idempotency;  // may be empty
};

// What a job is at one moment.
struct JobReport {
  std::string id;
  std::string key, overlay;  // as it was asked for
  std::string state;  // queued, running, committed, refused, failed, cancelled; of a plan or check
                      // done
  nlohmann::ordered_json json;    // all of it, for clients
  nlohmann::ordered_json result;  // what the verb reported
  nlohmann::ordered_json error;   // {code, message, hint}; null: none
  bool ended() const { return state != "queued" && state != "running"; }
};

class Jobs {
 public:
  struct Options {
    std::string program;           // accrete itself
    std::filesystem::path folder;  // of the model, absolute
    size_t queue = 64;
    size_t kept = 1000;  // ended jobs that are remembered
    int niceness = 10;
    std::vector<std::string> arguments;  // of every child, such as --threads N
  };
  // `committed` is called, with the overlay that it was for, when a teach has changed something;
  // `ended` with what is about to be said of a job. Both on the jobs' thread, before anybody else
  // can know how it ended.
  using Ended = std::function<void(JobKind, const JobReport&)>;
  Jobs(Options options, std::function<void(const std::string& overlay)> committed, Ended ended);
  ~Jobs();
  Jobs(const Jobs&) = delete;
  Jobs& operator=(const Jobs&) = delete;

  // Returns the job's id; nullopt: the queue is full or the server is ending. With an `idempotency`
  // that was used for the same data the job of then is returned. Throws kConflict when it was used
  // for other data. `named` is told the id before the job can start; what it throws leaves nothing.
  std::optional<std::string> submit(
      JobRequest request, const std::function<void(const std::string& id)>& named = nullptr);
  std::optional<JobReport> find(const std::string& id) const;
  // Those of an overlay (empty: of what all share), or of all; newest first.
  nlohmann::ordered_json list(const std::optional<std::string>& overlay) const;
  // Events from number `after` + 1 on, and from then on each new one; the last has the ended state.
  // false from `f` ends it. Called on the jobs' thread or, for what is there, on this one.
  bool watch(const std::string& id, int64_t after, std::function<bool(const JobEvent&)> f);
  // Asks it to stop; false: there is none or it has ended.
  bool cancel(const std::string& id);
  // Stops those of an overlay, and forgets what they were told and what they reported.
  void erase(const std::string& overlay);
  // Stops what runs, drops what waits, takes nothing more. Waits for the child.
  void stop();

 private:
  struct Job;
  void work();
  void run(const std::shared_ptr<Job>& job);
  void emit(Job& job, const std::string& name, nlohmann::ordered_json data);

  Options options_;
  std::function<void(const std::string&)> committed_;
  Ended ended_;
  std::filesystem::path scratch_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, std::shared_ptr<Job>> jobs_;
  std::deque<std::shared_ptr<Job>> order_;  // oldest first
  std::deque<std::shared_ptr<Job>> waiting_;
  std::map<std::string, std::pair<std::string, std::string>> used_;  // key: digest of data, job
  int64_t made_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace accrete::serve
