// Value vectors: what the memory should say at the subject of a fact so that the model gives its
// completion.
//
// Every subject s has one vector v_s per memory layer, added to that layer's output at the last
// token of the subject, in every phrasing of every fact about it. Each step shows each fact in one
// phrasing, by turns of those that are not right yet, and takes an elementwise Adam step on v_s
// alone: what makes one phrasing right has to serve them all, so what is learned is the fact and
// not the wording. Nothing in the network changes. (Kin: the value optimisation of ROME, Meng et
// al. 2022, for one layer and one fact.)
//
// Non-goals: putting the vectors into slots (deposit.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

#include "base/progress.h"
#include "learn/language_task.h"

namespace accrete {

class SubjectPrompts;

struct ValueSolverOptions {
  // Of a subject at most, for each fact about it; 0: 45 in a chat, where the model's own way to
  // begin an answer has to be overcome; of raw text 20. A subject that has not settled by then, as
  // those of many questions have not, begins again: `more_steps` with the rate falling anew.
  int64_t steps = 0;
  int64_t more_steps = 25;
  int64_t most_facts = 4;  // facts beyond these bring a subject no more steps
  // First step length per coordinate, in units of the root mean square of the hidden states that
  // the vectors are added to; falls linearly to `final_rate` of it.
  double rate = 0.4;
  double final_rate = 0.3;
  double beta1 = 0.5;
  double beta2 = 0.9;
  double settled = 0.02;       // a subject whose every phrasing was last seen below this loss rests
  int64_t batch_tokens = 256;  // of a pass on the CPU; on a device more
  // What comes before a subject's last token is computed once (suffix_task.h), where the model can
  // be run so; false: every token in every step, to compare. The results agree up to rounding.
  bool cached = true;
  // The products in bfloat16 where the processor is faster at it, in TF32 on a GPU; what is
  // written is checked in the model's own type either way. The results agree as far as bfloat16
  // does.
  bool low_precision = true;
  int64_t cache_bytes = int64_t{96} << 20;  // of what is kept in memory; more lies on disk
};

struct Values {
  std::map<int64_t, at::Tensor> by_block;  // [S, d] float32
  int64_t tokens = 0;                      // tokens passed forward and backward
  int64_t steps = 0;                       // examples shown, over all steps
};

// `examples[i].item` is the fact, `subject_of` its subject in [0, subjects); S = `subjects`. Every
// example must have a subject marked. The loss of a subject is the sum of its facts' losses.
// `prompts`, when not null, are those of the examples, passed before. Throws kInterrupted.
Values solve_values(const LanguageModel& model, const std::vector<Example>& examples,
                    const std::map<int64_t, int64_t>& subject_of, int64_t subjects,
                    const ValueSolverOptions& options, const Reporter& reporter,
                    const SubjectPrompts* prompts = nullptr);

// Where the example's vector is written: the last token of its subject's span; -1: no subject.
int64_t last_subject_token(const Example& example);
// For each token of a batch the subject whose vector it receives, [B T, 1] int32: the last token of
// the subject's span, else -1.
at::Tensor write_sites(const Batch& batch, const std::vector<Example>& examples,
                       const std::map<int64_t, int64_t>& subject_of);

}  // namespace accrete
