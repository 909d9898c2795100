#include "vector/vector_model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "base/format.h"
#include "base/sha256.h"
#include "base/threads.h"
#include "io/utf8.h"
#include "model/memory_files.h"

namespace accrete {

namespace fs = std::filesystem;

namespace {

constexpr const char* kBackgroundFile = "background.safetensors";
constexpr int64_t kRowsInMemory = 4096;

VectorMemory read_memory(const fs::path& folder) {
  const auto json = load_memory_info(folder);
  VectorMemory m;
  try {
    if (json.at("kind") != "winners")
      throw Error(ErrorCode::kUnsupported,
                  accrete::format("{} has no memory of vectors", folder.string()));
    m.columns = json.at("columns").get<int64_t>();
    m.winners = json.at("winners").get<int64_t>();
    m.ridge = json.at("ridge").get<double>();
    m.seed = json.at("seed").get<uint64_t>();
    m.base_digest = json.at("base_digest").get<std::string>();
    m.background = json.at("background").get<std::string>();
  } catch (const nlohmann::json::exception& e) {
    throw Error(ErrorCode::kFormat,
                accrete::format("{}: accrete/memory.json: {}", folder.string(), e.what()),
                "run `accrete retrofit` again into a new folder");
  }
  if (!(m.ridge > 0) || !std::isfinite(m.ridge))
    throw Error(ErrorCode::kFormat,
                accrete::format("{}: accrete/memory.json: ridge is not above 0", folder.string()));
  return m;
}

// Equal inputs have equal names: the beginning of their SHA-256.
int64_t name_of(std::span<const float> row) {
  const std::string digits = sha256_hex(std::as_bytes(row)).substr(0, 16);
  return static_cast<int64_t>(std::stoull(digits, nullptr, 16));
}

// AUC by ranks; equal scores count half.
double area_under_curve(std::span<const float> scores, const std::vector<bool>& positive) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] < scores[b]; });
  double ranks = 0, n = 0;
  for (size_t i = 0; i < order.size();) {
    size_t end = i;
    while (end < order.size() && scores[order[end]] == scores[order[i]]) ++end;
    const double rank = static_cast<double>(i + end + 1) / 2;
    for (; i < end; ++i)
      if (positive[order[i]]) {
        ranks += rank;
        ++n;
      }
  }
  const double others = static_cast<double>(scores.size()) - n;
  return n > 0 && others > 0 ? (ranks - n * (n + 1) / 2) / (n * others) : 0.5;
}

// The share of the variance of the targets [n, width] that the answers explain.
double explained(std::span<const float> answers, std::span<const float> targets, int64_t width) {
  const auto w = static_cast<size_t>(width);
  const auto n = static_cast<double>(targets.size() / w);
  double missing = 0, all = 0;
  for (size_t c = 0; c < w; ++c) {
    double mean = 0;
    for (size_t i = c; i < targets.size(); i += w) mean += targets[i] / n;
    for (size_t i = c; i < targets.size(); i += w) {
      missing += std::pow(double{targets[i]} - answers[i], 2);
      all += std::pow(targets[i] - mean, 2);
    }
  }
  if (all <= 0) return missing <= 0 ? 1 : 0;
  return std::clamp(1 - missing / all, 0.0, 1.0);
}

// Of a table's classes: the label as a number.
float value_of_label(const VectorSet& set, size_t row) {
  return set.labels[static_cast<size_t>(set.classes[row])] == "1" ? 1.0F : 0.0F;
}

int32_t target_of(double value) {
  return static_cast<int32_t>(std::llround(value / kTargetStep));
}

// Its sums in the place of its rows, where they take less room.
void shrink(UpdateVectors& v) {
  const size_t as_rows = 4 * v.slots.size() + 4 * v.values.size();
  const size_t as_sums =
      8 * (half_row(v.columns, v.columns) + static_cast<size_t>(v.columns) * v.outputs.size());
  if (as_rows <= as_sums) return;
  v.gram.assign(half_row(v.columns, v.columns), 0.0);
  add_gram(v.slots, v.weights, v.per_row, v.columns, v.gram);
  v.cross = cross_of(v);
  v.slots = {};
  v.weights = {};
  v.values = {};
  v.per_row = 0;
}

}  // namespace

bool has_vector_memory(const fs::path& folder) {
  return has_memory_files(folder) &&
         load_memory_info(folder).value("kind", std::string()) == "winners";
}

VectorModel::VectorModel(VectorNetwork net, VectorPlace place)
    : net_(std::move(net)),
      place_(std::move(place)),
      winners_(net_.address_width(), place_.memory.columns, place_.memory.winners,
               place_.memory.seed, net_.gate()) {}

