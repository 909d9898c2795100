#include "serve/residents.h"

#include <algorithm>
#include <filesystem>

#include "base/format.h"
#include "ledger/overlay_folder.h"

namespace accrete::serve {
namespace {

namespace fs = std::filesystem;

// Changes when its ledger does, or when it is gone.
std::string stamp_of(const fs::path& overlay) {
  std::string out;
  for (const char* name : {"ledger.db", "ledger.db-wal", "overlay.json"}) {
    std::error_code ec;
    const auto size = fs::file_size(overlay / name, ec);
    const auto time = fs::last_write_time(overlay / name, ec);
    out +=
        ec ? std::string("- ") : accrete::format("{}:{} ", size, time.time_since_epoch().count());
  }
  return out;
}

}  // namespace

bool Residents::fresh(const Entry& entry) {
  return Clock::now().time_since_epoch() - Clock::duration(entry.looked.load()) <
         std::chrono::seconds(1);
}

void Residents::bring_up(const std::string& name, Entry& entry) const {
  const auto beneath = model_.now();
  if (entry.workspace && entry.beneath == beneath && fresh(entry)) return;
  const fs::path folder = model_.folder() / "accrete" / "overlays" / name;
  const std::string stamp = stamp_of(folder);
  if (!entry.workspace) {
    auto workspace = std::make_shared<Workspace>(model_.overlay(name));
    (void)workspace->now();
    entry.workspace = std::move(workspace);
  } else if (entry.beneath != beneath || entry.stamp != stamp) {
    entry.workspace->refresh();
  }
  entry.beneath = beneath;
  entry.stamp = stamp;
  entry.looked = Clock::now().time_since_epoch().count();
}

std::shared_ptr<Workspace> Residents::get(const std::string& name) {
  std::shared_ptr<Entry> entry;
  {
    const std::lock_guard lock(mutex_);
    auto& at = entries_[name];
    if (!at) at = std::make_shared<Entry>();
    entry = at;
    entry->used = ++clock_;
    while (entries_.size() > std::max<size_t>(most_, 1))
      entries_.erase(std::min_element(
          entries_.begin(), entries_.end(),
          [](const auto& a, const auto& b) { return a.second->used < b.second->used; }));
  }
  try {
    const std::lock_guard lock(entry->mutex);
    bring_up(name, *entry);
    return entry->workspace;
  } catch (...) {
    drop(name);
    throw;
  }
}

bool Residents::ready(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto at = entries_.find(name);
  if (at == entries_.end() || !at->second->mutex.try_lock()) return false;
  const std::lock_guard held(at->second->mutex, std::adopt_lock);
  const Entry& entry = *at->second;
  return entry.workspace && fresh(entry) && entry.beneath == model_.now();
}

void Residents::drop(const std::string& name) {
  const std::lock_guard lock(mutex_);
  entries_.erase(name);
}

size_t Residents::count() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

}  // namespace accrete::serve
