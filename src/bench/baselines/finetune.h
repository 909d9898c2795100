// Finetuning of the network's own weights: the baselines that memory layers are measured against.
//
// - full: every weight trains.
// - LoRA (Hu et al. 2021): a branch of low rank beside each of the seven linear layers of a block;
//   the factor next to the input begins uniform in +-1/sqrt(in), the other at zero.
// - replay: background text in every batch.
// - EWC (Kirkpatrick et al. 2017): a quadratic pull back to the first weights, by the diagonal of
//   the empirical Fisher information on background text.
//
// The loss of a batch is the mean over its examples of the mean loss of an example's labels.
//
// Non-goals: speed beyond what a fair comparison needs; writing checkpoints.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "bench/baselines/learner.h"
#include "bench/baselines/optimizer.h"
#include "model/examples.h"
#include "model/language_model.h"

namespace accrete {

struct FinetuneOptions {
  OptimizerOptions optimizer;
  int64_t rank = 0;          // of LoRA; 0: all weights train
  double alpha = 32;         // LoRA's scale is alpha / rank
  int64_t batch = 32;        // examples of a step
  double replay = 0;         // share of background examples in a batch, in [0, 1)
  double ewc = 0;            // strength: adds ewc F (w - w_0) to the gradient
  int64_t ewc_samples = 64;  // background examples for F
  uint64_t seed = 0;
  bool raw = true;             // prompts without the chat template
  bool low_precision = false;  // products in bfloat16 (low_precision.h)
  // Called before every step with its examples, in order. May be empty.
  std::function<void(std::span<const Example>)> observe;
};

class Finetune : public Learner {
 public:
  // `model` must outlive this. `background` is for replay and EWC, and may be empty without them.
  // Throws kInvalidArgument.
  Finetune(LanguageModel& model, std::vector<Example> background, const FinetuneOptions& options);
  ~Finetune() override;
  Finetune(const Finetune&) = delete;
  Finetune& operator=(const Finetune&) = delete;

  void learn(std::span<const Item> items, int64_t passes, const Reporter& reporter) override;
  LearnerCost cost() const override { return cost_; }

  // What trains, by name: weights as in the checkpoint, LoRA's factors as `MODULE.lora_A` and
  // `MODULE.lora_B`.
  const std::vector<std::pair<std::string, at::Tensor>>& parameters() const { return parameters_; }

 private:
  // The gradient of `share` times the summed loss of `examples` is added to `gradients`; returns
  // the loss summed over the examples.
  double accumulate(std::span<const Example> examples, double share,
                    std::vector<at::Tensor>& gradients);
  double step(std::span<const Example> examples);
  void measure_fisher();

  LanguageModel& model_;
  Transformer original_;
  std::vector<Example> background_;
  FinetuneOptions options_;
  std::vector<std::pair<std::string, at::Tensor>> parameters_;
  std::vector<at::Tensor> tensors_;
  std::vector<at::Tensor> fisher_, anchor_;  // EWC: F and w_0
  std::unique_ptr<Optimizer> optimizer_;
  Rng order_, replay_;
  LearnerCost cost_;
};

// Background examples: windows of `tokens` tokens from the documents' beginnings, every token but
// the first a label; at most `limit`, drawn by `rng`.
std::vector<Example> background_examples(const LanguageModel& model,
                                         std::span<const std::string> documents, int64_t tokens,
                                         size_t limit, Rng rng);

}  // namespace accrete
