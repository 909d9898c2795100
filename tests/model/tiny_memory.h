// A tiny model whose one block has a memory with learned keys in place of its FFN, as `accrete
// pretrain` makes them, without training: the keys are some of the model's own queries.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/rng.h"
#include "io/safetensors.h"
#include "learn/new_model.h"
#include "model/memory_files.h"
#include "write_tensors.h"

namespace accrete::testing {

struct TinyMemory {
  int64_t block = 1;
  ProductKeyOptions keys;
  Gate gate;
  int64_t background_tokens = 2000;
  int64_t window = 32;
  uint64_t seed = 0;
};

inline at::Tensor tiny_normals(at::IntArrayRef shape, Rng rng) {
  auto t = at::empty(shape, at::kFloat);
  for (int64_t i = 0; i < t.numel(); ++i) t.data_ptr<float>()[i] = static_cast<float>(rng.normal());
  return t;
}

// Windows of the documents' tokens, one after the other.
inline std::vector<std::vector<int32_t>> tiny_windows(const Tokenizer& tokenizer,
                                                      const std::vector<std::string>& documents,
                                                      const TinyMemory& how) {
  std::vector<std::vector<int32_t>> windows;
  const auto window = static_cast<size_t>(how.window);
  for (const auto& document : documents) {
    const auto ids = tokenizer.encode_text(document);
    for (size_t at = 0; at + window <= ids.size(); at += window) {
      windows.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(at),
                           ids.begin() + static_cast<std::ptrdiff_t>(at + window));
      if (static_cast<int64_t>(windows.size()) * (how.window - 1) >= how.background_tokens)
        return windows;
    }
  }
  return windows;
}

// Keys for states x [T, d]: whitened queries, each head's turned by itself; a half-key is the half
// of some token's query, scored by minus the squared distance.
inline ProductKeys tiny_keys(const at::Tensor& x, const ProductKeyOptions& o, const Rng& rng) {
  const int64_t w = o.query_width, d = x.size(1);
  const auto centred = (x - x.mean(0)).to(at::kDouble);
  const auto [values, vectors] = at::linalg_eigh(at::mm(centred.t(), centred) / x.size(0));
  const auto whiten =
      vectors.narrow(1, d - w, w) / values.narrow(0, d - w, w).clamp_min(1e-6).sqrt();
  std::vector<at::Tensor> projections, keys;
  constexpr double kTemperature = 2;
  for (int64_t h = 0; h < o.heads; ++h) {
    const auto turn = std::get<0>(
        at::linalg_qr(tiny_normals({w, w}, rng.split(static_cast<uint64_t>(h))).to(at::kDouble)));
    projections.push_back(at::mm(whiten, turn).to(at::kFloat));
    const auto q = at::mm(x, projections.back());
    std::vector<int64_t> some;
    Rng draw = rng.split(static_cast<uint64_t>(100 + h));
    for (int64_t k = 0; k < o.half_keys; ++k)
      some.push_back(static_cast<int64_t>(draw.below(static_cast<uint64_t>(x.size(0)))));
    const auto of_tokens = q.index_select(0, at::tensor(some, at::kLong));
    keys.push_back(of_tokens.view({o.half_keys, 2, w / 2}).transpose(0, 1));
  }
  const auto c = at::stack(keys).contiguous();  // [heads, 2, half_keys, w / 2]
  return ProductKeys::from_tensors(o, at::zeros({d}), at::cat(projections, 1),
                                   c * (2 / kTemperature), c.square().sum(3).neg() / kTemperature);
}

// Makes `target` out of the Hugging Face folder `source`, a Llama in one file.
inline void add_tiny_memory(const std::filesystem::path& source,
                            const std::filesystem::path& target,
                            const std::vector<std::string>& documents, const TinyMemory& how) {
  OpenOptions open;
  open.threads = 1;
  const LanguageModel base = LanguageModel::open(source, open);
  const auto windows = tiny_windows(base.tokenizer(), documents, how);
  const int64_t blocks[] = {how.block};
  const auto states = collect_states(base.net(), windows, blocks, {}).front();
  const Rng rng(how.seed, 9);
  Memory memory;
  memory.address_block = how.block;
  memory.blocks = {how.block};
  memory.keys = tiny_keys(states, how.keys, rng);
  memory.gate = how.gate;
  find_first(memory.gate, memory.keys.queries(first_token_states(base.net(), windows, how.block)));

  std::filesystem::create_directories(target);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    std::filesystem::copy_file(source / name, target / name);
  auto config = nlohmann::json::parse(read_file(source / "config.json"));
  config["model_type"] = "accrete_native";
  config["memory"] = {{"block", how.block},
                      {"heads", how.keys.heads},
                      {"half_keys", how.keys.half_keys},
                      {"top_k", how.keys.top_k},
                      {"query_width", how.keys.query_width}};
  write_file_atomically(target / "config.json", config.dump());
  const auto file = SafetensorsFile::open(source / "model.safetensors");
  const std::string layer = "model.layers." + std::to_string(how.block) + ".";
  std::map<std::string, at::Tensor> own;
  for (const auto& [name, tensor] : memory.keys.tensors())
    if (name != "mean") own[layer + "memory." + name] = tensor.contiguous();
  own[layer + "memory.values"] =
      tiny_normals({memory.keys.slots(), base.net().config().width}, rng.split(1)) * 0.3;
  std::vector<TensorView> views;
  for (const TensorView& view : file.tensors())
    if (!view.name.starts_with(layer + "mlp.")) views.push_back(view);
  for (TensorView& view : views_of(own)) views.push_back(std::move(view));
  write_safetensors(target / "model.safetensors", views);
  const LanguageModel bare = LanguageModel::open(target, open);
  write_memory_folder(target, memory, states, documents, {{"base_digest", bare.base_digest()}},
                      rng);
}

}  // namespace accrete::testing
