#include "vector/network.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/safetensors.h"
#include "io/strict_json.h"
#include "io/utf8.h"
#include "vector/winners.h"

namespace accrete {

namespace fs = std::filesystem;

namespace {

constexpr const char* kTypes[] = {"policy_mlp", "feature_classifier", "table_mlp"};
constexpr const char* kWeightsFile = "model.safetensors";

[[noreturn]] void refuse_network(const fs::path& file, const std::string& what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}: {}", file.string(), what),
              "docs/domains.md says what the folder of such a model holds");
}

// F32 of this shape; -1: any number.
at::Tensor tensor_of(const SafetensorsFile& file, const std::string& name,
                     std::vector<int64_t> shape, const fs::path& path) {
  const TensorView& view = file.at(name);
  bool fits = view.dtype == DType::kF32 && view.shape.size() == shape.size();
  for (size_t i = 0; fits && i < shape.size(); ++i)
    fits = (shape[i] < 0 || shape[i] == view.shape[i]) && view.shape[i] > 0;
  if (!fits) refuse_network(path, accrete::format("{} has another type or shape", name));
  auto tensor = at::from_blob(const_cast<std::byte*>(view.bytes.data()), view.shape, at::kFloat);
  tensor = tensor.clone();
  if (!tensor.isfinite().all().item<bool>())
    refuse_network(path, accrete::format("{} is not finite", name));
  return tensor;
}

std::vector<float> numbers_of(const SafetensorsFile& file, const std::string& name, int64_t n,
                              const fs::path& path) {
  const at::Tensor t = tensor_of(file, name, {n}, path);
  return {t.data_ptr<float>(), t.data_ptr<float>() + t.numel()};
}

std::vector<float> scales_of(const SafetensorsFile& file, const std::string& name, int64_t n,
                             const fs::path& path) {
  auto out = numbers_of(file, name, n, path);
  if (std::any_of(out.begin(), out.end(), [](float s) { return !(s > 0); }))
    refuse_network(path, accrete::format("{} is not above 0 everywhere", name));
  return out;
}

}  // namespace

bool is_vector_folder(const fs::path& folder) {
  std::error_code ignored;
  const fs::path file = folder / "config.json";
  if (!fs::is_regular_file(file, ignored)) return false;
  const auto json = nlohmann::json::parse(read_file(file), nullptr, false);
  const auto type = json.is_object() ? json.value("model_type", nlohmann::json()) : json;
  return std::find(std::begin(kTypes), std::end(kTypes), type) != std::end(kTypes);
}

VectorNetwork VectorNetwork::open(const fs::path& folder) {
  VectorNetwork net;
  net.read_config(folder / "config.json");
  net.read_tensors(folder / kWeightsFile);
  const MappedFile config(folder / "config.json"), weights(folder / kWeightsFile);
  net.digest_ = sha256_hex(sha256_hex(config.bytes()) + sha256_hex(weights.bytes()));
  return net;
}

void VectorNetwork::read_config(const fs::path& file) {
  const auto json = read_json_object(file);
  try {
    const auto type = json.at("model_type").get<std::string>();
    const auto* known = std::find(std::begin(kTypes), std::end(kTypes), type);
    if (known == std::end(kTypes)) refuse_network(file, "its model_type is " + shown(type));
    kind_ = static_cast<VectorKind>(known - std::begin(kTypes));
    inputs_ = json.at("inputs").get<int64_t>();
    const auto outputs = json.value("outputs", nlohmann::json::array());
    if (outputs.is_number_integer() && outputs.get<int64_t>() < 100000)
      for (int64_t i = 0; i < outputs.get<int64_t>(); ++i) outputs_.push_back(std::to_string(i));
    else
      outputs_ = outputs.get<std::vector<std::string>>();
    const auto address = json.value("address", std::string("inputs"));
    by_inputs_ = address != "features";
    by_features_ = address != "inputs";
    if (by_inputs_ && by_features_ && address != "inputs+features")
      refuse_network(file, "its address is " + shown(address));
    if (json.contains("gate")) {
      const auto& gate = json.at("gate");
      gate_first_ = gate.at("first").get<int64_t>();
      gate_ = {gate.at("count").get<int64_t>(), gate.at("share").get<double>()};
      if (gate_first_ < 0 || gate_.inputs < 1 || gate_first_ > inputs_ - gate_.inputs)
        refuse_network(file, "its gate is not of its inputs");
      if (!(gate_.share > 0) || gate_.share > 1)
        refuse_network(file, "the share of its gate is not above 0 and at most 1");
    }
  } catch (const nlohmann::json::exception& e) {
    refuse_network(file, json_error_text(e.what()));
  }
  const std::set<std::string> names(outputs_.begin(), outputs_.end());
  if (names.size() != outputs_.size() || names.contains(""))
    refuse_network(file, "its outputs have not a name each");
  if (inputs_ < 1) refuse_network(file, "it has no inputs");
  if (kind_ == VectorKind::kTable && outputs_.empty()) outputs_ = {"risk"};
  if (kind_ == VectorKind::kTable && outputs_.size() != 1)
    refuse_network(file, "a table model has one output");
  if (kind_ == VectorKind::kPolicy && outputs_.empty())
    refuse_network(file, "a policy needs outputs");
}

