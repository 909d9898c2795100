// Tensors of a test's model as a safetensors file.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace accrete::testing {

using Tensors = std::map<std::string, at::Tensor>;

// Of contiguous tensors on the CPU, which must outlive what is returned.
inline std::vector<TensorView> views_of(const Tensors& tensors) {
  std::vector<TensorView> views;
  for (const auto& [name, t] : tensors)
    views.push_back(
        {name,
         t.scalar_type() == at::kHalf       ? DType::kF16
         : t.scalar_type() == at::kBFloat16 ? DType::kBF16
         : t.scalar_type() == at::kLong     ? DType::kI64
                                            : DType::kF32,
         t.sizes().vec(),
         {static_cast<const std::byte*>(t.data_ptr()), static_cast<size_t>(t.nbytes())}});
  return views;
}

inline void write_tensors(const std::filesystem::path& file, const Tensors& tensors) {
  write_safetensors(file, views_of(tensors));
}

}  // namespace accrete::testing
