// The overlays that are open: each is opened when it is first asked, and the one that was not asked
// for longest is closed when there are too many. They share the network and every shared fact.
//
// What others write to an overlay's folder is looked for when it is asked, at most once a second,
// by the times of two files.
//
// Non-goals: who may ask which (api.h).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "workspace/workspace.h"

namespace accrete::serve {

class Residents {
 public:
  // `model` must outlive this. At most `most` stay open.
  Residents(const Workspace& model, size_t most) : model_(model), most_(most) {}

  // In its state of now. Throws as Workspace::overlay and Workspace::now do.
  std::shared_ptr<Workspace> get(const std::string& name);
  // Whether get() needs no file right now.
  bool ready(const std::string& name) const;
  void drop(const std::string& name);
  size_t count() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    std::mutex mutex;  // while it is opened or looked at
    std::shared_ptr<Workspace> workspace;
    std::string stamp;         // of its ledger's files
    Workspace::State beneath;  // that its state was made of
    std::atomic<Clock::rep> looked{0};
    std::atomic<int64_t> used{0};
  };
  void bring_up(const std::string& name, Entry& entry) const;
  static bool fresh(const Entry& entry);

  const Workspace& model_;
  size_t most_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Entry>> entries_;
  std::atomic<int64_t> clock_{0};
};

}  // namespace accrete::serve
