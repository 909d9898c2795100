// Typed tensors as they lie in files: name, type, shape, bytes. No arithmetic, no devices.
//
// Non-goals: broadcasting, ownership (a TensorView borrows; keep its file open).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accrete {

enum class DType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };

// Bytes of one element.
size_t dtype_size(DType dtype);
// "F32", "BF16", ...: the names of the safetensors format.
std::string_view dtype_name(DType dtype);

struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // row-major; empty: a scalar
  std::span<const std::byte> bytes;

  int64_t numel() const;
};

// The values as float32. Throws kUnsupported for integer types.
std::vector<float> to_float32(const TensorView& tensor);

}  // namespace accrete
