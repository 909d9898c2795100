// Products of float32 matrices in bfloat16 while an object lives, summed in float32: what training
// in mixed precision computes. Weights, gradients and the optimiser's state stay float32.
//
// libtorch takes them so only where oneDNN has kernels for it (AMX-BF16, AVX512-BF16).
//
// Non-goals: scoring, which always computes in float32.
#pragma once

#include <ATen/Context.h>

namespace accrete {

class LowPrecisionProducts {
 public:
  explicit LowPrecisionProducts(bool on) : before_(at::globalContext().float32MatmulPrecision()) {
    if (on) at::globalContext().setFloat32MatmulPrecision("medium");
  }
  ~LowPrecisionProducts() { at::globalContext().setFloat32MatmulPrecision(name(before_)); }
  LowPrecisionProducts(const LowPrecisionProducts&) = delete;
  LowPrecisionProducts& operator=(const LowPrecisionProducts&) = delete;

 private:
  static const char* name(at::Float32MatmulPrecision precision) {
    switch (precision) {
      case at::Float32MatmulPrecision::MEDIUM:
        return "medium";
      case at::Float32MatmulPrecision::HIGH:
        return "high";
      case at::Float32MatmulPrecision::HIGHEST:
        break;
    }
    return "highest";
  }
  at::Float32MatmulPrecision before_;
};

}  // namespace accrete
