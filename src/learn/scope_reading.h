// The states in which what is taught is asked: what makes the scope of an update (memory/scope.h).
//
// Of every phrasing, alone and behind one of the contexts of sites.h, the network's last states
// where its answer is predicted, without any scoped update.
//
// Non-goals: where the subject is (sites.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "base/progress.h"
#include "learn/lessons.h"

namespace accrete {

class SubjectPrompts;

// What is known before: of each of `examples`, phrasings of the set, what asked_states asks for
// (model/prompt_tree.h), one after another, as scoped updates leave it; undefined: not known. And
// the same examples passed once (subject_prompts.h); null: they were not.
struct KnownStates {
  std::span<const Example> examples;
  at::Tensor silent;
  const SubjectPrompts* prompts = nullptr;
};

// Of each item of the set itself, lessons.own of them, its states [n, w]; `examples` are phrasings
// of `lessons`, whose items beyond the set are passed over. The model must have a scope. Throws
// kInterrupted.
std::vector<at::Tensor> read_scope(const LanguageModel& model, const Lessons& lessons,
                                   std::span<const Example> examples, const KnownStates& known,
                                   const Reporter& reporter);

}  // namespace accrete
