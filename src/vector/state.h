// What the active updates of a memory of vectors come to, and the file that keeps it.
//
// `<model>/accrete/sums.safetensors` is derived: it says nothing that the ledger and the update
// files do not say, and may be removed at any time; whoever finds it missing, damaged or of another
// state makes what it needs of the update files. It is written by whoever teaches. Since sums are
// exact, that of another state is one of this after what differs was added or taken away: a teach
// costs the same after many updates as after one, and so does what follows an undo.
//
// Non-goals: locks (the ledger's writer lock is held by whoever writes).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "ledger/ledger.h"
#include "vector/sums.h"

namespace accrete {

inline constexpr const char* kSumsFile = "sums.safetensors";

// The memory of a folder: accrete/memory.json.
struct VectorMemory {
  int64_t columns = 0, winners = 0;
  double ridge = 1;
  uint64_t seed = 0;
  std::string base_digest;  // of the network
  std::string background;   // SHA-256 of the background's file; empty: none
};

// A row of classes that was taught, to be found by its input.
struct SeenRow {
  std::string update, label;
  int64_t row = 0;  // from 0
};

// By the name of the input (UpdateVectors::inputs).
using SeenRows = std::unordered_multimap<int64_t, SeenRow>;

struct VectorState {
  std::set<std::string> ids;         // of the updates that it is of
  std::vector<std::string> outputs;  // C
  at::Tensor values;                 // [N, C] float32
  // Where more than the values was needed:
  std::shared_ptr<const VectorSums> sums;
  std::shared_ptr<const SeenRows> seen;
};

// What has to be known to make states.
struct VectorPlace {
  std::filesystem::path folder;  // of the model
  VectorMemory memory;
  std::vector<std::string> first;            // outputs of the network
  std::shared_ptr<const Update> background;  // may be null
};

// The state that these updates make. `with_sums`: also what a teach needs. Of `known`, a state that
// is at hand, as much is used as helps; it may be null. Throws as Ledger::load does.
VectorState make_state(const VectorPlace& place, const Ledger& ledger,
                       const std::vector<UpdateRecord>& active, bool with_sums,
                       const VectorState* known);
// One more update behind `before`, which has its sums.
VectorState add_update(const VectorPlace& place, const VectorState& before, const std::string& id,
                       const UpdateVectors& update);
// The sums of the update files alone.
VectorSums sums_of_files(const VectorPlace& place, const Ledger& ledger,
                         const std::vector<UpdateRecord>& active);
// Writes the file. Throws kIo.
void save_state(const VectorPlace& place, const VectorState& state);

}  // namespace accrete
