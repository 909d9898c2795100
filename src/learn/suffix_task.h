// Facts as what has to be computed again in every step: the tokens from the write site on.
//
// A value vector is added at the last token of a subject, so nothing before that token ever
// changes, at any layer: its keys and values are computed once for each distinct beginning of a
// prompt (what all prompts begin with, a chat template, once for all) and kept (key_store.h). Nor
// does the address block change, since it is the lowest one that is written: each step starts above
// it. What a step computes is what LanguageTask computes, up to rounding.
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
#include "learn/key_store.h"
#include "learn/soft_label.h"
#include "memory/accesses.h"
#include "model/examples.h"
#include "model/packed_pass.h"

namespace accrete {

struct SuffixOptions {
  int64_t rows = 256;                       // of a batch
  int64_t cache_bytes = int64_t{96} << 20;  // of keys and values in memory; more lies on disk
  bool low_precision = false;               // products in bfloat16 (packed_pass.h)
  // Those of the beginnings only where these have so many tokens: making copies of the weights
  // then pays for them alone.
  int64_t low_precision_from = 1024;
};

class SuffixTask {
 public:
  // Computes the beginnings. `model` and `examples` must outlive the task; every example needs a
  // marked subject. Throws kInterrupted.
  SuffixTask(const LanguageModel& model, std::span<const Example> examples,
             const SuffixOptions& options, const Reporter& reporter);

  // One pass over some of the examples. Example which[i] receives vector vector_of[i] of `values`
  // (by block [S, d]) at its site. Returns the mean NLL of each one's labels, and adds to
  // `gradient` (by block [S, d]; null: forward only) those of their sum.
  std::vector<double> run(std::span<const int64_t> which, std::span<const int64_t> vector_of,
                          const std::map<int64_t, at::Tensor>& values,
                          std::map<int64_t, at::Tensor>* gradient);

  // What the model predicts at the first label of each of these, without any vector.
  std::vector<SoftLabel> predict(std::span<const int64_t> which);
  // From now on each example's loss is its divergence from its soft label; of all examples, which
  // have one label each.
  void hold(std::vector<SoftLabel> labels) { held_ = std::move(labels); }

  // Tokens that the beginnings have, and those of an example that a step computes.
  int64_t tokens_before() const { return tokens_before_; }
  int64_t tokens_of(int64_t example) const;

 private:
  struct Suffix {
    int64_t begin = -1;   // the site: index of its first token
    int64_t prefix = -1;  // which of the distinct beginnings it has
    at::Tensor h;         // [tokens, d] after the address block
    Accesses accesses;    // of the same tokens, when the model has an overlay
    Gates gate;           // when that is gated
  };
  void read_common(const Reporter& reporter);
  void read_prefixes(std::span<const std::vector<int64_t>> examples_of, int64_t first,
                     int64_t last);
  std::vector<double> run_batch(std::span<const int64_t> which, std::span<const int64_t> vector_of,
                                const std::map<int64_t, at::Tensor>& values,
                                std::map<int64_t, at::Tensor>* gradient);
  void head(const at::Tensor& h, const PackedSequences& sequences, std::span<const int64_t> which,
            std::vector<double>& loss, at::Tensor* gradient);

  std::vector<SoftLabel> held_;                    // of every example, or empty
  std::vector<SoftLabel>* predictions_ = nullptr;  // filled by head() while it is set
  const LanguageModel& model_;
  std::span<const Example> examples_;
  SuffixOptions options_;
  PackedPass pass_;
  std::vector<Suffix> suffixes_;
  std::vector<float> common_;  // keys and values of the common_tokens_ that all examples begin with
  int64_t common_tokens_ = 0;
  std::vector<int64_t> prefix_tokens_;  // of each distinct beginning, without the common part
  KeyStore store_;                      // entry p: beginning p, blocks above the address block
  bool low_beginnings_ = false;
  std::vector<std::vector<float>> room_;
  at::Tensor logits_;
  int64_t tokens_before_ = 0;
};

}  // namespace accrete
