// What the workspace's sources share: the open model and its state.
//
// Non-goals: anything for others (workspace.h).
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "ledger/ledger.h"
#include "model/language_model.h"
#include "workspace/vectors.h"
#include "workspace/workspace.h"

namespace accrete {

struct Workspace::Impl {
  std::filesystem::path folder;  // of the model
  std::string overlay;           // empty: this is the model's own
  std::filesystem::path place;   // whose ledger it is: the model's folder, or the overlay's
  std::shared_ptr<Impl> shared;  // of an overlay: what is beneath
  OpenOptions options;
  History history;

  Impl(std::filesystem::path path, const api::OpenOptions& given);
  // An overlay over it. Throws as find_overlay does.
  Impl(std::shared_ptr<Impl> beneath, const std::string& name);

  // See workspace.h.
  State now();
  bool refresh();
  // A state of the folder's model, whichever: for its network. Opened without updates if need be.
  State any();
  // The state that these updates of `ledger` make. It becomes now() if nothing is open yet.
  State at(const Ledger& ledger, const std::vector<UpdateRecord>& active);
  ModelInState in_state() {
    return [this](const Ledger& ledger, const std::vector<UpdateRecord>& active) {
      return *at(ledger, active);
    };
  }
  // Of a folder that takes vectors.
  api::MergeReport merge_vectors(std::span<const std::filesystem::path> files,
                                 const api::MergeOptions& options, const Reporter& reporter);
  // Of a folder that takes vectors; opened once. Throws kUnsupported for others.
  std::shared_ptr<const VectorDesk> vectors();
  // Throws kUnsupported for a folder that takes vectors: whatever has to do with text begins so.
  void require_text() const;
  // Null until something was opened.
  State current() const;
  // `made` becomes now(), unless `begun` is not any more what this began with: then the ledger says
  // what is newer.
  void follow(const State& begun, State made);

 private:
  void publish(State state);
  bool refresh_overlay();

  mutable std::mutex guard_;  // of current_, for as long as a pointer takes to copy
  std::mutex opening_;        // held while a state is made that may become current_
  State current_, bare_;      // bare_: the network without updates, where that came first
  std::shared_ptr<const VectorDesk> vectors_;
};

}  // namespace accrete
