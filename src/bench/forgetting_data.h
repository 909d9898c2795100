// What the forgetting benchmark teaches and what it holds a model to, of one split.
//
// A retrofitted model is held to the questions and sentences of data/known that it answers; a
// native one to the facts it was pretrained on (data/native), every second one of them in each
// split: as *known sentences* and *neighbours* 300 each in two phrasings that it was trained on, as
// *known questions* all of them in a phrasing that it was not, of each those that it completes
// rightly.
//
// Non-goals: teaching (forgetting.h), scoring (forgetting_score.h).
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "bench/forgetting_plan.h"
#include "bench/forgetting_score.h"
#include "model/language_model.h"

namespace accrete {

struct ForgettingSplit {
  std::vector<Item> taught;     // facts, questions or documents, all that there are
  std::vector<Item> about;      // questions about the documents; their ids are "DOCUMENT/NUMBER"
  std::vector<Item> questions;  // asked to find the known ones
  KeptSet kept;                 // its questions: those that are known
};

// `name` is "dev" or "test". Everything that is there, before anything is asked; throws what
// reading throws.
ForgettingSplit read_split(const std::filesystem::path& data, const std::string& name,
                           const ForgettingProfile& profile, bool native);

// Asks the untouched model: {"questions": ids of those that it answers, of a native model
// "clozes" and "neighbours" too, of questions to be taught "new": ids of those that it gets wrong}.
nlohmann::ordered_json find_known(const LanguageModel& model, const ForgettingSplit& split,
                                  const ForgettingProfile& profile, const Reporter& reporter);

// Keeps in `split` what `known` names.
void select_known(ForgettingSplit& split, const nlohmann::ordered_json& known);

// `count` of what is taught, drawn by `seed`, with the questions about it.
NewSet draw_new(const ForgettingSplit& split, const ForgettingProfile& profile, int64_t seed);

// What the other benchmarks teach and hold a model to, in the order of the files.
struct KnownSets {
  std::vector<Item> facts, clozes;  // clozes: those that the model completes
  std::vector<Item> candidates;     // questions it may know: discover() tells
  std::optional<FewShot> few_shot;  // their form; none: sentences to complete
};
KnownSets known_sets(const LanguageModel& model, const std::filesystem::path& data,
                     const std::string& name, const Reporter& reporter);

}  // namespace accrete
