// How much a key may still teach: what was begun with it today, in UTC.
//
// Counts are kept in memory: a server that is started again counts from nothing.
//
// Non-goals: requests for answers (the queue is fair by key), bytes.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "serve/keys.h"

namespace accrete::serve {

class Quotas {
 public:
  // Counts one job of so many items. Throws RequestError 429 where the key may not.
  void take(const std::string& key, const KeyQuotas& quotas, int64_t items);

 private:
  std::mutex mutex_;
  std::string day_;
  std::map<std::string, int64_t> begun_;  // jobs of this day, by key
};

}  // namespace accrete::serve