void VectorNetwork::read_tensors(const fs::path& path) {
  const auto file = SafetensorsFile::open(path);
  mean_ = numbers_of(file, "standardize.mean", inputs_, path);
  scale_ = scales_of(file, "standardize.scale", inputs_, path);
  int64_t width = inputs_;
  size_t used = 2;
  for (int64_t i = 0;; ++i) {
    const std::string name = accrete::format("layers.{}.", i);
    if (file.find(name + "weight") == nullptr) break;
    Layer layer{tensor_of(file, name + "weight", {-1, width}, path), {}};
    width = layer.weight.size(0);
    layer.bias = tensor_of(file, name + "bias", {width}, path);
    layers_.push_back(layer);
    used += 2;
  }
  if (file.find("output.weight") != nullptr) {
    const auto outputs = static_cast<int64_t>(outputs_.size());
    if (outputs == 0) refuse_network(path, "it has output.weight, and config.json no outputs");
    output_ = {tensor_of(file, "output.weight", {outputs, width}, path),
               tensor_of(file, "output.bias", {outputs}, path)};
    used += 2;
  }
  if (by_features_) {
    if (layers_.empty()) refuse_network(path, "its address is features, but it has no layers");
    features_mean_ = numbers_of(file, "features.mean", width, path);
    features_scale_ = scales_of(file, "features.scale", width, path);
    used += 2;
  }
  if (used != file.tensors().size())
    refuse_network(path, "it has tensors that no model of this kind has");
}

int64_t VectorNetwork::address_width() const {
  return (by_inputs_ ? inputs() : 0) + static_cast<int64_t>(features_mean_.size());
}

VectorNetwork::Pass VectorNetwork::run(std::span<const float> x) const {
  const c10::InferenceMode inference;
  Pass out;
  const auto n = static_cast<int64_t>(x.size()) / inputs_;
  std::vector<int16_t> z;
  if (by_inputs_ || gate_.inputs > 0) z = standardised(x, mean_, scale_);
  for (int64_t row = 0; gate_.inputs > 0 && row < n; ++row) {
    const auto begin = z.begin() + row * inputs_ + gate_first_;
    out.gate.insert(out.gate.end(), begin, begin + gate_.inputs);
  }
  if (!by_features_) out.address = std::move(z);
  out.outputs.resize(static_cast<size_t>(n) * outputs_.size(), 0.0F);
  if (!by_features_ && !output_.weight.defined()) return out;
  auto h = at::empty({n, inputs_}, at::kFloat);
  auto* to = h.data_ptr<float>();
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % mean_.size();
    to[i] = std::clamp((x[i] - mean_[c]) / scale_[c], -kInputLimit, kInputLimit);
  }
  for (const Layer& layer : layers_) h = at::relu(at::addmm(layer.bias, h, layer.weight.t()));
  h = h.contiguous();
  if (by_features_) {
    const auto f = standardised({h.data_ptr<float>(), static_cast<size_t>(h.numel())},
                                features_mean_, features_scale_);
    const auto width = static_cast<int64_t>(features_mean_.size());
    for (int64_t row = 0; row < n; ++row) {
      if (by_inputs_)
        out.address.insert(out.address.end(), z.begin() + row * inputs_,
                           z.begin() + (row + 1) * inputs_);
      out.address.insert(out.address.end(), f.begin() + row * width, f.begin() + (row + 1) * width);
    }
  }
  if (output_.weight.defined()) {
    const auto y = at::addmm(output_.bias, h, output_.weight.t()).contiguous();
    std::copy_n(y.data_ptr<float>(), out.outputs.size(), out.outputs.begin());
  }
  return out;
}

}  // namespace accrete
