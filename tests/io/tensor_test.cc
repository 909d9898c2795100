#include "io/tensor.h"

#include <cmath>
#include <limits>

#include "io/half.h"
#include "io_testing.h"

namespace accrete {
namespace {

using testing::bytes_of;
using testing::expect_error;
using testing::raw;

template <typename T>
std::vector<float> converted(DType dtype, const std::vector<T>& values) {
  // One byte off: tensors in files need not be aligned.
  const std::string bytes = std::string("x").append(raw(values));
  return to_float32(
      {"t", dtype, {static_cast<int64_t>(values.size())}, bytes_of(bytes).subspan(1)});
}

// The value of the standard's formula, computed another way than half_to_float does.
double half_value(int bits) {
  const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(Tensor, HalvesOfEveryBitPattern) {
  for (int bits = 0; bits < 65536; ++bits) {
    const float value = half_to_float(static_cast<uint16_t>(bits));
    const double expected = half_value(bits);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << bits;
    } else {
      ASSERT_EQ(static_cast<double>(value), expected) << bits;
    }
    ASSERT_EQ(std::signbit(value), (bits & 0x8000) != 0) << bits;
  }
}

TEST(Tensor, ConvertsFloatsOfEveryWidth) {
  EXPECT_EQ(converted<double>(DType::kF64, {1.5, -0.1}), (std::vector<float>{1.5f, -0.1f}));
  EXPECT_EQ(converted<float>(DType::kF32, {1.5f, -0.1f}), (std::vector<float>{1.5f, -0.1f}));
  EXPECT_EQ(converted<uint16_t>(DType::kF16, {0x3C00, 0xC000, 0x0001}),
            (std::vector<float>{1.0f, -2.0f, 0x1p-24f}));
  EXPECT_EQ(converted<uint16_t>(DType::kBF16, {0x3F80, 0xC000, 0x0001}),
            (std::vector<float>{1.0f, -2.0f, 0x1p-133f}));
}

TEST(Tensor, ConvertsTheEmptyAndTheScalar) {
  EXPECT_TRUE(to_float32({"t", DType::kF32, {3, 0}, {}}).empty());
  const std::string four = raw(4.0f);
  EXPECT_EQ(to_float32({"t", DType::kF32, {}, bytes_of(four)}), std::vector<float>{4.0f});
}

TEST(Tensor, RefusesIntegers) {
  for (const DType dtype :
       {DType::kI64, DType::kI32, DType::kI16, DType::kI8, DType::kU8, DType::kBool})
    expect_error(ErrorCode::kUnsupported, {"\"t\"", std::string(dtype_name(dtype)).c_str()}, [&] {
      const std::string bytes(dtype_size(dtype), '\0');
      to_float32({"t", dtype, {1}, bytes_of(bytes)});
    });
}

TEST(Tensor, RefusesBytesThatDoNotFitTheShape) {
  expect_error(ErrorCode::kInvalidArgument, {"\"t\""}, [] {
    const std::string bytes(7, '\0');
    to_float32({"t", DType::kF32, {2}, bytes_of(bytes)});
  });
}

TEST(Tensor, CountsElements) {
  EXPECT_EQ((TensorView{"t", DType::kF32, {}, {}}).numel(), 1);
  EXPECT_EQ((TensorView{"t", DType::kF32, {2, 3, 4}, {}}).numel(), 24);
  EXPECT_EQ((TensorView{"t", DType::kF32, {2, 0, 4}, {}}).numel(), 0);
}

}  // namespace
}  // namespace accrete
