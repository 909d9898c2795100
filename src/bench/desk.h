// The benchmark of what people teach: many facts about one thing, answers about nothing in
// particular, long answers, thousands of facts; asked in words that were not taught, used in other
// forms, corrected; and everything else, which is to stay as it was.
//
// A row is one section, seed, method and setting. Finished rows are kept in a file, so a run that
// was stopped goes on where it was. With a grid, finetuning is tried at all its settings on the
// first seed, and on the others at the one that said most untaught wordings there: a choice in its
// favour.
//
// Non-goals: tables (verbs/bench_desk.cc).
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/progress.h"
#include "bench/desk_measure.h"
#include "model/language_model.h"

namespace accrete {

struct DeskProfile {
  struct Part {
    std::string section;
    std::vector<std::string> methods;
    int64_t seeds = 0;  // at most; 0: all
  };
  std::string name;
  int64_t seeds = 1;
  bool grid = false;  // all settings of finetuning; else the one that was best on dev
  DeskLimits limits;
  std::vector<Part> parts;
};
// "quick", "rates" (finetuning at every rate and number of epochs, to choose by), "hour", "full".
// Throws kInvalidArgument.
DeskProfile desk_profile(const std::string& name);

struct DeskOptions {
  DeskProfile profile;
  std::filesystem::path data;
  std::string split = "test";
  std::vector<std::string> sections;  // only these, even if the profile has them not; empty: all
  std::vector<std::string> methods;   // these, of every section; empty: as the profile says
  int64_t seeds = 0;                  // 0: as the profile says
  uint64_t first_seed = 0;
  std::filesystem::path work;  // finished rows; empty: none are kept
  OpenOptions open;
};

// Throws kInvalidArgument (section, method, a model without a memory of facts), kConflict (`work`
// is of another model, split or profile), kInterrupted. Returns {"benchmark": "desk", "setup",
// "rows": [...]}.
nlohmann::ordered_json run_desk(const LanguageModel& model, const DeskOptions& options,
                                const Reporter& reporter);

// Means over the seeds, one row for each section and method: of finetuning the setting that the
// first seed says most untaught wordings with.
std::vector<nlohmann::ordered_json> desk_means(const nlohmann::ordered_json& rows);

}  // namespace accrete
