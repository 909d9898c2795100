// Held prompts: what else a model knows about the subjects of a teach set, to be left as it is.
//
// One vector at a subject that ends "The genre of X is" in a new answer easily ends "The native
// language of X is" in it too: the subject says it whatever is asked. So each subject is put into
// some general prompts, and where the model's prediction is knowledge of this subject, the solver
// holds it there (value_solver.h). It is that when it lies far from the mean prediction for other
// names; and it is held only when it is not what a fact to be taught asks for. (Kin: the essence
// term of ROME, Meng et al. 2022, whose one prompt is "X is a".)
//
// Non-goals: conversations, where the first token of a reply says little.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "learn/soft_label.h"
#include "model/examples.h"

namespace accrete {

struct HoldOptions {
  int64_t names = 16;         // other names, whose mean prediction is what is usual
  double least_known = 0.3;   // probability that must be above the usual
  double most_overlap = 0.3;  // with what a phrasing of a fact asks for; beyond, it is not held
};

struct Held {
  std::vector<Example> examples;  // raw text, one label each; `item`: of a fact about the subject
  std::vector<SoftLabel> labels;  // what the model predicts there
};

// `facts` are the teach set's examples, subject_of[item] their subjects, whose texts are
// `subjects`. Throws kInterrupted.
Held find_held(const LanguageModel& model, std::span<const Example> facts,
               const std::map<int64_t, int64_t>& subject_of, std::span<const std::string> subjects,
               std::span<const std::string> names, const HoldOptions& options,
               const Reporter& reporter);

}  // namespace accrete
