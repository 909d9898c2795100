// Compact: many updates become one, without a bit of the model's state changing.
//
// Gated updates become the parts of one, subjects and texts apart; open ones are summed with the
// additions a model makes when it opens. All in ledger order, so that rows, anchors and therefore
// every output stay bit-identical: the state's digest before and after is the proof. The files of
// what was folded stay, and so does every way back (ledger.h).
//
// Non-goals: approximations, deleting files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/progress.h"
#include "model/language_model.h"

namespace accrete {

struct CompactResult {
  std::vector<std::string> updates;         // the folds that were committed
  std::vector<std::string> folded;          // what they stand for, in ledger order
  std::string digest_before, digest_after;  // of the state; equal
  int64_t rows_before = 0, rows_after = 0;
  int64_t bytes_before = 0, bytes_after = 0;  // of the update files that a model reads
};

// Throws kRefused when there is nothing to fold, kInternal when the state would change (nothing was
// committed then), kConflict (another writer).
CompactResult compact(const std::filesystem::path& folder, const OpenOptions& open,
                      const std::string& tool_version, const Reporter& reporter = {});

}  // namespace accrete
