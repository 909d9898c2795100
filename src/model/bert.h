// A BERT encoder: its weights out of safetensors files, with a LoRA of its linear layers or
// without, and its pass over many texts at once.
//
// A text's rows are the same, bit for bit, alone and beside others, with one thread and with many.
//
// Non-goals: tokens, pooling, what a vector is for (reader.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "model/reader_config.h"

namespace accrete::bert {

// A tensor as it lies in the file's map: read-only. Throws kUnsupported (its type).
at::Tensor mapped_tensor(const TensorView& view, const std::string& folder);

// Tensors by name. Throws kFormat with the name of what is missing or of another shape.
struct Loader {
  const ShardedSafetensors& files;
  std::string folder;
  std::string prefix;  // of tensors' names: "bert." or nothing

  at::Tensor mapped(const std::string& name, const std::vector<int64_t>& shape) const;
  at::Tensor get(const std::string& name, const std::vector<int64_t>& shape) const;  // float32
};

struct Dense {
  at::Tensor weight, bias;  // [out, in], [out]
  at::Tensor operator()(const at::Tensor& x) const;
};

struct LayerNorm {
  at::Tensor weight, bias;  // [width]
  double eps = 0;

  LayerNorm() = default;
  LayerNorm(const Loader& loader, const std::string& name, const ReaderConfig& c);
  at::Tensor operator()(const at::Tensor& x) const;
};

struct Block {
  Dense q, k, v, attended, up, down;
  LayerNorm after_attention, after_ffn;
};

// The encoder's blocks, W + scale B A where the adapter has the two factors of a layer; `others`:
// tensors of its file that are of no layer. Throws kFormat where it has more, or other shapes.
std::vector<Block> blocks(const Loader& loader, const ReaderConfig& c,
                          const std::optional<SafetensorsFile>& adapter, double scale,
                          std::span<const std::string> others);

struct Embeddings {
  at::Tensor words, positions, types;  // [vocabulary, width], [positions, width], [types, width]
  LayerNorm norm;
};

// Texts whose tokens lie one behind the other as rows, those of one length beside each other.
struct Rows {
  struct Group {
    int64_t begin, texts, tokens;  // the first row, how many texts of how many tokens
  };
  std::vector<Group> groups;
  std::vector<int64_t> ids, positions, types;

  // `second`: the first token of type 1.
  void add(const std::vector<int32_t>& text, int64_t second);
};

// [rows, width] float32.
at::Tensor pass(const Embeddings& embeddings, const std::vector<Block>& blocks,
                const ReaderConfig& c, const Rows& rows);

}  // namespace accrete::bert