VectorModel VectorModel::open(const fs::path& folder) {
  VectorNetwork net = VectorNetwork::open(folder);
  VectorPlace place;
  place.folder = folder;
  place.memory = read_memory(folder);
  place.first = net.outputs();
  if (place.memory.base_digest != net.digest())
    throw Error(ErrorCode::kFormat,
                accrete::format("{}: its network is not the one that its memory was made for",
                                folder.string()),
                "put config.json and model.safetensors back, or run `accrete retrofit` again");
  if (!place.memory.background.empty()) {
    const fs::path file = folder / "accrete" / kBackgroundFile;
    const MappedFile mapped(file);
    if (sha256_hex(mapped.bytes()) != place.memory.background)
      throw Error(ErrorCode::kFormat, accrete::format("{} was changed", file.string()),
                  "run `accrete retrofit` again into a new folder");
    place.background = std::make_shared<const Update>(parse_update(mapped.bytes(), file.string()));
  }
  return {std::move(net), std::move(place)};
}

std::vector<float> VectorModel::answer(const VectorState& state,
                                       std::span<const float> inputs) const {
  const int64_t width = net_.inputs(), n = static_cast<int64_t>(inputs.size()) / width;
  const auto outputs = static_cast<int64_t>(state.outputs.size());
  const auto first = static_cast<int64_t>(net_.outputs().size());
  std::vector<float> out(static_cast<size_t>(n * outputs), 0.0F);
  const auto* values = state.values.data_ptr<float>();
  const auto step = static_cast<float>(kWeightStep);
  for (int64_t begin = 0; begin < n; begin += kRowsInMemory) {
    const int64_t rows = std::min(kRowsInMemory, n - begin);
    const auto pass = net_.run(
        inputs.subspan(static_cast<size_t>(begin * width), static_cast<size_t>(rows * width)));
    const VectorAccesses a = winners_.of(pass.address, pass.gate);
    share_out(static_cast<size_t>(rows), 64, 64, [&](size_t from, size_t to) {
      for (size_t row = from; row < to; ++row) {
        float* y = out.data() + (static_cast<size_t>(begin) + row) * static_cast<size_t>(outputs);
        std::copy_n(pass.outputs.data() + row * static_cast<size_t>(first), first, y);
        const size_t k = static_cast<size_t>(a.per_row);
        for (size_t i = row * k; i < (row + 1) * k && a.slots[i] >= 0; ++i) {
          const float w = step * static_cast<float>(a.weights[i]);
          const float* v = values + a.slots[i] * outputs;
          for (int64_t c = 0; c < outputs; ++c) y[c] += w * v[c];
        }
      }
    });
  }
  return out;
}

std::vector<int32_t> VectorModel::largest(std::span<const float> outputs, int64_t width) {
  std::vector<int32_t> out;
  const auto w = static_cast<size_t>(width);
  for (size_t at = 0; w > 0 && at < outputs.size(); at += w)
    out.push_back(
        static_cast<int32_t>(std::max_element(outputs.begin() + static_cast<int64_t>(at),
                                              outputs.begin() + static_cast<int64_t>(at + w)) -
                             outputs.begin() - static_cast<int64_t>(at)));
  return out;
}

void VectorModel::require_fit(const VectorSet& set) const {
  const auto refuse = [&set](const std::string& what, const std::string& hint) {
    throw Error(ErrorCode::kInvalidArgument, accrete::format("{}: {}", set.path.string(), what),
                hint);
  };
  if (set.width != net_.inputs())
    refuse(accrete::format("its rows have {} inputs, and the model {}", set.width, net_.inputs()),
           "make the set for this model");
  if (!set.has_targets()) return;
  const auto outputs = static_cast<int64_t>(net_.outputs().size());
  const std::string metric = metric_of(set);
  if (net_.kind() == VectorKind::kClassifier) {
    if (!set.in_classes()) refuse("a classifier learns classes", "targets of whole numbers, [n]");
    if (metric != "accuracy") refuse("a classifier is measured by accuracy", "leave metric out");
    return;
  }
  if (metric == "accuracy") refuse("accuracy is for classifiers", "metric auc or fit, or none");
  if (set.in_classes()) {
    if (net_.kind() == VectorKind::kPolicy)
      refuse("a policy learns values", "targets of float32, [n, actions]");
    for (const auto& label : set.labels)
      if (label != "0" && label != "1")
        refuse(accrete::format("a table's labels are 0 and 1, not {}", shown(label)),
               "write the label as 0 or 1");
    return;
  }
  if (set.outputs != outputs)
    refuse(
        accrete::format("its rows have {} targets, and the model {} outputs", set.outputs, outputs),
        "make the set for this model");
  for (size_t i = 0; i < set.values.size(); ++i)
    if (std::abs(set.values[i]) > 8192)
      refuse(accrete::format("row {}: a target of {} is too large",
                             i / static_cast<size_t>(set.outputs) + 1, set.values[i]),
             "scale the targets: they should be near 1, and at most 8192");
}

