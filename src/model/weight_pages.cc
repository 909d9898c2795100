#include "model/weight_pages.h"

#include "base/pages.h"

namespace accrete {

void forget_weights(const Transformer& net) {
  for (const TensorView* view : net.base_tensors()) forget_pages(view->bytes);
}

void forget_weight(const Transformer& net, const at::Tensor& weight) {
  for (const TensorView* view : net.base_tensors())
    if (view->bytes.data() == weight.const_data_ptr()) forget_pages(view->bytes);
}

}  // namespace accrete
