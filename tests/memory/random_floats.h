// Numbers for the tests of kernels, which know no tensors.
#pragma once

#include <cstdint>
#include <vector>

#include "base/rng.h"

namespace accrete::testing {

// Standard normals from our generator: the same on every machine.
inline std::vector<float> normal_floats(int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& v : out) v = rng.normal();
  return out;
}

}  // namespace accrete::testing
