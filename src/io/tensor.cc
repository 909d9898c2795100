#include "io/tensor.h"

#include <cstring>

#include "base/error.h"
#include "base/format.h"
#include "io/half.h"
#include "io/utf8.h"

namespace accrete {
namespace {

template <typename T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);  // tensors in files need not be aligned
  return value;
}

template <typename T, typename Convert>
std::vector<float> convert_all(const TensorView& tensor, Convert convert) {
  std::vector<float> out(tensor.bytes.size() / sizeof(T));
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = convert(load<T>(tensor.bytes.data() + i * sizeof(T)));
  return out;
}

}  // namespace

size_t dtype_size(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
    case DType::kI16:
      return 2;
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
      return 1;
  }
  throw Error(ErrorCode::kInternal, "a tensor type without a size");
}

std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "F64";
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kI64:
      return "I64";
    case DType::kI32:
      return "I32";
    case DType::kI16:
      return "I16";
    case DType::kI8:
      return "I8";
    case DType::kU8:
      return "U8";
    case DType::kBool:
      return "BOOL";
  }
  throw Error(ErrorCode::kInternal, "a tensor type without a name");
}

int64_t TensorView::numel() const {
  int64_t product = 1;
  for (const int64_t n : shape) product *= n;
  return product;
}

std::vector<float> to_float32(const TensorView& tensor) {
  if (tensor.bytes.size() != static_cast<size_t>(tensor.numel()) * dtype_size(tensor.dtype))
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("tensor {}: {} bytes do not fit its shape", shown(tensor.name),
                                tensor.bytes.size()));
  switch (tensor.dtype) {
    case DType::kF32: {
      std::vector<float> out(static_cast<size_t>(tensor.numel()));
      if (!out.empty()) std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
      return out;
    }
    case DType::kF64:
      return convert_all<double>(tensor, [](double v) { return static_cast<float>(v); });
    case DType::kF16:
      return convert_all<uint16_t>(tensor, half_to_float);
    case DType::kBF16:
      return convert_all<uint16_t>(tensor, bfloat16_to_float);
    default:
      throw Error(ErrorCode::kUnsupported,
                  accrete::format("tensor {} holds {} values where floats are expected",
                                  shown(tensor.name), dtype_name(tensor.dtype)),
                  "check that this is the tensor and the file you mean");
  }
}

}  // namespace accrete
