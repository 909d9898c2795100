// Teach: one transaction. Detect slots, write few rows, validate, commit or leave everything as it
// was.
//
// Facts with a subject take the closed path: value vectors at the subject (value_solver.h),
// selected slots (ranking.h), deposit (deposit.h). Conversations and running text take the stepwise
// path: preconditioned steps on the selected rows (row_solver.h). Value rows only: every base
// weight and every row that was not selected stays bit-identical.
//
// Non-goals: the command line, making probes (eval/), ordering of updates (ledger/).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "eval/probe.h"
#include "io/dataset.h"
#include "learn/deposit.h"
#include "learn/language_task.h"
#include "learn/ranking.h"
#include "learn/row_solver.h"
#include "learn/value_solver.h"
#include "ledger/ledger.h"
#include "model/memory_files.h"

namespace accrete {

struct TeachOptions {
  Ranking ranking = Ranking::kInterference;
  int64_t slots = 0;  // rows per memory layer at most; 0: by the size of the teach set
  bool raw = false;   // prompts as they are, without the chat template
  uint64_t seed = 0;
  ValueSolverOptions values;
  RowSolverOptions rows;
  DepositOptions deposit;
  int64_t neighbours = 20;    // prompts about other subjects per phrasing, in the log; 0: none
  bool gated = true;          // facts with a subject speak near it only (memory/gate.h)
  double anchor_spacing = 1;  // anchors nearer than this to another are left out
  double neighbour_weight =
      3;  // nu: how much each of their tokens counts against one of the background
  double earlier_weight = 3;  // beta: the same for the tokens that earlier updates were taught with
  bool stepwise = false;      // facts take the stepwise path as well
  double max_seconds = 0;     // refuse rather than take longer; 0: no limit
  std::string tool_version;
};

struct KeptScore {
  double before = 0;
  double after = 0;
  double kept = 1;  // relative to the probe's base
  std::optional<double> floor;
};

struct TeachResult {
  std::string update;  // id; empty when nothing was committed
  int64_t items = 0;
  double learned_before = 0;  // share of taught phrasings answered exactly
  double learned_after = 0;
  std::optional<double> asked_before,
      asked_after;  // the same for phrasings that are asked and never taught, if the set has any
  std::map<std::string, KeptScore> kept;
  int64_t rows = 0;
  int64_t parameters = 0;    // rows x width
  int64_t teach_tokens = 0;  // tokens passed forward and backward
  double seconds = 0;
  int64_t peak_bytes = 0;  // largest resident memory of the process
};

// What a teach set would write, before anything is committed: the pure part, without disk.
struct Proposal {
  Update update;  // layers without metadata
  int64_t items = 0;
  int64_t teach_tokens = 0;
  Accesses taught_accesses;  // what the written sites read, for the log; undefined when none
};
// `items` must not be empty. Throws kInvalidArgument, kRefused,
// kInterrupted.
Proposal propose(const LanguageModel& model, std::vector<Item> items, const AccessLog& background,
                 const std::vector<std::string>& names, const TeachOptions& options,
                 const Reporter& reporter);

// Checks a teach set before anything is computed: something to learn, no two answers to one
// question. Throws kInvalidArgument with the lines.
void check_teach_set(const Dataset& data);

// The whole transaction on a model folder. Throws kRefused (a floor would break; nothing changed),
// kConflict (another writer), kInterrupted, and what reading throws.
TeachResult teach(const std::filesystem::path& folder, const Dataset& data, const OpenOptions& open,
                  const TeachOptions& options, const Reporter& reporter);

// The log that protects: background, neighbours, and what earlier active updates were taught with.
AccessLog load_protected_log(const LanguageModel& model, const Ledger& ledger,
                             double earlier_weight);

// Names to make neighbours of, from the model folder.
std::vector<std::string> load_names(const std::filesystem::path& folder);

int64_t peak_memory_bytes();

}  // namespace accrete
