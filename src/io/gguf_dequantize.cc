#include <cstring>

#include "base/error.h"
#include "base/format.h"
#include "io/gguf.h"
#include "io/gguf_blocks.h"
#include "io/half.h"
#include "io/utf8.h"

// The results are to be the same on every machine: a fused multiply-add rounds once where the
// reference rounds twice, and compilers fuse unasked where the target has one.
#if defined(__clang__)
#pragma clang fp contract(off)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

namespace accrete {
namespace {

void block_f32(const uint8_t* in, float* out) {
  std::memcpy(out, in, sizeof *out);
}
void block_f16(const uint8_t* in, float* out) {
  *out = half_to_float(static_cast<uint16_t>(in[0] | (in[1] << 8)));
}
void block_bf16(const uint8_t* in, float* out) {
  *out = bfloat16_to_float(static_cast<uint16_t>(in[0] | (in[1] << 8)));
}

using FloatFn = void (*)(const uint8_t*, float*);

FloatFn float_function(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return block_f32;
    case GgmlType::kF16:
      return block_f16;
    case GgmlType::kBF16:
      return block_bf16;
    default:
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("no such GGML type: {}", static_cast<uint32_t>(type)));
  }
}

// scale * code, plus the minimum; without minima nothing is added, since -0 + 0 is 0.
void block_values(const BlockLayout& layout, const uint8_t* in, int64_t values, float* out) {
  GgmlBlock block;
  layout.read(in, block);
  for (int64_t at = 0, r = 0; at < values; at += layout.run, ++r)
    for (int64_t i = at; i < at + layout.run; ++i) {
      const float value = block.scale[r] * static_cast<float>(block.code[i]);
      out[i] = layout.minima ? value + block.minimum[r] : value;
    }
}

}  // namespace

void dequantize(const GgufTensor& tensor, std::span<float> out) {
  const BlockLayout layout = block_layout(tensor.type);
  const FloatFn plain = layout.read == nullptr ? float_function(tensor.type) : nullptr;
  const size_t values = static_cast<size_t>(ggml_block_values(tensor.type));
  const size_t bytes = ggml_block_bytes(tensor.type);
  const size_t blocks = tensor.bytes.size() / bytes;
  const auto numel = static_cast<size_t>(tensor.numel());
  if (out.size() != numel || blocks * values != numel || blocks * bytes != tensor.bytes.size())
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("tensor {} has {} values in {} bytes; room is given for {}",
                                shown(tensor.name), numel, tensor.bytes.size(), out.size()));
  const auto* in = reinterpret_cast<const uint8_t*>(tensor.bytes.data());
  for (size_t i = 0; i < blocks; ++i) {
    float* to = out.data() + i * values;
    if (plain != nullptr)
      plain(in + i * bytes, to);
    else
      block_values(layout, in + i * bytes, static_cast<int64_t>(values), to);
  }
}

}  // namespace accrete
