// Upgrade: a model whose memory layers were fitted to it, as an earlier accrete retrofitted them,
// becomes one with a memory of facts. Its base is brought, and what its ledger says is active is
// taught again, update by update.
//
// Non-goals: rows of the old value tables, which nothing reads any more; native models.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/progress.h"
#include "learn/retrofit_facts.h"
#include "learn/teach.h"

namespace accrete {

struct UpgradedUpdate {
  std::string old, id;  // ids of the update before and now; `id` empty: nothing of it was taught
  std::string source;   // where its lessons came from
  int64_t facts = 0;    // taught again
};

// What could not be taught again: running text and conversations, of which an update keeps the
// beginning alone, and what a teach refuses.
struct LeftLesson {
  std::string update, source;
  int64_t line = 0;  // 0: a whole update
  std::string what, why;
};

struct UpgradeResult {
  RetrofitFactsResult model;
  std::vector<UpgradedUpdate> updates;
  std::vector<LeftLesson> left;
  std::vector<std::string> probes;  // measured anew; their floors stay
};

// Whether `folder` is a model of an earlier accrete with fitted memory layers.
bool has_fitted_memory(const std::filesystem::path& folder);

// `target` must not exist or be an empty folder, and is there when all is taught. Throws
// kInvalidArgument (`source` has no such memory), and what retrofit_facts and reading the ledger
// throw.
UpgradeResult upgrade(const std::filesystem::path& source, const std::filesystem::path& target,
                      const RetrofitFactsOptions& options, const TeachOptions& how,
                      const Reporter& reporter = {});

}  // namespace accrete
