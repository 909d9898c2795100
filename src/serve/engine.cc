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

// Fills free rows from the queue, a request of each key in turn.
void Engine::admit() {
  while (loop_.rows() < options_.rows) {
    if (ready_.empty()) {
      EngineWork work;
      {
        const std::lock_guard lock(mutex_);
        if (waiting_.empty()) return;
        auto at = waiting_.upper_bound(last_);
        if (at == waiting_.end()) at = waiting_.begin();
        last_ = at->first;
        work = std::move(at->second.front());
        at->second.pop_front();
        if (at->second.empty()) waiting_.erase(at);
      }
      if (!work.cancelled || !work.cancelled()) {
        const auto shared = std::make_shared<EngineWork>(std::move(work));
        try {
          for (StepRequest& request : shared->prepare())
            ready_.push_back({std::move(request), shared});
        } catch (...) {
          shared->failed(std::current_exception());
        }
      }
      running_ = loop_.rows() + static_cast<int64_t>(ready_.size());
      --queued_;
      continue;
    }
    Ready next = std::move(ready_.front());
    ready_.pop_front();
    if (next.request.cancelled && next.request.cancelled()) continue;
    try {
      loop_.join(std::move(next.request));
    } catch (...) {
      next.work->failed(std::current_exception());
    }
  }
}

void Engine::work() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      running_ = loop_.rows() + static_cast<int64_t>(ready_.size());
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
      loop_.clear();
      ready_.clear();
    }
  }
  loop_.clear();
  ready_.clear();
  running_ = 0;
}

}  // namespace accrete::serve
