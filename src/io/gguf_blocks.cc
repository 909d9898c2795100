#include "io/gguf_blocks.h"

#include "io/half.h"

namespace accrete {
namespace {

// Layouts: ggml-common.h of ggml. A block is read byte by byte, so alignment does not matter.
float half_at(const uint8_t* bytes) {
  return half_to_float(static_cast<uint16_t>(bytes[0] | (bytes[1] << 8)));
}

// Of 32 values the first 16 are in the low halves of 16 bytes, the others in the high halves.
void q4(const uint8_t* q, int zero, GgmlBlock& out) {
  for (int i = 0; i < 16; ++i) {
    out.code[i] = static_cast<int8_t>((q[i] & 15) - zero);
    out.code[i + 16] = static_cast<int8_t>((q[i] >> 4) - zero);
  }
}
void q4_0(const uint8_t* in, GgmlBlock& out) {
  out.scale[0] = half_at(in);
  q4(in + 2, 8, out);
}
void q4_1(const uint8_t* in, GgmlBlock& out) {
  out.scale[0] = half_at(in);
  out.minimum[0] = half_at(in + 2);
  q4(in + 4, 0, out);
}
// The fifth bits of 32 values are one 32-bit word: bit i belongs to value i.
void q5(const uint8_t* high, const uint8_t* q, int zero, GgmlBlock& out) {
  const auto bit = [high](int i) { return ((high[i / 8] >> (i % 8)) & 1) << 4; };
  for (int i = 0; i < 16; ++i) {
    out.code[i] = static_cast<int8_t>(((q[i] & 15) | bit(i)) - zero);
    out.code[i + 16] = static_cast<int8_t>(((q[i] >> 4) | bit(i + 16)) - zero);
  }
}
void q5_0(const uint8_t* in, GgmlBlock& out) {
  out.scale[0] = half_at(in);
  q5(in + 2, in + 6, 16, out);
}
void q5_1(const uint8_t* in, GgmlBlock& out) {
  out.scale[0] = half_at(in);
  out.minimum[0] = half_at(in + 2);
  q5(in + 4, in + 8, 0, out);
}
void q8_0(const uint8_t* in, GgmlBlock& out) {
  out.scale[0] = half_at(in);
  for (int i = 0; i < 32; ++i) out.code[i] = static_cast<int8_t>(in[2 + i]);
}

// Eight pairs of 6-bit (scale, minimum) in 12 bytes: the first four pairs in the low six bits of
// bytes 0-3 and 4-7; of the last four the low halves in bytes 8-11, the top bits in what was left.
void k_group(const uint8_t* in, int i, GgmlBlock& out) {
  const uint8_t* packed = in + 4;
  int scale = packed[i] & 63, minimum = packed[i + 4] & 63;
  if (i >= 4) {
    scale = (packed[i + 4] & 15) | ((packed[i - 4] >> 6) << 4);
    minimum = (packed[i + 4] >> 4) | ((packed[i] >> 6) << 4);
  }
  out.scale[i] = half_at(in) * static_cast<float>(scale);
  out.minimum[i] = -(half_at(in + 2) * static_cast<float>(minimum));
}
// 256 values in eight groups of 32; groups 2k and 2k+1 share bytes, as low and high halves.
void q4_k(const uint8_t* in, GgmlBlock& out) {
  for (int group = 0; group < 8; ++group) {
    k_group(in, group, out);
    const uint8_t* q = in + 16 + (group / 2) * 32;
    for (int i = 0; i < 32; ++i)
      out.code[group * 32 + i] = static_cast<int8_t>((q[i] >> ((group % 2) * 4)) & 15);
  }
}
void q5_k(const uint8_t* in, GgmlBlock& out) {
  const uint8_t* high = in + 16;
  for (int group = 0; group < 8; ++group) {
    k_group(in, group, out);
    const uint8_t* q = in + 48 + (group / 2) * 32;
    for (int i = 0; i < 32; ++i)
      out.code[group * 32 + i] =
          static_cast<int8_t>(((q[i] >> ((group % 2) * 4)) & 15) | (((high[i] >> group) & 1) << 4));
  }
}
// Two halves of 128 values, each as four groups of 32: groups 0 and 2 are the low and high halves
// of one run of 32 bytes, groups 1 and 3 of the next; two more bits of each in a byte of `high`.
void q6_k(const uint8_t* in, GgmlBlock& out) {
  const float d = half_at(in + 208);
  for (int at = 0; at < 256; ++at) {
    const int half = at / 128, group = at % 128 / 32, i = at % 32;
    const int low = (in[half * 64 + (group % 2) * 32 + i] >> ((group / 2) * 4)) & 15;
    const int high = (in[128 + half * 32 + i] >> (2 * group)) & 3;
    out.code[at] = static_cast<int8_t>((low | (high << 4)) - 32);
    out.scale[at / 16] = d * static_cast<float>(static_cast<int8_t>(in[192 + at / 16]));
  }
}

}  // namespace

BlockLayout block_layout(GgmlType type) {
  switch (type) {
    case GgmlType::kQ4_0:
      return {q4_0, 4, 32, false};
    case GgmlType::kQ4_1:
      return {q4_1, 4, 32, true};
    case GgmlType::kQ5_0:
      return {q5_0, 8, 32, false};
    case GgmlType::kQ5_1:
      return {q5_1, 8, 32, true};
    case GgmlType::kQ8_0:
      return {q8_0, 8, 32, false};
    case GgmlType::kQ4_K:
      return {q4_k, 4, 32, true};
    case GgmlType::kQ5_K:
      return {q5_k, 8, 32, true};
    case GgmlType::kQ6_K:
      return {q6_k, 8, 16, false};
    case GgmlType::kF32:
    case GgmlType::kF16:
    case GgmlType::kBF16:
      break;
  }
  return {};
}

}  // namespace accrete
