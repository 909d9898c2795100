// Probes held against states of the memory that are not committed: what a candidate touches, and
// what it does there.
//
// What lies below the address block, and so every address, is the same in all states: it is
// computed once a probe. An example none of whose tokens reads anything else in a candidate than
// now has the same outputs bit for bit; only the others are computed again. So the check of a whole
// probe costs what the update touches of it.
//
// Non-goals: deciding (guard.h), predicting (forecast.h), storing probes (measure/probe.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "measure/probe.h"
#include "measure/score.h"

namespace accrete {

// How an example stands in a state.
struct ExampleState {
  bool known = false;  // computed already
  bool exact = false;
  double nll = 0;     // sum over the labels, nats
  double margin = 0;  // smallest lead of a label over the best other token; exact: above 0
};

enum class Gradient { kNone, kNll, kMargin };

// One pass over some examples of a probe.
struct ProbePass {
  std::vector<ExampleState> states;               // in the order asked for
  std::map<int64_t, at::Tensor> output_gradient;  // by block [B, T, d]; with a gradient asked for
};

// What the memory blocks put out for some examples, by block [B, T, d]; blocks without rows are
// absent.
using MemoryOutputs = std::map<int64_t, at::Tensor>;

class WatchedProbe {
 public:
  // `model` must outlive it; its overlay at this moment is the state called "now".
  WatchedProbe(const LanguageModel& model, Probe probe);

  const Probe& probe() const { return probe_; }
  const std::vector<Example>& examples() const { return examples_; }
  const Overlay& overlay_now() const { return model_.memory().overlay; }
  int64_t tokens() const;

  // Examples, ascending, that read something else under `overlay` than now. `change` is the update
  // by which the two differ.
  std::vector<int64_t> touched(const Overlay& overlay, const Update& change,
                               const Reporter& reporter = {});
  // Groups of examples that can pass together: `which` split by the batches they are kept in.
  std::vector<std::vector<int64_t>> groups(std::span<const int64_t> which) const;
  // Of one such group. Tensors are on the CPU.
  MemoryOutputs outputs(const Overlay& overlay, std::span<const int64_t> group);
  ProbePass pass(const MemoryOutputs& outputs, std::span<const int64_t> group, Gradient gradient);
  // Queries of the real tokens of an example [n, query_width], and their accesses.
  at::Tensor queries(int64_t example);
  Accesses accesses(int64_t example);

  // States of `which` under `overlay`, in that order.
  std::vector<ExampleState> states(const Overlay& overlay, std::span<const int64_t> which,
                                   const Reporter& reporter = {});
  // The same now, computed once.
  std::vector<ExampleState> states_now(std::span<const int64_t> which,
                                       const Reporter& reporter = {});

  // The probe's score now; computed from all examples unless it was given.
  double score_now(const Reporter& reporter = {});
  void set_score_now(double score) { score_now_ = score; }
  // The score when `which` are in `states` and all others as now. States of all answers of an item
  // must be among them or unchanged.
  double score_with(std::span<const int64_t> which, std::span<const ExampleState> states,
                    const Reporter& reporter = {});

  // Score in units of examples: what the score of a text divides by (bytes times ln 2), 1 / items.
  double unit() const { return unit_; }

 private:
  struct Part {  // a batch, below the address block
    Batch batch;
    at::Tensor h;        // [B, T, d]
    Accesses accesses;   // [B T, K]
    at::Tensor queries;  // [B T, query_width]
    Gates gate_now;      // undefined without anchors
  };
  Part& part(size_t i);

  const LanguageModel& model_;
  Probe probe_;
  std::vector<Example> examples_;
  std::vector<Batch> batches_;
  std::vector<Part> parts_;
  std::vector<std::pair<size_t, int64_t>> place_;  // of each example: its batch, its row there
  std::vector<std::vector<int64_t>> siblings_;     // of each item its examples (one an answer)
  std::vector<ExampleState> now_;
  std::optional<double> score_now_;
  double unit_ = 1;
};

}  // namespace accrete
