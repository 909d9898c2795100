#include <cstring>

#include "base/error.h"
#include "io/gguf.h"
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

// Layouts: ggml-common.h of ggml. A block is read byte by byte, so alignment does not matter.
float half_at(const uint8_t* bytes) {
  return half_to_float(static_cast<uint16_t>(bytes[0] | (bytes[1] << 8)));
}

void block_f32(const uint8_t* in, float* out) {
  std::memcpy(out, in, sizeof *out);
}
void block_f16(const uint8_t* in, float* out) {
  *out = half_at(in);
}
void block_bf16(const uint8_t* in, float* out) {
  *out = bfloat16_to_float(static_cast<uint16_t>(in[0] | (in[1] << 8)));
}

// Of 32 values the first 16 are in the low halves of 16 bytes, the others in the high halves.
void block_q4_0(const uint8_t* in, float* out) {
  const float d = half_at(in);
  const uint8_t* q = in + 2;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((q[i] & 15) - 8);
    out[i + 16] = d * static_cast<float>((q[i] >> 4) - 8);
  }
}

void block_q4_1(const uint8_t* in, float* out) {
  const float d = half_at(in);
  const float m = half_at(in + 2);
  const uint8_t* q = in + 4;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(q[i] & 15) + m;
    out[i + 16] = d * static_cast<float>(q[i] >> 4) + m;
  }
}

// The fifth bits of 32 values are one 32-bit word: bit i belongs to value i.
int fifth_bit(const uint8_t* high, int i) {
  return ((high[i / 8] >> (i % 8)) & 1) << 4;
}

void block_q5_0(const uint8_t* in, float* out) {
  const float d = half_at(in);
  const uint8_t* high = in + 2;
  const uint8_t* q = in + 6;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(((q[i] & 15) | fifth_bit(high, i)) - 16);
    out[i + 16] = d * static_cast<float>(((q[i] >> 4) | fifth_bit(high, i + 16)) - 16);
  }
}

void block_q5_1(const uint8_t* in, float* out) {
  const float d = half_at(in);
  const float m = half_at(in + 2);
  const uint8_t* high = in + 4;
  const uint8_t* q = in + 8;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((q[i] & 15) | fifth_bit(high, i)) + m;
    out[i + 16] = d * static_cast<float>((q[i] >> 4) | fifth_bit(high, i + 16)) + m;
  }
}

void block_q8_0(const uint8_t* in, float* out) {
  const float d = half_at(in);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(in[2 + i]));
}

// Eight pairs of 6-bit (scale, minimum) in 12 bytes: the first four pairs in the low six bits of
// bytes 0-3 and 4-7; of the last four the low halves in bytes 8-11, the top bits in what was left.
void k_scale(const uint8_t* packed, int i, float& scale, float& minimum) {
  if (i < 4) {
    scale = static_cast<float>(packed[i] & 63);
    minimum = static_cast<float>(packed[i + 4] & 63);
  } else {
    scale = static_cast<float>((packed[i + 4] & 15) | ((packed[i - 4] >> 6) << 4));
    minimum = static_cast<float>((packed[i + 4] >> 4) | ((packed[i] >> 6) << 4));
  }
}

// 256 values in eight groups of 32; groups 2k and 2k+1 share bytes, as low and high halves.
void block_q4_k(const uint8_t* in, float* out) {
  const float d = half_at(in);
  const float d_min = half_at(in + 2);
  for (int group = 0; group < 8; ++group) {
    float scale, minimum;
    k_scale(in + 4, group, scale, minimum);
    const float step = d * scale;
    const float base = d_min * minimum;
    const uint8_t* q = in + 16 + (group / 2) * 32;
    const int shift = (group % 2) * 4;
    for (int i = 0; i < 32; ++i)
      out[group * 32 + i] = step * static_cast<float>((q[i] >> shift) & 15) - base;
  }
}

void block_q5_k(const uint8_t* in, float* out) {
  const float d = half_at(in);
  const float d_min = half_at(in + 2);
  const uint8_t* high = in + 16;
  for (int group = 0; group < 8; ++group) {
    float scale, minimum;
    k_scale(in + 4, group, scale, minimum);
    const float step = d * scale;
    const float base = d_min * minimum;
    const uint8_t* q = in + 48 + (group / 2) * 32;
    const int shift = (group % 2) * 4;
    for (int i = 0; i < 32; ++i) {
      const int value = ((q[i] >> shift) & 15) | (((high[i] >> group) & 1) << 4);
      out[group * 32 + i] = step * static_cast<float>(value) - base;
    }
  }
}

// Two halves of 128 values, each as four groups of 32: groups 0 and 2 are the low and high halves
// of one run of 32 bytes, groups 1 and 3 of the next; two more bits of each in a byte of `high`.
void block_q6_k(const uint8_t* in, float* out) {
  const uint8_t* low = in;
  const uint8_t* high = in + 128;
  const uint8_t* scales = in + 192;
  const float d = half_at(in + 208);
  for (int half = 0; half < 2; ++half) {
    for (int group = 0; group < 4; ++group) {
      for (int i = 0; i < 32; ++i) {
        const int low_bits = (low[half * 64 + (group % 2) * 32 + i] >> ((group / 2) * 4)) & 15;
        const int high_bits = (high[half * 32 + i] >> (2 * group)) & 3;
        const int at = half * 128 + group * 32 + i;
        const float step = d * static_cast<float>(static_cast<int8_t>(scales[at / 16]));
        out[at] = step * static_cast<float>((low_bits | (high_bits << 4)) - 32);
      }
    }
  }
}

using BlockFn = void (*)(const uint8_t*, float*);

BlockFn block_function(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return block_f32;
    case GgmlType::kF16:
      return block_f16;
    case GgmlType::kBF16:
      return block_bf16;
    case GgmlType::kQ4_0:
      return block_q4_0;
    case GgmlType::kQ4_1:
      return block_q4_1;
    case GgmlType::kQ5_0:
      return block_q5_0;
    case GgmlType::kQ5_1:
      return block_q5_1;
    case GgmlType::kQ8_0:
      return block_q8_0;
    case GgmlType::kQ4_K:
      return block_q4_k;
    case GgmlType::kQ5_K:
      return block_q5_k;
    case GgmlType::kQ6_K:
      return block_q6_k;
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("no such GGML type: {}", static_cast<uint32_t>(type)));
}

}  // namespace

void dequantize(const GgufTensor& tensor, std::span<float> out) {
  const BlockFn block = block_function(tensor.type);
  const size_t values = static_cast<size_t>(ggml_block_values(tensor.type));
  const size_t bytes = ggml_block_bytes(tensor.type);
  const size_t blocks = tensor.bytes.size() / bytes;
  const auto numel = static_cast<size_t>(tensor.numel());
  if (out.size() != numel || blocks * values != numel || blocks * bytes != tensor.bytes.size())
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("tensor {} has {} values in {} bytes; room is given for {}",
                            shown(tensor.name), numel, tensor.bytes.size(), out.size()));
  const auto* in = reinterpret_cast<const uint8_t*>(tensor.bytes.data());
  for (size_t i = 0; i < blocks; ++i) block(in + i * bytes, out.data() + i * values);
}

}  // namespace accrete
