// Facts as what has to be computed again in every step: the tokens from the write site on.
//
// A value vector is added at the last token of a subject, above everything that SubjectPrompts
// keeps; each step starts there. What a step computes is what LanguageTask computes, up to
// rounding.
//
// Non-goals: models that PackedPass does not support, rows read through the lookup
// (language_task.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/progress.h"
#include "learn/subject_prompts.h"
#include "model/examples.h"
#include "model/packed_pass.h"

namespace accrete {

struct SuffixOptions {
  int64_t rows = 256;                       // of a batch
  int64_t cache_bytes = int64_t{96} << 20;  // of keys and values in memory; more lies on disk
  bool low_precision = false;               // products in bfloat16 (packed_pass.h)
};

class SuffixTask {
 public:
  // `prompts` must outlive the task; the overlay is that of its model now.
  SuffixTask(const SubjectPrompts& prompts, const SuffixOptions& options);
  // Makes them itself, as SubjectPrompts does.
  SuffixTask(const LanguageModel& model, std::span<const Example> examples,
             const SuffixOptions& options, const Reporter& reporter);

  // One pass over some of the examples. Example which[i] receives vector vector_of[i] of `values`
  // (by block [S, d]) at its site. Returns the mean NLL of each one's labels, and adds to
  // `gradient` (by block [S, d]; null: forward only) those of their sum, without the examples whose
  // NLL is at most `settled`: theirs is next to nothing and takes as long as any.
  std::vector<double> run(std::span<const int64_t> which, std::span<const int64_t> vector_of,
                          const std::map<int64_t, at::Tensor>& values,
                          std::map<int64_t, at::Tensor>* gradient, double settled = 0);

  const SubjectPrompts& prompts() const { return *prompts_; }
  // Tokens that the beginnings have, and those of an example that a step computes.
  int64_t tokens_before() const { return prompts_->tokens_before(); }
  int64_t tokens_of(int64_t example) const {
    return prompts_->tokens_of(static_cast<size_t>(example));
  }

 private:
  SuffixTask(std::unique_ptr<const SubjectPrompts> own, const SuffixOptions& options)
      : SuffixTask(*own, options) {
    own_ = std::move(own);
  }
  std::vector<double> run_batch(std::span<const int64_t> which, std::span<const int64_t> vector_of,
                                const std::map<int64_t, at::Tensor>& values,
                                std::map<int64_t, at::Tensor>* gradient, double settled);
  void head(const at::Tensor& h, const PackedSequences& sequences, std::span<const int64_t> which,
            std::vector<double>& loss, at::Tensor* gradient);

  std::unique_ptr<const SubjectPrompts> own_;  // when it made them
  const SubjectPrompts* prompts_;
  const LanguageModel& model_;
  std::span<const Example> examples_;
  SuffixOptions options_;
  Gates gates_;  // of all examples' tokens from their sites on
  PackedPass pass_;
  SubjectPrompts::Batch batch_;
  at::Tensor logits_;
};

}  // namespace accrete
