// Blocks worked out by hand. parity_io.py compares every type with the reference, value for value.
#include <limits>

#include "io/gguf.h"
#include "io_testing.h"

namespace accrete {
namespace {

using testing::bytes_of;
using testing::expect_error;
using testing::raw;

std::vector<float> values_of(GgmlType type, const std::string& bytes) {
  const auto blocks = bytes.size() / ggml_block_bytes(type);
  const auto count = static_cast<int64_t>(blocks) * ggml_block_values(type);
  std::vector<float> out(static_cast<size_t>(count));
  dequantize({"t", type, {count}, bytes_of(bytes)}, out);
  return out;
}

const std::string kHalf = raw(uint16_t{0x3800});      // 0.5
const std::string kMinusTwo = raw(uint16_t{0xC000});  // -2

TEST(GgufDequantize, Floats) {
  EXPECT_EQ(values_of(GgmlType::kF32, raw(std::vector<float>{1.5f, -0.0f, 3e38f})),
            (std::vector<float>{1.5f, -0.0f, 3e38f}));
  EXPECT_EQ(values_of(GgmlType::kF16, kHalf + kMinusTwo), (std::vector<float>{0.5f, -2.0f}));
  EXPECT_EQ(values_of(GgmlType::kBF16, raw(std::vector<uint16_t>{0x3F80, 0xC000})),
            (std::vector<float>{1.0f, -2.0f}));
}

TEST(GgufDequantize, Q4_0) {
  std::string block = kHalf;
  for (int i = 0; i < 16; ++i) block += static_cast<char>(i | ((15 - i) << 4));
  const auto values = values_of(GgmlType::kQ4_0, block);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(values[i], 0.5f * static_cast<float>(i - 8));
    EXPECT_EQ(values[i + 16], 0.5f * static_cast<float>(15 - i - 8));
  }
}

TEST(GgufDequantize, Q4_1) {
  std::string block = kHalf + kMinusTwo;
  for (int i = 0; i < 16; ++i) block += static_cast<char>(i | ((15 - i) << 4));
  const auto values = values_of(GgmlType::kQ4_1, block);
  EXPECT_EQ(values[0], -2.0f);
  EXPECT_EQ(values[15], 5.5f);
  EXPECT_EQ(values[16], 5.5f);
  EXPECT_EQ(values[31], -2.0f);
}

TEST(GgufDequantize, Q5) {
  // Only value 3 and value 31 have their fifth bit.
  const std::string high = raw((uint32_t{1} << 3) | (uint32_t{1} << 31));
  const std::string low(16, '\x21');
  const auto q5_0 = values_of(GgmlType::kQ5_0, kHalf + high + low);
  EXPECT_EQ(q5_0[0], 0.5f * (1 - 16));
  EXPECT_EQ(q5_0[3], 0.5f * (17 - 16));
  EXPECT_EQ(q5_0[16], 0.5f * (2 - 16));
  EXPECT_EQ(q5_0[31], 0.5f * (18 - 16));
  const auto q5_1 = values_of(GgmlType::kQ5_1, kHalf + kMinusTwo + high + low);
  EXPECT_EQ(q5_1[0], 0.5f * 1 - 2);
  EXPECT_EQ(q5_1[3], 0.5f * 17 - 2);
  EXPECT_EQ(q5_1[31], 0.5f * 18 - 2);
}

TEST(GgufDequantize, Q8_0) {
  std::string block = kHalf;
  for (int i = 0; i < 32; ++i) block += static_cast<char>(i == 0 ? -128 : i);
  const auto values = values_of(GgmlType::kQ8_0, block);
  EXPECT_EQ(values[0], -64.0f);
  EXPECT_EQ(values[31], 15.5f);
}

// Scales and minima of groups 0 and 5, the others zero: scale 33, minimum 2; scale 49, minimum 50.
std::string k_scales() {
  std::string packed(12, '\0');
  packed[0] = 33;
  packed[4] = 2;
  // Group 5: low halves in byte 9, top two bits over byte 1 (scale) and byte 5 (minimum).
  packed[9] = static_cast<char>((49 & 15) | ((50 & 15) << 4));
  packed[1] = static_cast<char>((49 >> 4) << 6);
  packed[5] = static_cast<char>((50 >> 4) << 6);
  return packed;
}

TEST(GgufDequantize, Q4_K) {
  const auto values =
      values_of(GgmlType::kQ4_K, kHalf + kMinusTwo + k_scales() + std::string(128, '\x73'));
  EXPECT_EQ(values[0], 0.5f * 33 * 3 + 2 * 2);
  EXPECT_EQ(values[31], 0.5f * 33 * 3 + 2 * 2);
  EXPECT_EQ(values[32], 0.0f);
  EXPECT_EQ(values[5 * 32], 0.5f * 49 * 7 + 2 * 50);
  EXPECT_EQ(values[6 * 32], 0.0f);
}

TEST(GgufDequantize, Q5_K) {
  // Fifth bits of group 5 only.
  const auto values =
      values_of(GgmlType::kQ5_K, kHalf + kMinusTwo + k_scales() + std::string(32, '\x20') +
                                     std::string(128, '\x73'));
  EXPECT_EQ(values[0], 0.5f * 33 * 3 + 2 * 2);
  EXPECT_EQ(values[5 * 32], 0.5f * 49 * (7 + 16) + 2 * 50);
}

TEST(GgufDequantize, Q6_K) {
  std::string scales(16, '\0');
  scales[0] = 3;
  scales[15] = -4;
  const auto values = values_of(
      GgmlType::kQ6_K, std::string(128, '\x5A') + std::string(64, '\xE4') + scales + kHalf);
  EXPECT_EQ(values[0], 0.5f * 3 * (10 - 32));                 // low half 10, high bits 0
  EXPECT_EQ(values[16], 0.0f);                                // its scale is 0
  EXPECT_EQ(values[255], 0.5f * -4 * ((5 | (3 << 4)) - 32));  // high half 5, high bits 3
}

TEST(GgufDequantize, RefusesRoomOfAnotherSize) {
  const std::string bytes = raw(std::vector<float>{1, 2});
  for (const size_t room : {0, 1, 3}) {
    std::vector<float> out(room);
    expect_error(ErrorCode::kInvalidArgument, {"\"t\"", "2 values"},
                 [&] { dequantize({"t", GgmlType::kF32, {2}, bytes_of(bytes)}, out); });
  }
  std::vector<float> out(3);
  expect_error(ErrorCode::kInvalidArgument, {"\"t\""},
               [&] { dequantize({"t", GgmlType::kF32, {3}, bytes_of(bytes)}, out); });
}

TEST(GgufDequantize, NamesAndBlocksOfTheTypes) {
  EXPECT_EQ(ggml_type_name(GgmlType::kQ4_K), "Q4_K");
  EXPECT_EQ(ggml_block_values(GgmlType::kQ6_K), 256);
  EXPECT_EQ(ggml_block_bytes(GgmlType::kQ6_K), 210u);
  expect_error(ErrorCode::kInvalidArgument, {"99"},
               [] { ggml_type_name(static_cast<GgmlType>(99)); });
}

}  // namespace
}  // namespace accrete
