// Random float32 tensors from the project's own generator, for first weights.
//
// Non-goals: libtorch's generators, whose streams are not ours to keep.
#pragma once

#include <ATen/core/Tensor.h>

#include "base/rng.h"

namespace accrete {

// Mean 0 and this standard deviation.
at::Tensor random_normal(at::IntArrayRef shape, double deviation, Rng rng);
// Evenly in [-bound, bound).
at::Tensor random_uniform(at::IntArrayRef shape, double bound, Rng rng);

}  // namespace accrete
