// A model of vectors that is open in a workspace, and its state.
//
// Non-goals: anything for others (workspace.h).
#pragma once

#include <filesystem>
#include <mutex>
#include <optional>
#include <vector>

#include "accrete/types.h"
#include "vector/vector_teach.h"

namespace accrete {

class VectorDesk {
 public:
  VectorDesk(const std::filesystem::path& folder, int threads);

  const VectorModel& model() const { return model_; }
  // The state that these updates make; it is kept for who asks next.
  VectorState at(const Ledger& ledger, const std::vector<UpdateRecord>& active,
                 bool with_sums = false) const;
  VectorState now() const;
  VectorStateOf state_of() const;
  void follow(VectorState state) const;

  api::CheckReport check() const;
  api::Digest digest() const;
  api::AuditReport audit() const;
  api::Info info() const;

 private:
  VectorModel model_;
  mutable std::mutex guard_;
  mutable std::optional<VectorState> state_;
};

}  // namespace accrete
