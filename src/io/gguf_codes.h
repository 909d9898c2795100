// Block-quantised GGUF tensors as plain codes: value = scale * code + minimum, a scale (and maybe a
// minimum) for every block of neighbouring values of a row.
//
// Computed in float32 with one rounding, the values are bit for bit what dequantize() gives. Codes
// need a fifth to a third of the memory, which is what decoding a token is bound by
// (model/coded_matrix.h).
//
// File (`accrete/codes.safetensors` in a model folder): for a weight NAME [out, in] that has them
//   NAME.scales   F32 [out, in / block]
//   NAME.minima   F32 [out, in / block], left out where all are 0
//   NAME.codes    I8 [out, in], or U8 [out, in / 2]: 4 bits each, the first half of a block in the
//                 low halves of its bytes
// The block is 32 values, or 16. What is quantised otherwise, or not at all, is not in the file.
//
// Non-goals: quantising; computing with codes (model/).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/gguf.h"

namespace accrete {

struct TensorCodes {
  int bits = 8;        // 4 or 8; codes of 8 bits are signed
  int64_t block = 32;  // values
  std::vector<uint8_t> codes;
  std::vector<float> scales, minima;  // minima: empty where all are 0
};

// None for types without blocks and for tensors that are not matrices of whole blocks.
std::optional<TensorCodes> gguf_codes(const GgufTensor& tensor);

// `row_of[i]`: the tensor's row that comes i-th in the file; empty: as they are.
struct NamedCodes {
  std::string name;
  const GgufTensor* source = nullptr;
  std::vector<int64_t> row_of;
};
// Writes those that have codes; no file if none has. Throws kIo.
void write_codes(const std::filesystem::path& path, std::span<const NamedCodes> tensors);

}  // namespace accrete
