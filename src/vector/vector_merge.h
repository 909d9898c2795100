// Merge: sets of rows that were taught elsewhere, taken over as sums. No row travels.
//
// What is taken are update files of another copy of the same model: the same network, columns,
// winners and seed. Each file stays an update of its own, with the id that it has there, so that
// one share can be taken back alone. Sums are exact: the state is that of one place that was taught
// all of it, to the last bit, in any order.
//
// Non-goals: facts (learn/fact_merge.h); choosing between contradictions.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "vector/vector_teach.h"

namespace accrete {

struct MergeVectorsResult {
  std::vector<std::string> updates;  // that were added, in their order
  int64_t files = 0;                 // different ones
  int64_t there = 0;                 // that were taught or merged here before
  VectorState after;                 // where any was added
};

// The files are checked, and the probes measured with all of them, before anything changes; then
// they are committed one by one, by their id. Throws kInvalidArgument (no file; one without rows),
// kConflict (made for another network or memory; an input that was taught as another class;
// somebody is writing), kRefused (a floor would break), and as read_update does.
MergeVectorsResult merge_vectors(const VectorModel& model,
                                 std::span<const std::filesystem::path> files,
                                 const VectorStateOf& state_of, const std::string& tool_version,
                                 const Reporter& reporter = {});

}  // namespace accrete
