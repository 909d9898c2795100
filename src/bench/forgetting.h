// The forgetting benchmark: teach new facts by every method, and measure what was learned and what
// was lost of what the model knew.
//
// A cell is one result: schedule, split, method, hyper-parameters, seed. Each is one JSON file in
// the output folder, written when it is complete, so a run that was stopped goes on where it was.
// The cells of the development split choose each method's hyper-parameters: those with the highest
// harmonic mean of what was learned (token F1 in phrasings never taught) and what was kept (mean of
// the token F1 of known questions, known sentences and neighbours, each relative to before). The
// chosen ones are run on the test split, for several seeds, and reported.
//
// What is taught and what a model is held to: forgetting_data.h.
//
// Non-goals: pretraining; tables and plots (bench/forgetting_report.py).
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/progress.h"
#include "bench/forgetting_plan.h"
#include "model/language_model.h"

namespace accrete {

struct ForgettingOptions {
  ForgettingProfile profile;
  std::filesystem::path data;        // facts/, known/, text/ ..., background.txt.zst
  std::filesystem::path out;         // made if it is absent
  std::vector<std::string> methods;  // only these; empty: all of the profile
  std::vector<Schedule> schedules;   // only these; empty: both
  int64_t seeds = 0;                 // at most so many of the test split; 0: as the profile says
  double max_seconds = 0;            // begin no further training run after this; 0: no limit
};

// Runs what is missing. Returns {"benchmark": "forgetting", "profile", "cells": [...], "complete":
// true when nothing of the plan is missing, "missing": training runs left}. The model is as before
// at the end. Throws kConflict when `out` holds cells of another model or profile, and what reading
// the data throws.
nlohmann::ordered_json run_forgetting(LanguageModel& model, const ForgettingOptions& options,
                                      const Reporter& reporter);

// Harmonic mean of learned and kept, as above, of a finished cell; -1 of one that diverged.
double tuning_score(const nlohmann::ordered_json& cell);

}  // namespace accrete
