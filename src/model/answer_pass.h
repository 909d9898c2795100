// What a model answers: its last states where updates are scoped.
//
// An update without a scope speaks wherever its subject was read. A scoped one (memory/scope.h) is
// an answer to some questions about its subject, so there are two streams: the network with every
// update, and the network without those that have a scope. They are the same up to the first token
// at which a scoped update is heard. From there on the first is the model's answer at tokens that
// are in scope of a subject heard before, and the second, bit for bit, at all others. Where nothing
// scoped is heard, which is nearly everywhere, there is one pass.
//
// Non-goals: gradients; passes that start above the address block (learn/probe_watch.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "model/language_model.h"

namespace accrete {

class AnswerPass {
 public:
  // `model` must outlive it. `cached`: each run goes on behind the one before.
  explicit AnswerPass(const LanguageModel& model, bool cached = false)
      : model_(model), cached_(cached) {}

  struct Input {
    at::Tensor ids;                 // [B, T] int64
    at::Tensor mask;                // [B, T] bool, as SideOptions::mask
    at::Tensor positions;           // as ForwardOptions
    at::Tensor key_mask;            // likewise
    const FfnSide* side = nullptr;  // added by the caller instead of what an overlay says
  };
  // Last states [L, d], before the final norm, at the flat positions b T + t that `wanted` [L]
  // int64 names. Call it under InferenceMode or NoGradGuard.
  at::Tensor run(const Input& in, const at::Tensor& wanted);
  // What was read so far, which was one row, is what `rows` rows begin with. Cached only.
  void repeat(int64_t rows);

 private:
  const LanguageModel& model_;
  bool cached_;
  KvCache with_;
  std::optional<KvCache> without_;           // once something scoped was heard
  std::vector<std::set<int64_t>> subjects_;  // of each row, those heard in runs before
};

// For passes of other shapes: what makes one stream of the two.

// The subjects heard at some tokens in a row, `heard` of each, and `before` them; ascending.
std::vector<int64_t> subjects_of(std::span<const std::vector<int64_t>> heard,
                                 std::set<int64_t> before = {});
// Last states h [n, d], before the final norm, as scopes are made of: [n, w].
at::Tensor scope_states(const LanguageModel& model, const at::Tensor& h);
// h [L, d], last states with every update: row place[i] is replaced by row i of `other` [n, d], the
// same without scoped updates, where none of subjects[i] of `overlay` is in scope there.
at::Tensor within_scope(const LanguageModel& model, const Overlay& overlay, const at::Tensor& h,
                        std::span<const int64_t> place, const at::Tensor& other,
                        std::span<const std::vector<int64_t>> subjects);

}  // namespace accrete
