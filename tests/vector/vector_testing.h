// Small models of vectors for the tests: folders as a user brings them, and sets.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/format.h"
#include "base/rng.h"
#include "base/sha256.h"
#include "io/safetensors.h"
#include "io/vector_set.h"
#include "vector/vector_teach.h"

namespace accrete::testing {

struct Floats {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

inline void write_vector_folder(const std::filesystem::path& folder, const std::string& config,
                                const std::map<std::string, Floats>& tensors) {
  std::filesystem::create_directories(folder);
  write_file_atomically(folder / "config.json", config);
  std::vector<TensorView> views;
  for (const auto& [name, t] : tensors)
    views.push_back({name, DType::kF32, t.shape, std::as_bytes(std::span(t.values))});
  write_safetensors(folder / "model.safetensors", views);
}

// A classifier of 2 inputs whose network says nothing.
inline void write_classifier(const std::filesystem::path& folder) {
  write_vector_folder(folder, R"({"model_type": "feature_classifier", "inputs": 2})",
                      {{"standardize.mean", {{2}, {0, 0}}}, {"standardize.scale", {{2}, {1, 1}}}});
}

// A policy of 2 inputs and 2 actions with a hidden layer of 3.
inline void write_policy(const std::filesystem::path& folder) {
  write_vector_folder(folder,
                      R"({"model_type": "policy_mlp", "inputs": 2, "outputs": ["left", "right"]})",
                      {{"standardize.mean", {{2}, {0, 0}}},
                       {"standardize.scale", {{2}, {1, 1}}},
                       {"layers.0.weight", {{3, 2}, {1, 0, 0, 1, -1, .5F}}},
                       {"layers.0.bias", {{3}, {0, .1F, 0}}},
                       {"output.weight", {{2, 3}, {.1F, .2F, 0, 0, .3F, .4F}}},
                       {"output.bias", {{2}, {0, .1F}}}});
}

// Points around (x, y), named: `n` of them, by `seed`.
inline VectorSet cloud(const std::string& label, float x, float y, int64_t n, uint64_t seed) {
  VectorSet set;
  set.path = label + ".npz";
  set.rows = n;
  set.width = 2;
  Rng rng(seed);
  for (int64_t i = 0; i < n; ++i) {
    set.inputs.push_back(x + .2F * rng.normal());
    set.inputs.push_back(y + .2F * rng.normal());
  }
  set.labels = {label};
  set.classes.assign(static_cast<size_t>(n), 0);
  set.digest = sha256_hex(accrete::format("{} {} {} {} {}", label, x, y, n, seed));
  return set;
}

// Two sets of classes as one.
inline VectorSet together(const VectorSet& a, const VectorSet& b) {
  VectorSet out = a;
  out.rows += b.rows;
  out.inputs.insert(out.inputs.end(), b.inputs.begin(), b.inputs.end());
  for (const auto& label : b.labels) out.labels.push_back(label);
  for (const int32_t c : b.classes)
    out.classes.push_back(c + static_cast<int32_t>(a.labels.size()));
  out.digest = sha256_hex(a.digest + b.digest);
  return out;
}

inline RetrofitVectorsOptions small_memory() {
  RetrofitVectorsOptions options;
  options.columns = 64;
  options.winners = 24;
  options.ridge = .1;
  return options;
}

}  // namespace accrete::testing
