// Value vectors: what the memory should say at the subject of a fact so that the model gives its
// completion.
//
// Every fact f has one vector v_f per memory layer, added to that layer's output at the last token
// of the subject, in every phrasing. Each step shows each fact in one phrasing, by turns, and takes
// an Adam step on v_f alone; what makes one phrasing right has to serve them all, so what is
// learned is the fact and not the wording. Nothing in the network changes. (Kin: the value
// optimisation of ROME, Meng et al. 2022, for one layer and one fact at a time.)
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

struct ValueSolverOptions {
  int64_t steps = 15;  // shows of each fact
  double rate = 0.3;   // first step length per coordinate; falls linearly to `final_rate` of it
  double final_rate = 0.3;
  double beta1 = 0.7;
  double beta2 = 0.9;
  double settled = 0.02;  // a fact whose every phrasing was last seen below this loss rests
  int64_t batch_tokens = 512;
};

struct Values {
  std::map<int64_t, at::Tensor> by_block;  // [F, d] float32
  std::vector<double> loss;                // [F] last seen mean NLL, over phrasings
  int64_t tokens = 0;                      // tokens passed forward and backward
};

// `examples[i].item` is the fact; every example must have a subject. F = `facts`.
Values solve_values(const LanguageModel& model, const std::vector<Example>& examples, int64_t facts,
                    const ValueSolverOptions& options, const Reporter& reporter);

// For each token of a batch the fact whose vector it receives, [B T, 1] int32: the last token of
// the subject, else -1.
at::Tensor write_sites(const Batch& batch, const std::vector<Example>& examples);

}  // namespace accrete
