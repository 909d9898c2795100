// Propose: what a teach set would write. The pure part of a teach, without disk.
//
// Facts with a subject take the closed path: value vectors at the subject (value_solver.h),
// selected slots (ranking.h), deposit (deposit.h). Conversations and running text take the stepwise
// path: preconditioned steps on the selected rows (row_solver.h).
//
// Non-goals: deciding whether it is good enough (teach.h, guard.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "io/dataset.h"
#include "learn/deposit.h"
#include "learn/earlier.h"
#include "learn/fact_values.h"
#include "learn/forecast.h"
#include "learn/language_task.h"
#include "learn/ranking.h"
#include "learn/row_solver.h"
#include "learn/subject_prompts.h"
#include "learn/value_solver.h"

namespace accrete {

struct TeachOptions {
  Ranking ranking = Ranking::kInterference;
  int64_t slots = 0;   // rows per memory layer at most; 0: by the size of the teach set
  bool raw = false;    // prompts as they are, without the chat template
  std::string source;  // the teach set's file, which messages name
  uint64_t seed = 0;
  ValueSolverOptions values;
  FactValueOptions facts;  // of models whose facts are addressed by the question
  RowSolverOptions rows;
  DepositOptions deposit;
  int64_t neighbours = 20;  // prompts about other subjects per phrasing, in the log; 0: none
  bool gated = true;        // facts with a subject speak near it only (memory/gate.h)
  double text_share =
      0.5;  // of a text's tokens, the rarest, that its update speaks at; 1: all, and everywhere
  // Anchors nearer than this to another are left out; in units of a sixth of the gate's radius,
  // which is what fits the query space.
  double anchor_spacing = 1;
  double neighbour_weight =
      3;  // nu: how much each of their tokens counts against one of the background
  // beta: the same for the tokens of earlier updates that the new one is heard at. Of a subject
  // they are few, and the gate, which spares the background anyway, is open there.
  double earlier_weight = 300;
  double anchor_log_weight = 0;  // the same for the tokens of anchors (anchors.h)
  bool stepwise = false;         // facts take the stepwise path as well
  double max_seconds = 0;        // refuse rather than take longer; 0: no limit
  double least_share = 0.5;      // of the set that must be left where facts have to be dropped
  ForecastOptions forecast;
  std::string tool_version;
};

// How a proposal may be changed without solving anything again (guard.h tries such variants).
struct Variant {
  double scale = 1;              // of all rows
  double lambda_factor = 1;      // of the deposit's lambda; facts with a subject only
  std::vector<int64_t> dropped;  // items left out, ascending; facts with a subject only
};

struct Proposal {
  Update update;  // layers, anchors and what was taught, without metadata
  int64_t items = 0;
  int64_t teach_tokens = 0;
  // The update of a variant; undefined (empty) for the stepwise path, whose rows can be scaled
  // only.
  std::function<Update(const Variant&)> deposit_again;
  bool stopped = false;  // the stepwise path ended early, at the last state that held every floor
  double check_seconds = 0, step_seconds = 0;  // of the stepwise path: looking at probes; in all
  // Of each item the queries [m, query_width] it is written at; empty for the stepwise path.
  std::vector<at::Tensor> item_queries;
};

// Adds to a log what must stay besides the background, once it is known where rows will speak.
using Protect = std::function<void(AccessLog&, const Speaks&)>;

// `items` must not be empty; `companions` are learned along (earlier.h). `background` is what is to
// stay as it is; so is what `protect` adds, and `anchors`, as far as the options give them weight.
// `prompts`, phrasings of the items that were passed before, save passes. Throws kInvalidArgument,
// kRefused, kInterrupted.
Proposal propose(const LanguageModel& model, std::vector<Item> items, const AccessLog& background,
                 const std::vector<std::string>& names, const TeachOptions& options,
                 const Reporter& reporter, const Protect& protect = {},
                 std::span<const Companion> companions = {}, std::vector<Example> anchors = {},
                 const SubjectPrompts* prompts = nullptr);

// The update of `proposal` as `variant` says. Throws kInvalidArgument when every item is dropped.
Update make_variant(const Proposal& proposal, const Variant& variant);

// Names to make neighbours of, from the model folder.
std::vector<std::string> load_names(const std::filesystem::path& folder);

}  // namespace accrete
