#include "model/memory_ffn.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "memory/learned_lookup.h"
#include "memory/sparse_rows.h"

namespace accrete {

void MemoryFfn::renew() {
  lookup = ProductKeys::from_tensors(options, at::zeros({projection.size(0)}, projection.options()),
                                     projection, keys, bias);
}

at::Tensor MemoryFfn::operator()(const at::Tensor& x) const {
  const auto flat = x.reshape({-1, x.size(-1)});
  // Weights are constants unless someone trains below or here.
  const bool trains =
      at::GradMode::is_enabled() && (x.requires_grad() || projection.requires_grad() ||
                                     keys.requires_grad() || bias.requires_grad());
  const Accesses accesses =
      trains ? learned_lookup(at::mm(flat.to(at::kFloat), projection), keys, bias, options.top_k)
             : lookup.lookup(flat);
  return weighted_gather(values, accesses.slots, accesses.weights)
      .view(x.sizes())
      .to(x.scalar_type());
}

}  // namespace accrete
