// What the forgetting benchmark runs: profiles, methods, and the settings each method is tried in.
//
// A setting is a method's name with its hyper-parameters. Those of a method's grid are tried on the
// development facts; the one that learns and keeps best there is reported on the test facts.
//
// Non-goals: running (forgetting.h).
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/baselines/learner.h"
#include "memory/access_log.h"
#include "model/examples.h"
#include "model/language_model.h"

namespace accrete {

enum class Schedule {
  kOneGo,   // all facts at once
  kStream,  // one small batch after another, none seen again
};
std::string schedule_name(Schedule schedule);  // "one_go", "stream"
// Throws kInvalidArgument with the names that exist.
Schedule parse_schedule(const std::string& name);

// One line of a method's grid: hyper-parameters by name, and after how many passes over what is
// taught it is scored (in one go one training run gives a result at each of them).
struct GridLine {
  nlohmann::ordered_json hyper;
  std::vector<int64_t> passes = {1};
};

// What is taught.
enum class TeachKind {
  kFacts,      // data/facts: several phrasings of each, others to ask in
  kQuestions,  // data/questions that the model gets wrong, asked behind demonstrations
  kDocuments,  // data/documents, asked questions about them that are never taught
};

struct MethodPlan {
  std::string method;
  Schedule schedule = Schedule::kOneGo;
  std::vector<GridLine> grid;
  int64_t seeds = 1;
};

struct ForgettingProfile {
  std::string name;
  TeachKind teach = TeachKind::kFacts;
  int64_t facts = 200;             // questions, documents
  int64_t updates = 100;           // of a stream
  int64_t known_limit = 0;         // questions and clozes of each kind at most; 0: all
  bool unknown_questions = false;  // F1 over the questions it does not answer as well
  bool abilities = false;          // data/abilities too, on the test split
  int64_t text_bytes = 40000;      // of WikiText-2
  int64_t tuning_text_bytes = 10000;
  std::vector<MethodPlan> methods;
};

// "smoke", "small", "abilities" (one go, the settings that "small" chose), "questions" and
// "documents" (one go, of what their names say), "full". `native`: for a model that `accrete
// pretrain` made, which is small and was trained at high rates: wider grids. Throws
// kInvalidArgument with the names that exist, kUnsupported for a native model that no questions can
// be asked.
ForgettingProfile forgetting_profile(const std::string& name, bool native = false);

// What learners are made of.
struct LearnerParts {
  AccessLog background;
  std::vector<std::string> names;
  std::vector<Example> replay;  // background text as examples
  bool low_precision = false;   // products of the baselines' training in bfloat16
};
// Throws kInvalidArgument for a method that does not exist.
std::unique_ptr<Learner> make_learner(LanguageModel& model, const std::string& method,
                                      const nlohmann::ordered_json& hyper,
                                      const LearnerParts& parts, uint64_t seed);

}  // namespace accrete
