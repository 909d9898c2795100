// What a batch is up to the address block, the same whatever is taught: computed once, by teach
// sets (language_task.h) and by probes (probe_watch.h).
//
// Non-goals: keeping it; prompts without a batch (reading.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "memory/accesses.h"
#include "model/examples.h"
#include "model/language_model.h"

namespace accrete {

struct BelowAddress {
  at::Tensor h;        // [B, T, d] at the address block, where the network computes
  Accesses accesses;   // of every token; none of padding
  at::Tensor queries;  // [B T, query_width]
  Gates gate;          // of the model's own overlay; undefined when it is not gated
};

// Without gradients. Throws when the model has no memory layers.
BelowAddress below_address(const LanguageModel& model, const Batch& batch);

}  // namespace accrete
