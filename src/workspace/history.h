// History: what a model was taught and what of it is active, by the ledger alone. Without libtorch,
// in milliseconds: the verbs log, show, undo, redo, revert and tag, and the workspace's.
//
// Each call opens the ledger for itself, so that it says what is there now, and an object may be
// used by several threads. They throw as Ledger::open does (kNotFound, kConflict, kFormat, kIo),
// and kNotFound or kInvalidArgument for an update that is not there or a name that is not unique.
// A call that threw has changed nothing.
//
// Non-goals: the model (workspace.h), printing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "accrete/types.h"

namespace accrete {

class History {
 public:
  // `folder` of the model; with `overlay`, what that was taught. Throws as find_overlay of
  // ledger/overlay_folder.h.
  explicit History(std::filesystem::path folder, const std::string& overlay = {});

  // Every update, oldest first, undone ones too.
  std::vector<api::UpdateInfo> log() const;
  // Also throws kFormat: its file is not the one that was committed.
  api::UpdateDetails show(const std::string& id) const;

  // Takes the last n active updates back, exactly. Throws kInvalidArgument when there are fewer.
  api::ActiveReport undo(int64_t n = 1) const;
  // Puts the last n undone ones back, unless something was taught or reverted since. Their files
  // must be there and whole (kFormat).
  api::ActiveReport redo(int64_t n = 1) const;
  // Takes one update back, anywhere in the order; with `again` brings it back. Throws
  // kInvalidArgument when it is so already.
  api::ActiveReport revert(const std::string& id, bool again = false) const;
  // Gives an update a name that is taken for its id everywhere; an empty one takes it away.
  api::TagReport tag(const std::string& id, const std::string& name) const;

  std::vector<api::ProbeInfo> probes() const;
  void remove_probe(const std::string& name) const;

 private:
  std::filesystem::path folder_;  // of the model or the overlay
};

}  // namespace accrete
