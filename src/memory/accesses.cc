#include "memory/accesses.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/format.h"

namespace accrete {

Accesses concat(const std::vector<Accesses>& parts) {
  std::vector<at::Tensor> slots, weights;
  for (const Accesses& part : parts) {
    if (!part.defined()) continue;
    if (!slots.empty() && part.per_token() != slots.front().size(1))
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("cannot join logs of {} and {} accesses a token",
                                  slots.front().size(1), part.per_token()),
                  "do the logs come from the same memory layer?");
    slots.push_back(part.slots);
    weights.push_back(part.weights);
  }
  if (slots.empty()) return {};
  if (slots.size() == 1) return {slots.front(), weights.front()};
  return {at::cat(slots, 0), at::cat(weights, 0)};
}

Accesses select_tokens(const Accesses& accesses, const at::Tensor& which) {
  return {accesses.slots.index_select(0, which), accesses.weights.index_select(0, which)};
}

}  // namespace accrete
