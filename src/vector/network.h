// The network of a model of vectors: a folder's config.json and model.safetensors.
//
//   config.json        model_type policy_mlp, feature_classifier or table_mlp; "inputs": N;
//                      "outputs": names (of a policy or table also a number of them: action 0,
//                      ...); "address": "inputs" (the default), "features" or "inputs+features";
//                      "gate": {"first", "count", "share"}: which inputs open columns (winners.h)
//   model.safetensors  standardize.mean, standardize.scale F32 [inputs]; layers.I.weight [out, in]
//                      and layers.I.bias [out], each followed by ReLU; output.weight, output.bias:
//                      without them the network says 0; features.mean, features.scale of the last
//                      hidden layer, where it is in the address
//
// The memory is added at the output: y = net(x) + sum of w_i V_i.
//
// Non-goals: training, convolutions.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "vector/winners.h"

namespace accrete {

enum class VectorKind { kPolicy, kClassifier, kTable };

// Of the folder's config.json; false where there is none that says so.
bool is_vector_folder(const std::filesystem::path& folder);

class VectorNetwork {
 public:
  // Throws kNotFound, kFormat (what is missing or does not fit), kUnsupported.
  static VectorNetwork open(const std::filesystem::path& folder);

  VectorKind kind() const { return kind_; }
  int64_t inputs() const { return static_cast<int64_t>(mean_.size()); }
  const std::vector<std::string>& outputs() const { return outputs_; }
  int64_t address_width() const;
  WinnersGate gate() const { return gate_; }
  // SHA-256 of both files.
  const std::string& digest() const { return digest_; }

  struct Pass {
    std::vector<int16_t> address;  // [n, address_width] (winners.h)
    std::vector<int16_t> gate;     // [n, gate().inputs]
    std::vector<float> outputs;    // [n, outputs]
  };
  // Of rows x [n, inputs].
  Pass run(std::span<const float> x) const;

 private:
  struct Layer {
    at::Tensor weight, bias;
  };
  void read_config(const std::filesystem::path& file);
  void read_tensors(const std::filesystem::path& file);

  VectorKind kind_ = VectorKind::kClassifier;
  bool by_inputs_ = true, by_features_ = false;
  WinnersGate gate_;
  int64_t gate_first_ = 0;
  int64_t inputs_ = 0;
  std::vector<std::string> outputs_;
  std::vector<float> mean_, scale_, features_mean_, features_scale_;
  std::vector<Layer> layers_;
  Layer output_;
  std::string digest_;
};

}  // namespace accrete
