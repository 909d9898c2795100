// The state of a training run on disk: everything that the next step depends on, so that a resumed
// run ends with the bytes of an uninterrupted one. One safetensors file, replaced atomically.
//
// Non-goals: the corpora and their order, which the config's seed gives again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "learn/pretrain/network.h"
#include "learn/pretrain/optimizer.h"

namespace accrete {

// What a run is, beside its tensors.
struct RunState {
  int64_t step = 0;  // steps done
  double seconds = 0;
  int64_t log_bytes = 0, event_bytes = 0;  // how long the two logs are
  // A checkpoint is refused where these are not the run's.
  std::string config_digest, text_digest;
  int64_t threads = 0;
};

void save_checkpoint(const std::filesystem::path& file, const TrainingNetwork& network,
                     const DenseAdamW& dense, const RowAdam& rows, const RunState& state);

// Reads `file` into all of them; `state` says what is expected. Throws kConflict when it is of
// another run, kFormat.
void load_checkpoint(const std::filesystem::path& file, TrainingNetwork& network, DenseAdamW& dense,
                     RowAdam& rows, RunState& state);

}  // namespace accrete
