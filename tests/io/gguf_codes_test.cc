// Codes of every block type give what dequantize() gives, bit for bit; the file has them in the
// order of its rows.
#include "io/gguf_codes.h"

#include <cmath>
#include <cstring>

#include "../base/testing.h"
#include "base/file.h"
#include "base/rng.h"
#include "io/safetensors.h"
#include "io_testing.h"

namespace accrete {
namespace {

constexpr GgmlType kQuantised[] = {GgmlType::kQ4_0, GgmlType::kQ4_1, GgmlType::kQ5_0,
                                   GgmlType::kQ5_1, GgmlType::kQ8_0, GgmlType::kQ4_K,
                                   GgmlType::kQ5_K, GgmlType::kQ6_K};

// Random blocks whose two halves (scale and minimum, wherever the type has them) are ordinary
// numbers.
std::vector<std::byte> random_blocks(GgmlType type, int64_t blocks, Rng& rng) {
  const size_t bytes = ggml_block_bytes(type);
  std::vector<std::byte> out(static_cast<size_t>(blocks) * bytes);
  for (auto& b : out) b = static_cast<std::byte>(rng.below(256));
  for (int64_t i = 0; i < blocks; ++i) {
    std::byte* block = out.data() + static_cast<size_t>(i) * bytes;
    const auto half = [&](size_t at) {  // between 2^-10 and 2^5, either sign
      const auto exponent = static_cast<unsigned>(5 + rng.below(15));
      const unsigned bits = static_cast<unsigned>(rng.below(2)) << 15 | exponent << 10 |
                            static_cast<unsigned>(rng.below(1024));
      block[at] = static_cast<std::byte>(bits & 255);
      block[at + 1] = static_cast<std::byte>(bits >> 8);
    };
    if (type == GgmlType::kQ6_K) {
      half(208);
    } else {
      half(0);
      if (type == GgmlType::kQ4_1 || type == GgmlType::kQ5_1 || type == GgmlType::kQ4_K ||
          type == GgmlType::kQ5_K)
        half(2);
    }
  }
  return out;
}

float value_of(const TensorCodes& codes, size_t i) {
  const auto block = static_cast<size_t>(codes.block);
  const size_t b = i / block, j = i % block;
  int code = 0;
  if (codes.bits == 4) {
    const uint8_t byte = codes.codes[b * block / 2 + j % (block / 2)];
    code = j < block / 2 ? byte & 15 : byte >> 4;
  } else {
    code = static_cast<int8_t>(codes.codes[i]);
  }
  return std::fma(static_cast<float>(code), codes.scales[b],
                  codes.minima.empty() ? 0.0F : codes.minima[b]);
}

TEST(GgufCodes, AreTheDequantisedValuesBitForBit) {
  Rng rng(5);
  for (const GgmlType type : kQuantised) {
    const int64_t in = 2 * ggml_block_values(type), out = 40;
    const auto bytes = random_blocks(type, 2 * out, rng);
    const GgufTensor tensor{"t", type, {out, in}, bytes};
    std::vector<float> expected(static_cast<size_t>(out * in));
    dequantize(tensor, expected);
    const auto codes = gguf_codes(tensor);
    ASSERT_TRUE(codes.has_value()) << ggml_type_name(type);
    ASSERT_EQ(codes->scales.size() * static_cast<size_t>(codes->block), expected.size());
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_EQ(value_of(*codes, i), expected[i]) << ggml_type_name(type) << " value " << i;
  }
}

TEST(GgufCodes, AbsentWithoutBlocks) {
  const std::vector<std::byte> bytes(256);
  EXPECT_FALSE(gguf_codes({"t", GgmlType::kF32, {2, 32}, bytes}).has_value());
  EXPECT_FALSE(gguf_codes({"t", GgmlType::kF16, {4, 32}, bytes}).has_value());
  const testing::TemporaryFolder folder;
  const GgufTensor floats{"t", GgmlType::kF32, {2, 32}, bytes};
  write_codes(folder / "codes.safetensors", std::vector<NamedCodes>{{"t", &floats, {}}});
  EXPECT_FALSE(std::filesystem::exists(folder / "codes.safetensors"));
}

TEST(GgufCodes, TheFileHasThemInItsOwnOrderOfRows) {
  Rng rng(6);
  const auto four = random_blocks(GgmlType::kQ4_1, 3, rng);
  const auto eight = random_blocks(GgmlType::kQ8_0, 2, rng);
  const GgufTensor a{"a", GgmlType::kQ4_1, {3, 32}, four}, b{"b", GgmlType::kQ8_0, {1, 64}, eight};
  const testing::TemporaryFolder folder;
  const auto path = folder / "accrete" / "codes.safetensors";
  write_codes(path, std::vector<NamedCodes>{{"a.weight", &a, {2, 0, 1}}, {"b.weight", &b, {}}});
  const auto file = SafetensorsFile::open(path);
  ASSERT_EQ(file.tensors().size(), 5U);
  const auto codes = gguf_codes(a);
  const auto& stored = file.at("a.weight.codes");
  EXPECT_EQ(stored.dtype, DType::kU8);
  EXPECT_EQ(stored.shape, (std::vector<int64_t>{3, 16}));
  const int order[] = {2, 0, 1};
  for (size_t row = 0; row < 3; ++row) {
    EXPECT_EQ(
        std::memcmp(stored.bytes.data() + 16 * row, codes->codes.data() + 16 * order[row], 16), 0);
    EXPECT_EQ(to_float32(file.at("a.weight.scales"))[row],
              codes->scales[static_cast<size_t>(order[row])]);
    EXPECT_EQ(to_float32(file.at("a.weight.minima"))[row],
              codes->minima[static_cast<size_t>(order[row])]);
  }
  EXPECT_EQ(file.at("b.weight.codes").dtype, DType::kI8);
  EXPECT_EQ(file.find("b.weight.minima"), nullptr);
}

}  // namespace
}  // namespace accrete
