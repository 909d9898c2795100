#include "io/gguf_codes.h"

#include "io/gguf_blocks.h"
#include "io/gguf_to_hf.h"
#include "io/safetensors.h"

namespace accrete {
namespace {

bool has_codes(const GgufTensor& tensor) {
  return block_layout(tensor.type).read != nullptr && tensor.shape.size() == 2 &&
         tensor.shape[1] % ggml_block_values(tensor.type) == 0;
}

// Codes of 4 bits count from 0, so their values always have a minimum.
bool has_minima(const BlockLayout& layout) {
  return layout.minima || layout.bits == 4;
}

}  // namespace

std::optional<TensorCodes> gguf_codes(const GgufTensor& tensor) {
  if (!has_codes(tensor)) return std::nullopt;
  const BlockLayout layout = block_layout(tensor.type);
  const auto values = static_cast<size_t>(ggml_block_values(tensor.type));
  const size_t bytes = ggml_block_bytes(tensor.type), run = static_cast<size_t>(layout.run);
  const size_t blocks = tensor.bytes.size() / bytes;
  TensorCodes out;
  out.bits = layout.bits;
  out.block = layout.run;
  const auto* in = reinterpret_cast<const uint8_t*>(tensor.bytes.data());
  const int zero = layout.bits == 4 && !layout.minima ? 8 : 0;
  GgmlBlock block;
  for (size_t b = 0; b < blocks; ++b) {
    layout.read(in + b * bytes, block);
    for (size_t r = 0; r < values / run; ++r) {
      out.scales.push_back(block.scale[r]);
      if (has_minima(layout))
        out.minima.push_back(layout.minima ? block.minimum[r]
                                           : static_cast<float>(-zero) * block.scale[r]);
      const int8_t* code = block.code + r * run;
      if (layout.bits == 4)
        for (size_t i = 0; i < run / 2; ++i)
          out.codes.push_back(
              static_cast<uint8_t>((code[i] + zero) | ((code[i + run / 2] + zero) << 4)));
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
    const BlockLayout layout = block_layout(t.source->type);
    const std::vector<int64_t> shape = {t.source->shape[0], t.source->shape[1] / layout.run};
    specs.push_back({t.name + ".scales", DType::kF32, shape});
    if (has_minima(layout)) specs.push_back({t.name + ".minima", DType::kF32, shape});
  }
  if (specs.empty()) return;
  for (const NamedCodes& t : tensors) {
    if (!has_codes(*t.source)) continue;
    const int64_t out = t.source->shape[0], in = t.source->shape[1];
    if (block_layout(t.source->type).bits == 4)
      specs.push_back({t.name + ".codes", DType::kU8, {out, in / 2}});
    else
      specs.push_back({t.name + ".codes", DType::kI8, {out, in}});
  }
  std::filesystem::create_directories(path.parent_path());
  SafetensorsWriter writer(path, specs);
  const auto write = [&writer](const NamedCodes& t, std::span<const std::byte> bytes) {
    if (t.row_of.empty())
      writer.write(bytes);
    else
      writer.write(reordered_rows(bytes, t.row_of));
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
