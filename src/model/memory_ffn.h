// A block's feed-forward network that is a memory layer with learned keys: y = sum_i w_i V_i over
// the slots that the input reads (Lample et al. 2019). Part of a base model, made by pretraining;
// updates add rows of the same table through the overlay (language_model.h).
//
// Non-goals: training (learn/pretrain), the overlay.
#pragma once

#include <ATen/core/Tensor.h>

#include "memory/product_keys.h"

namespace accrete {

struct MemoryFfn {
  ProductKeyOptions options;
  at::Tensor projection;  // [d, heads * query_width]
  at::Tensor keys;        // [heads, 2, half_keys, query_width / 2]
  at::Tensor bias;        // [heads, 2, half_keys]
  at::Tensor values;      // [N, d], as sparse_rows.h reads them; the others are float32
  ProductKeys lookup;     // of the tensors above, with a mean of zero

  // Makes `lookup` anew after one of the tensors was replaced. Throws kFormat on shapes that do not
  // fit.
  void renew();
  // x [..., d] of any float type; the result has its type. Differentiable in x and the tensors.
  at::Tensor operator()(const at::Tensor& x) const;
};

}  // namespace accrete
