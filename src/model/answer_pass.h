// What a model answers: the network's last states, with what the active updates add.
//
// Non-goals: gradients; passes that start above the address block (learn/probe_watch.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "model/language_model.h"

namespace accrete {

class AnswerPass {
 public:
  // `model` must outlive it. `cached`: each run goes on behind the one before.
  explicit AnswerPass(const LanguageModel& model, bool cached = false)
      : model_(model), cached_(cached) {}

  struct Input {
    at::Tensor ids;                 // [B, T] int64
    at::Tensor mask;                // [B, T] bool, as LanguageModel::side takes it
    at::Tensor positions;           // as ForwardOptions
    at::Tensor key_mask;            // likewise
    const FfnSide* side = nullptr;  // added by the caller instead of what an overlay says
  };
  // Last states [L, d], before the final norm, at the flat positions b T + t that `wanted` [L]
  // int64 names. Call it under InferenceMode or NoGradGuard.
  at::Tensor run(const Input& in, const at::Tensor& wanted);
  // What was read so far, which was one row, is what `rows` rows begin with. Cached only.
  void repeat(int64_t rows) { cache_ = cache_.repeated(rows); }

 private:
  const LanguageModel& model_;
  bool cached_;
  KvCache cache_;
};

}  // namespace accrete
