#include "memory/random_tensors.h"

#include <ATen/ATen.h>

namespace accrete {

at::Tensor random_normal(at::IntArrayRef shape, double deviation, Rng rng) {
  auto out = at::empty(shape, at::kFloat);
  float* p = out.data_ptr<float>();
  const auto scale = static_cast<float>(deviation);
  for (int64_t i = 0; i < out.numel(); ++i) p[i] = scale * rng.normal();
  return out;
}

at::Tensor random_uniform(at::IntArrayRef shape, double bound, Rng rng) {
  auto out = at::empty(shape, at::kFloat);
  float* p = out.data_ptr<float>();
  for (int64_t i = 0; i < out.numel(); ++i)
    p[i] = static_cast<float>(bound) * (2 * rng.uniform() - 1);
  return out;
}

}  // namespace accrete
