#include "model/answer_pass.h"

#include <ATen/ATen.h>

namespace accrete {

at::Tensor AnswerPass::run(const Input& in, const at::Tensor& wanted) {
  const Transformer& net = model_.net();
  const FfnSide side = in.side != nullptr ? *in.side : model_.side(in.mask);
  ForwardOptions forward;
  forward.positions = in.positions;
  forward.key_mask = in.key_mask;
  forward.cache = cached_ ? &cache_ : nullptr;
  forward.side = &side;
  const auto h = net.run(net.embed(in.ids.to(net.device())), 0, net.config().blocks, forward);
  return h.reshape({-1, h.size(-1)}).index_select(0, wanted.to(net.device()));
}

}  // namespace accrete
