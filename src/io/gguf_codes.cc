#include "io/gguf_codes.h"

#include <algorithm>
#include <numeric>

#include "io/half.h"
#include "io/safetensors.h"

namespace accrete {
namespace {

// Layouts: ggml-common.h of ggml, as in gguf_dequantize.cc.
float half_at(const uint8_t* bytes) {
  return half_to_float(static_cast<uint16_t>(bytes[0] | (bytes[1] << 8)));
}

// Codes of one GGML block, each a byte of its own, and the scale and minimum of each run of
// `TensorCodes::block` of them.
struct Block {
  int8_t code[256];
  float scale[16], minimum[16];
};
using BlockFn = void (*)(const uint8_t* in, Block& out);

void q4(const uint8_t* q, Block& out) {
  for (int i = 0; i < 16; ++i) {
    out.code[i] = static_cast<int8_t>(q[i] & 15);
    out.code[i + 16] = static_cast<int8_t>(q[i] >> 4);
  }
}
void q4_0(const uint8_t* in, Block& out) {
  out.scale[0] = half_at(in);
  out.minimum[0] = -8 * out.scale[0];
  q4(in + 2, out);
}
void q4_1(const uint8_t* in, Block& out) {
  out.scale[0] = half_at(in);
  out.minimum[0] = half_at(in + 2);
  q4(in + 4, out);
}
void q5(const uint8_t* high, const uint8_t* q, int zero, Block& out) {
  const auto bit = [high](int i) { return ((high[i / 8] >> (i % 8)) & 1) << 4; };
  for (int i = 0; i < 16; ++i) {
    out.code[i] = static_cast<int8_t>(((q[i] & 15) | bit(i)) - zero);
    out.code[i + 16] = static_cast<int8_t>(((q[i] >> 4) | bit(i + 16)) - zero);
  }
}
void q5_0(const uint8_t* in, Block& out) {
  out.scale[0] = half_at(in);
  q5(in + 2, in + 6, 16, out);
}
void q5_1(const uint8_t* in, Block& out) {
  out.scale[0] = half_at(in);
  out.minimum[0] = half_at(in + 2);
  q5(in + 4, in + 8, 0, out);
}
void q8_0(const uint8_t* in, Block& out) {
  out.scale[0] = half_at(in);
  for (int i = 0; i < 32; ++i) out.code[i] = static_cast<int8_t>(in[2 + i]);
}

// Scale and minimum of group `i` of eight, six bits each in twelve bytes.
void k_group(const uint8_t* in, int i, Block& out) {
  const uint8_t* packed = in + 4;
  int scale = packed[i] & 63, minimum = packed[i + 4] & 63;
  if (i >= 4) {
    scale = (packed[i + 4] & 15) | ((packed[i - 4] >> 6) << 4);
    minimum = (packed[i + 4] >> 4) | ((packed[i] >> 6) << 4);
  }
  out.scale[i] = half_at(in) * static_cast<float>(scale);
  out.minimum[i] = -(half_at(in + 2) * static_cast<float>(minimum));
}
void q4_k(const uint8_t* in, Block& out) {
  for (int group = 0; group < 8; ++group) {
    k_group(in, group, out);
    const uint8_t* q = in + 16 + (group / 2) * 32;
    for (int i = 0; i < 32; ++i)
      out.code[group * 32 + i] = static_cast<int8_t>((q[i] >> ((group % 2) * 4)) & 15);
  }
}
void q5_k(const uint8_t* in, Block& out) {
  const uint8_t* high = in + 16;
  for (int group = 0; group < 8; ++group) {
    k_group(in, group, out);
    const uint8_t* q = in + 48 + (group / 2) * 32;
    for (int i = 0; i < 32; ++i)
      out.code[group * 32 + i] =
          static_cast<int8_t>(((q[i] >> ((group % 2) * 4)) & 15) | (((high[i] >> group) & 1) << 4));
  }
}
void q6_k(const uint8_t* in, Block& out) {
  const float d = half_at(in + 208);
  for (int at = 0; at < 256; ++at) {
    const int half = at / 128, group = at % 128 / 32, i = at % 32;
    const int low = (in[half * 64 + (group % 2) * 32 + i] >> ((group / 2) * 4)) & 15;
    const int high = (in[128 + half * 32 + i] >> (2 * group)) & 3;
    out.code[at] = static_cast<int8_t>((low | (high << 4)) - 32);
    out.scale[at / 16] = d * static_cast<float>(static_cast<int8_t>(in[192 + at / 16]));
  }
}

struct Layout {
  BlockFn read = nullptr;  // none: not quantised in blocks
  int bits = 8;
  int64_t block = 32;
  bool minima = false;
};
Layout layout_of(GgmlType type) {
  switch (type) {
    case GgmlType::kQ4_0:
      return {q4_0, 4, 32, true};
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

bool has_codes(const GgufTensor& tensor) {
  return layout_of(tensor.type).read != nullptr && tensor.shape.size() == 2 &&
         tensor.shape[1] % ggml_block_values(tensor.type) == 0;
}

// The rows of `bytes`, each of `row_bytes`, in another order.
std::vector<std::byte> reordered(std::span<const std::byte> bytes, size_t row_bytes,
                                 const std::vector<int64_t>& row_of) {
  std::vector<std::byte> out(bytes.size());
  for (size_t i = 0; i < row_of.size(); ++i)
    std::copy_n(bytes.data() + static_cast<size_t>(row_of[i]) * row_bytes, row_bytes,
                out.data() + i * row_bytes);
  return out;
}

}  // namespace

std::optional<TensorCodes> gguf_codes(const GgufTensor& tensor) {
  if (!has_codes(tensor)) return std::nullopt;
  const Layout layout = layout_of(tensor.type);
  const auto values = static_cast<size_t>(ggml_block_values(tensor.type));
  const size_t bytes = ggml_block_bytes(tensor.type), run = static_cast<size_t>(layout.block);
  const size_t blocks = tensor.bytes.size() / bytes;
  TensorCodes out;
  out.bits = layout.bits;
  out.block = layout.block;
  const auto* in = reinterpret_cast<const uint8_t*>(tensor.bytes.data());
  Block block{};
  for (size_t b = 0; b < blocks; ++b) {
    layout.read(in + b * bytes, block);
    for (size_t r = 0; r < values / run; ++r) {
      out.scales.push_back(block.scale[r]);
      if (layout.minima) out.minima.push_back(block.minimum[r]);
      const int8_t* code = block.code + r * run;
      if (layout.bits == 4)
        for (size_t i = 0; i < run / 2; ++i)
          out.codes.push_back(static_cast<uint8_t>(code[i] | (code[i + run / 2] << 4)));
      else
        for (size_t i = 0; i < run; ++i) out.codes.push_back(static_cast<uint8_t>(code[i]));
    }
  }
  return out;
}

void write_codes(const std::filesystem::path& path, std::span<const NamedCodes> tensors) {
  std::vector<TensorSpec> specs;
  // All wide types come first, so each tensor is taken apart twice: once for its scales, once for
  // its codes, and never are all of them in memory.
  for (const NamedCodes& t : tensors) {
    if (!has_codes(*t.source)) continue;
    const Layout layout = layout_of(t.source->type);
    const std::vector<int64_t> shape = {t.source->shape[0], t.source->shape[1] / layout.block};
    specs.push_back({t.name + ".scales", DType::kF32, shape});
    if (layout.minima) specs.push_back({t.name + ".minima", DType::kF32, shape});
  }
  if (specs.empty()) return;
  for (const NamedCodes& t : tensors) {
    if (!has_codes(*t.source)) continue;
    const int64_t out = t.source->shape[0], in = t.source->shape[1];
    if (layout_of(t.source->type).bits == 4)
      specs.push_back({t.name + ".codes", DType::kU8, {out, in / 2}});
    else
      specs.push_back({t.name + ".codes", DType::kI8, {out, in}});
  }
  std::filesystem::create_directories(path.parent_path());
  SafetensorsWriter writer(path, specs);
  const auto write = [&writer](const NamedCodes& t, std::span<const std::byte> bytes) {
    const size_t row = bytes.size() / static_cast<size_t>(t.source->shape[0]);
    if (t.row_of.empty())
      writer.write(bytes);
    else
      writer.write(reordered(bytes, row, t.row_of));
  };
  for (const bool codes : {false, true})
    for (const NamedCodes& t : tensors)
      if (const auto c = gguf_codes(*t.source)) {
        if (codes) {
          write(t, std::as_bytes(std::span(c->codes)));
        } else {
          write(t, std::as_bytes(std::span(c->scales)));
          if (!c->minima.empty()) write(t, std::as_bytes(std::span(c->minima)));
        }
      }
  writer.commit();
}

}  // namespace accrete