std::string VectorModel::metric_of(const VectorSet& set) const {
  if (!set.metric.empty()) return set.metric;
  if (net_.kind() == VectorKind::kClassifier) return "accuracy";
  return net_.kind() == VectorKind::kPolicy ? "fit" : "auc";
}

double VectorModel::score(const VectorState& state, const VectorSet& set) const {
  const auto outputs = static_cast<int64_t>(state.outputs.size());
  const std::vector<float> said = answer(state, set.inputs);
  if (net_.kind() == VectorKind::kClassifier) {
    double right = 0;
    const auto classes = largest(said, outputs);
    for (size_t i = 0; i < classes.size(); ++i)
      right += state.outputs[static_cast<size_t>(classes[i])] ==
               set.labels[static_cast<size_t>(set.classes[i])];
    return right / static_cast<double>(set.rows);
  }
  std::vector<float> wanted = set.values;
  for (size_t i = 0; i < set.classes.size(); ++i) wanted.push_back(value_of_label(set, i));
  if (metric_of(set) == "fit") return explained(said, wanted, outputs);
  std::vector<bool> positive;
  std::vector<float> scores;
  for (size_t i = 0; i < static_cast<size_t>(set.rows); ++i) {
    positive.push_back(wanted[i * static_cast<size_t>(outputs)] > 0.5F);
    scores.push_back(said[i * static_cast<size_t>(outputs)]);
  }
  return area_under_curve(scores, positive);
}

UpdateVectors VectorModel::accesses_of(const VectorSet& set, std::vector<float>* base) const {
  UpdateVectors v;
  v.columns = place_.memory.columns;
  v.rows = set.rows;
  v.per_row = winners_.winners();
  const auto width = static_cast<size_t>(net_.inputs());
  for (size_t begin = 0; begin < static_cast<size_t>(set.rows); begin += kRowsInMemory) {
    const size_t rows = std::min<size_t>(kRowsInMemory, static_cast<size_t>(set.rows) - begin);
    const auto pass = net_.run(std::span(set.inputs).subspan(begin * width, rows * width));
    const VectorAccesses a = winners_.of(pass.address, pass.gate);
    v.slots.insert(v.slots.end(), a.slots.begin(), a.slots.end());
    v.weights.insert(v.weights.end(), a.weights.begin(), a.weights.end());
    if (base != nullptr) base->insert(base->end(), pass.outputs.begin(), pass.outputs.end());
    if (set.in_classes() && net_.kind() == VectorKind::kClassifier)
      for (size_t i = 0; i < rows; ++i)
        v.inputs.push_back(name_of(std::span(set.inputs).subspan((begin + i) * width, width)));
  }
  return v;
}

UpdateVectors VectorModel::lesson(const VectorSet& set) const {
  std::vector<float> base;
  UpdateVectors v = accesses_of(set, &base);
  v.outputs = net_.outputs();
  const size_t first = v.outputs.size(), rows = static_cast<size_t>(set.rows);
  if (net_.kind() != VectorKind::kClassifier) {
    for (size_t i = 0; i < rows * first; ++i)
      v.values.push_back(
          target_of(double{set.in_classes() ? value_of_label(set, i) : set.values[i]} - base[i]));
    shrink(v);
    return v;
  }
  std::vector<int32_t> place;  // of each label among the outputs
  for (const auto& label : set.labels) {
    auto at = std::find(v.outputs.begin(), v.outputs.end(), label);
    if (at == v.outputs.end()) at = v.outputs.insert(at, label);
    place.push_back(static_cast<int32_t>(at - v.outputs.begin()));
  }
  for (const int32_t c : set.classes) v.classes.push_back(place[static_cast<size_t>(c)]);
  if (first > 0) {
    // What is missing: 1 at the class and 0 elsewhere, less what the network says already.
    const size_t outputs = v.outputs.size();
    v.values.assign(rows * outputs, 0);
    for (size_t i = 0; i < rows; ++i) {
      for (size_t c = 0; c < first; ++c)
        v.values[i * outputs + c] = target_of(-double{base[i * first + c]});
      v.values[i * outputs + static_cast<size_t>(v.classes[i])] += target_of(1);
    }
  }
  shrink(v);
  return v;
}

UpdateVectors VectorModel::background(const VectorSet& set) const {
  UpdateVectors v = accesses_of(set, nullptr);
  v.inputs = {};
  shrink(v);
  return v;
}

std::string VectorModel::digest(const VectorSums& sums) const {
  Sha256 sha;
  const VectorMemory& m = place_.memory;
  sha.update(accrete::format("winners {} {} {} {} {}\n", m.base_digest, m.columns, m.winners,
                             m.ridge, m.seed));
  sha.update(std::as_bytes(std::span(sums.gram())));
  for (const auto& name : sums.outputs()) {
    sha.update(accrete::format("{}:{}\n", name.size(), name));
    sha.update(std::as_bytes(std::span(sums.cross(name))));
  }
  return sha.hex();
}

}  // namespace accrete
