// Shared by the tests of the memory layer.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <string>

#include "base/rng.h"
#include "memory/accesses.h"

namespace accrete::testing {

// Standard normals from our generator: the same on every machine.
inline at::Tensor normals(at::IntArrayRef shape, uint64_t seed) {
  auto out = at::empty(shape, at::kFloat);
  Rng rng(seed);
  float* to = out.mutable_data_ptr<float>();
  for (int64_t i = 0; i < out.numel(); ++i) to[i] = rng.normal();
  return out;
}

// T tokens with K accesses each to distinct random slots of N; a share `holes` of them is -1.
inline Accesses random_accesses(int64_t T, int64_t K, int64_t N, uint64_t seed, double holes = 0) {
  Accesses out{at::empty({T, K}, at::kInt), at::empty({T, K}, at::kFloat)};
  Rng rng(seed);
  int32_t* slot = out.slots.mutable_data_ptr<int32_t>();
  float* weight = out.weights.mutable_data_ptr<float>();
  for (int64_t t = 0; t < T; ++t)
    for (int64_t k = t * K; k < (t + 1) * K; ++k) {
      const bool hole = rng.uniform() < holes;
      bool taken = true;
      while (taken) {
        slot[k] = static_cast<int32_t>(rng.below(static_cast<uint64_t>(N)));
        taken = false;
        for (int64_t j = t * K; j < k; ++j) taken = taken || slot[j] == slot[k];
        if (hole) break;
      }
      weight[k] = rng.uniform();
      if (hole) slot[k] = -1, weight[k] = 0;
    }
  return out;
}

// Sets libtorch's threads, and sets them back.
class Threads {
 public:
  explicit Threads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

inline bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && at::equal(a, b);
}

}  // namespace accrete::testing
