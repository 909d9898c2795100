// Teaching a model of vectors: one transaction, as for facts (learn/fact_teach.h).
//
// Rows are checked against the model and against what it was taught, the probes are measured, the
// sums of the set are added, values solved, the probes measured again; a floor that would break
// refuses it. Nothing is written before that, and what is solved is exactly what is committed.
//
// Non-goals: what the command line prints.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "ledger/ledger.h"
#include "vector/vector_model.h"

namespace accrete {

struct RetrofitVectorsOptions {
  int64_t columns = 4096;
  int64_t winners = 0;  // 0: a quarter of the columns
  double ridge = 1;
  uint64_t seed = 0;
  std::filesystem::path background;  // a set of rows; may be empty
  std::string tool_version;
};

struct RetrofitVectorsResult {
  int64_t columns = 0, winners = 0;
};

// Makes the folder `target` of the model `source` (network.h), whose answers stay as they are.
// Throws kConflict (`target` is in use), kInvalidArgument, and as VectorNetwork::open does.
RetrofitVectorsResult retrofit_vectors(const std::filesystem::path& source,
                                       const std::filesystem::path& target,
                                       const RetrofitVectorsOptions& options,
                                       const Reporter& reporter = {});

struct TeachVectorsOptions {
  uint64_t seed = 0;  // goes into the record alone
  double max_seconds = 0;
  std::string tool_version;
};

// A probe of rows, and what it scored.
struct VectorProbe {
  ProbeRecord record;
  VectorSet set;
  std::string digest;
  double before = 0, after = 0;

  // `score` relative to the base; of an area under the curve what is above one half.
  double kept(double score) const;
  bool holds(double score) const;
};

std::vector<VectorProbe> vector_probes_of(const Ledger& ledger, const Snapshot& snapshot);
// Throws kRefused: a floor does not hold after it.
void require_floors(const std::vector<VectorProbe>& probes);
// Rows of an update from `source` that were taught before as the same class. Throws kConflict: as
// another, with both rows.
int64_t count_repeated(const std::string& source, const UpdateVectors& update,
                       const SeenRows& seen);
// What sums must have in common to add up, beside the network.
std::string memory_name(const VectorMemory& memory);

struct TeachVectorsResult {
  std::string update;
  int64_t items = 0;
  std::string metric;
  double learned_before = 0, learned_after = 0;  // on at most 2,000 of its rows
  std::vector<VectorProbe> probes;               // with both scores
  std::vector<std::string> remarks;
  int64_t rows = 0;
  int64_t parameters = 0;  // of the memory's values
  double seconds = 0, measuring_seconds = 0;
  VectorState after;
};

// The state that these updates make, with its sums if asked for.
using VectorStateOf =
    std::function<VectorState(const Ledger&, const std::vector<UpdateRecord>&, bool with_sums)>;

// Throws kRefused (a floor would break, max_seconds passed), kInvalidArgument (the set does not
// fit), kConflict (the set or one of its inputs was taught otherwise; somebody is writing).
TeachVectorsResult teach_vectors(const VectorModel& model, const VectorSet& set,
                                 const VectorStateOf& state_of, const TeachVectorsOptions& options,
                                 const Reporter& reporter = {});
// The same without the commit: no floor refuses it, `update` is empty, `after` would be the state.
TeachVectorsResult plan_vectors(const VectorModel& model, const VectorSet& set,
                                const VectorStateOf& state_of, const Reporter& reporter = {});

// Measures the set and keeps it as a probe. Throws kConflict, kInvalidArgument.
ProbeRecord add_vector_probe(const VectorModel& model, const VectorSet& set, ProbeRecord record,
                             bool replace, const VectorStateOf& state_of);

}  // namespace accrete
