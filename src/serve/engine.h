// The thread that writes answers: a queue in front of a step loop.
//
// Requests wait by key, and rows are taken from the keys in turns, so that one client with many
// requests, or one request of many rows, does not hold up the others. What a request needs before
// its rows can join (tokens, the reader) is done on this thread too, between two steps.
//
// Non-goals: HTTP, models (a request brings its rows).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "model/step_loop.h"

namespace accrete::serve {

struct EngineWork {
  std::string key;  // whose it is
  // Makes the rows; it may have answered already and make none. What it throws goes to `failed`.
  std::function<std::vector<StepRequest>()> prepare;
  std::function<void(std::exception_ptr)> failed;
  std::function<bool()> cancelled;  // nobody waits for it any more
};

class Engine {
 public:
  struct Options {
    int64_t rows = 64;
    int64_t queue = 256;
    int64_t piece = StepLoop::kPiece;
  };
  // Throws as StepLoop does.
  Engine(std::shared_ptr<const LanguageModel> network, Options options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // false: the queue is full, or the engine is ending. Any thread.
  bool submit(EngineWork work);
  int64_t running() const { return running_; }  // rows
  int64_t queued() const { return queued_; }    // requests
  // Nothing runs and nothing waits.
  bool idle() const { return running_ == 0 && queued_ == 0 && ready_rows_ == 0; }
  // Takes nothing more.
  void drain();
  // Ends the thread; rows that are left hear nothing more.
  void stop();

 private:
  struct Ready {
    StepRequest request;
    std::shared_ptr<EngineWork> work;
  };
  void work();
  void admit();
  bool admit_one();
  void prepare(const std::string& key, EngineWork work);
  void forget();

  Options options_;
  StepLoop loop_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, std::deque<EngineWork>> waiting_;
  std::string last_;                                // the key that was served last
  std::map<std::string, std::deque<Ready>> ready_;  // by key; of this thread
  std::atomic<int64_t> running_{0}, queued_{0}, ready_rows_{0};
  bool draining_ = false, stopping_ = false;
  std::thread thread_;
};

}  // namespace accrete::serve
