// Pretraining: a small language model with a learned memory layer in place of one block's FFN, from
// scratch, on the CPU or a GPU (Lample et al. 2019; Berges et al. 2024).
//
// The result is a model folder like any other: teach, undo, ask and the rest open it unchanged.
// Beside it, while it trains and afterwards, lies the run's folder `MODEL.run`: its log,
// TensorBoard events and, until it is done, the last checkpoint. A run that was stopped, however it
// was stopped, goes on from there and ends with the same bytes.
//
// Non-goals: several GPUs or machines, models that do not fit in memory with their optimiser.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "learn/pretrain/evaluation.h"

namespace accrete {

struct PretrainOptions {
  std::filesystem::path data;    // of corpora with `folder = "data"`; empty: they are left out
  bool resume = false;           // go on where a run of this config was stopped, if there was one
  double max_seconds = 0;        // stop after the step that passes it, to be resumed; 0: never
  std::optional<uint64_t> seed;  // instead of the config's
  int threads = 0;               // 0: every core
  std::string device = "cpu";    // or "cuda", "cuda:N", where accrete was built with CUDA
  std::string tool_version;
};

struct PretrainResult {
  bool finished = false;  // false: stopped by max_seconds
  int64_t step = 0, steps = 0;
  int64_t parameters = 0;  // of the whole model, value rows included
  int64_t slots = 0;
  int64_t tokens = 0;  // trained on so far, and per second in this call
  double tokens_per_second = 0;
  double seconds = 0;  // of all calls of this run
  double loss = 0;     // of the last step, in nats a token
  Evaluation evaluation;
  Gate gate;
  std::vector<std::string> left_out;  // corpora that need --data
};

// Throws kUnsupported (a device that is not there), kConflict (`model` exists; a run is there and
// `resume` is not set; a checkpoint of another run), kRefused (the loss is no longer finite),
// kInterrupted (a checkpoint was written), and what reading the config and the corpora throws.
PretrainResult pretrain(const std::filesystem::path& config, const std::filesystem::path& model,
                        const PretrainOptions& options, const Reporter& reporter = {});

}  // namespace accrete
