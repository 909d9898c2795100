// Teach: one transaction. Detect slots, write few rows, validate, commit or leave everything as it
// was.
//
// What it would write comes from propose.h. Value rows only: every base weight and every row that
// was not selected stays bit-identical.
//
// Non-goals: the command line, making probes (measure/), ordering of updates (ledger/).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "io/dataset.h"
#include "learn/earlier.h"
#include "learn/forecast.h"
#include "learn/propose.h"
#include "ledger/ledger.h"
#include "measure/probe.h"
#include "model/memory_files.h"

namespace accrete {

struct KeptScore {
  double before = 0;
  double after = 0;
  double kept = 1;  // relative to the probe's base
  std::optional<double> floor;
};

// Slots that an update writes and an earlier one wrote too.
struct Overlap {
  std::string update, tag, source;
  int64_t shared = 0;
  double share = 0;   // of the rows of the new update
  double cosine = 0;  // of both updates' rows there; below 0: they pull in opposite directions
};

// What became of the documents of a set.
struct DocumentCounts {
  int64_t taught = 0;     // new, or in the place of an earlier version
  int64_t replaced = 0;   // of these the latter
  int64_t unchanged = 0;  // there already, as they are
  int64_t passages = 0;   // of those that are taught
};

struct TeachResult {
  std::string update;  // id; empty when nothing was committed
  int64_t items = 0;
  // Share of taught phrasings answered exactly; of running text and conversations, the share of
  // their tokens that are the model's first choice.
  double learned_before = 0;
  double learned_after = 0;
  std::optional<double> asked_before,
      asked_after;  // the same for phrasings that are asked and never taught, if the set has any
  std::map<std::string, KeptScore> kept;
  std::vector<Conflict> conflicts;  // corrections: what active updates answered otherwise
  std::vector<Overlap> overlaps;    // most slots first
  std::map<std::string, ProbeForecast> forecast;  // made before the whole probes were checked
  std::string change;                  // what the guard changed about the proposal; empty: nothing
  std::vector<int64_t> dropped_lines;  // facts it left out
  std::vector<std::string> remarks;    // on the set, in words
  // Of facts: how many each subject has, as given or found; "": none. Empty for memory layers.
  std::map<std::string, int64_t> subjects;
  int64_t left = 0;  // of these, questions that are left to the model
  DocumentCounts documents;
  double check_share = 0;  // of the time of the steps that looking at probes took
  int64_t companions = 0;  // facts of earlier updates that were learned along
  int64_t rows = 0;
  int64_t parameters = 0;    // rows x width
  int64_t teach_tokens = 0;  // tokens passed forward and backward
  double seconds = 0;
  double measuring_seconds = 0;  // of these: what was answered before, and is now
  int64_t peak_bytes = 0;        // largest resident memory of the process
  // The model in the state that was committed; null for memory layers.
  std::shared_ptr<const LanguageModel> after;
};

// A teach up to the forecast.
struct PlanResult {
  int64_t items = 0;
  std::map<std::string, ProbeForecast> forecast;
  std::map<std::string, std::optional<double>> floors;
  std::map<std::string, bool> holds;  // whether the floor would, by the forecast
  int64_t rows = 0;
  int64_t parameters = 0;
  std::vector<Overlap> overlaps;
  std::vector<Conflict> conflicts;
  int64_t companions = 0;
  std::vector<std::string> remarks;
  std::map<std::string, int64_t> subjects;  // as a TeachResult's
  DocumentCounts documents;
  double seconds = 0;
};

// Checks a teach set before anything is computed: something to learn, no two answers to one
// question. Throws kInvalidArgument with the lines.
void check_teach_set(const Dataset& data);

// What a teach would do; nothing is changed, and no lock is taken. Throws what reading throws.
PlanResult plan(const std::filesystem::path& folder, const Dataset& data, const OpenOptions& open,
                const TeachOptions& options, const Reporter& reporter);

// The whole transaction on a model folder. Throws kRefused (a floor would break; nothing changed),
// kConflict (another writer), kInterrupted, and what reading throws.
TeachResult teach(const std::filesystem::path& folder, const Dataset& data, const OpenOptions& open,
                  const TeachOptions& options, const Reporter& reporter);

int64_t peak_memory_bytes();

}  // namespace accrete
