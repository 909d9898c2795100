#include "learn/below_address.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace accrete {

BelowAddress below_address(const LanguageModel& model, const Batch& batch) {
  const at::NoGradGuard no_grad;
  const Memory& memory = model.memory();
  const Transformer& net = model.net();
  BelowAddress out;
  out.h = net.run(net.embed(batch.ids.to(net.device())), 0, memory.address_block);
  // One block further, only to see the input of the address block's FFN.
  const FfnSide see = [&](int64_t, const at::Tensor& x) -> at::Tensor {
    const auto flat = x.reshape({-1, x.size(-1)});
    out.accesses = memory.lookup(flat, batch.mask.reshape({-1}));
    const auto queries = memory.queries(flat);
    out.gate = memory.overlay.gates(memory.gate, queries);
    out.queries = queries.to(at::kCPU);
    return {};
  };
  ForwardOptions forward;
  forward.side = &see;
  net.run(out.h, memory.address_block, memory.address_block + 1, forward);
  return out;
}

}  // namespace accrete
