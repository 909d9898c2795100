#include "serve/engine.h"

#include <algorithm>

#include "base/error.h"

namespace accrete::serve {

Engine::Engine(std::shared_ptr<const LanguageModel> network, Options options)
    : options_(options), loop_(std::move(network), options.piece), thread_([this] { work(); }) {}

Engine::~Engine() {
  stop();
}

bool Engine::submit(EngineWork work) {
  const std::lock_guard lock(mutex_);
  if (draining_ || stopping_ || queued_ >= options_.queue) return false;
  waiting_[work.key].push_back(std::move(work));
  ++queued_;
  wake_.notify_all();
  return true;
}

void Engine::drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

void Engine::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

// Fills free rows, one of each key in turn.
void Engine::admit() {
  while (loop_.rows() < options_.rows && admit_one()) continue;
}

// The next key's next row, of the request that it has begun or of its next one. false: nobody
// waits.
bool Engine::admit_one() {
  std::string key;
  EngineWork work;
  bool fresh = false;
  {
    const std::lock_guard lock(mutex_);
    const auto next = [this](const auto& of) {
      auto at = of.upper_bound(last_);
      return at == of.end() ? of.begin() : at;
    };
    if (waiting_.empty() && ready_.empty()) return false;
    if (ready_.empty()) {
      key = next(waiting_)->first;
    } else if (waiting_.empty()) {
      key = next(ready_)->first;
    } else {  // the nearer one behind the last
      const std::string &a = next(waiting_)->first, &b = next(ready_)->first;
      key = (a > last_) == (b > last_) ? std::min(a, b) : a > last_ ? a : b;
    }
    last_ = key;
    if (!ready_.contains(key)) {
      const auto at = waiting_.find(key);
      work = std::move(at->second.front());
      at->second.pop_front();
      if (at->second.empty()) waiting_.erase(at);
      fresh = true;
    }
  }
  if (fresh) prepare(key, std::move(work));
  const auto at = ready_.find(key);
  if (at == ready_.end()) return true;  // it was answered, or it failed
  Ready ready = std::move(at->second.front());
  at->second.pop_front();
  if (at->second.empty()) ready_.erase(at);
  if (!ready.request.cancelled || !ready.request.cancelled()) {
    try {
      loop_.join(std::move(ready.request));
    } catch (...) {
      ready.work->failed(std::current_exception());
    }
  }
  running_ = loop_.rows();
  --ready_rows_;  // last, so that idle() never sees it nowhere
  return true;
}

void Engine::prepare(const std::string& key, EngineWork work) {
  if (!work.cancelled || !work.cancelled()) {
    const auto shared = std::make_shared<EngineWork>(std::move(work));
    try {
      for (StepRequest& request : shared->prepare()) {
        ready_[key].push_back({std::move(request), shared});
        ++ready_rows_;
      }
    } catch (...) {
      shared->failed(std::current_exception());
    }
  }
  --queued_;
}

void Engine::forget() {
  loop_.clear();
  ready_.clear();
  ready_rows_ = 0;
}

void Engine::work() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      running_ = loop_.rows();
      wake_.wait(lock, [&] {
        return stopping_ || !waiting_.empty() || !ready_.empty() || loop_.rows() > 0;
      });
      if (stopping_) break;
    }
    try {
      admit();
      (void)loop_.step();
    } catch (const std::exception&) {
      // Out of memory, say. Whoever was being answered is let go; the server goes on.
      forget();
    }
  }
  forget();
  running_ = 0;
}

}  // namespace accrete::serve
