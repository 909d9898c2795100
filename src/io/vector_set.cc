#include "io/vector_set.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/npz.h"
#include "io/safetensors.h"
#include "io/strict_json.h"
#include "io/utf8.h"
#include "io/vector_set_formats.h"

namespace accrete {

namespace fs = std::filesystem;

namespace {

// Equal rows of inputs are equal text.
std::string_view row_text(const VectorSet& set, int64_t row) {
  return {reinterpret_cast<const char*>(set.inputs.data() + row * set.width),
          static_cast<size_t>(set.width) * sizeof(float)};
}

void check_labels(const VectorSet& set) {
  const std::set<std::string> names(set.labels.begin(), set.labels.end());
  if (names.size() != set.labels.size() || names.contains(""))
    refuse_set(set.path.string(), "its labels have not a name each");
  for (const auto& name : set.labels)
    if (!is_utf8(name)) refuse_set(set.path.string(), "its labels are not UTF-8");
  for (int64_t i = 0; i < set.rows; ++i) {
    const int32_t c = set.classes[static_cast<size_t>(i)];
    if (c < 0 || static_cast<size_t>(c) >= set.labels.size())
      refuse_set(set.path.string(), accrete::format("row {}: class {} is outside its {} labels",
                                                    i + 1, c, set.labels.size()));
  }
  std::unordered_map<std::string_view, int64_t> seen;
  for (int64_t i = 0; i < set.rows; ++i) {
    const auto [first, is_new] = seen.emplace(row_text(set, i), i);
    const int64_t other = first->second;
    const auto label = [&set](int64_t row) {
      return shown(set.labels[static_cast<size_t>(set.classes[static_cast<size_t>(row)])]);
    };
    if (!is_new && set.classes[static_cast<size_t>(other)] != set.classes[static_cast<size_t>(i)])
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("{}: rows {} and {} have the same inputs, but the labels {} and "
                                  "{}",
                                  set.path.string(), other + 1, i + 1, label(other), label(i)),
                  "leave one of the two out");
  }
}

void check_set(VectorSet& set) {
  const std::string source = set.path.string();
  if (set.rows < 1 || set.width < 1)
    throw Error(ErrorCode::kInvalidArgument, source + ": no row in it",
                "give at least one row of inputs");
  for (size_t i = 0; i < set.inputs.size(); ++i) {
    // -0 is 0, so that equal inputs are equal bytes.
    if (set.inputs[i] == 0) set.inputs[i] = 0;
    if (!std::isfinite(set.inputs[i]))
      refuse_set(source, accrete::format("row {} of its inputs is not finite",
                                         i / static_cast<size_t>(set.width) + 1));
  }
  for (size_t i = 0; i < set.values.size(); ++i)
    if (!std::isfinite(set.values[i]))
      refuse_set(source, accrete::format("row {} of its targets is not finite",
                                         i / static_cast<size_t>(set.outputs) + 1));
  if (!set.metric.empty() && set.metric != "accuracy" && set.metric != "auc" && set.metric != "fit")
    refuse_set(source, "there is no metric " + shown(set.metric));
  if (!is_utf8(set.task)) refuse_set(source, "its task is not UTF-8");
  if (set.in_classes()) check_labels(set);
}

// Names of classes that have none: their numbers, up to the largest there is.
void number_labels(VectorSet& set) {
  std::vector<int32_t> used = set.classes;
  std::sort(used.begin(), used.end());
  used.erase(std::unique(used.begin(), used.end()), used.end());
  if (!used.empty() && used.front() < 0)
    refuse_set(set.path.string(), accrete::format("a class is {}", used.front()));
  for (const int32_t c : used) set.labels.push_back(std::to_string(c));
  for (int32_t& c : set.classes)
    c = static_cast<int32_t>(std::lower_bound(used.begin(), used.end(), c) - used.begin());
}

void set_shape(VectorSet& set, const std::vector<int64_t>& shape) {
  if (shape.empty()) refuse_set(set.path.string(), "inputs are a single number");
  // Of an array without a number the other sizes may be anything.
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return;
  set.rows = shape.front();
  set.width = 1;
  for (size_t i = 1; i < shape.size(); ++i) set.width *= shape[i];
}

void set_targets(VectorSet& set, const std::vector<int64_t>& shape, bool whole) {
  if (shape.empty() || shape.front() != set.rows || shape.size() > 2)
    refuse_set(set.path.string(),
               accrete::format("targets are not one row for each of {} rows of inputs", set.rows));
  if (whole && shape.size() == 2 && shape[1] != 1)
    refuse_set(set.path.string(), "targets are whole numbers, so classes, but not one a row");
  if (!whole) set.outputs = shape.size() == 2 ? shape[1] : 1;
}

VectorSet parse_tensors(std::span<const std::byte> bytes, const fs::path& path) {
  VectorSet set;
  set.path = path;
  const std::string source = path.string();
  std::vector<TensorView> tensors;
  Metadata metadata;
  parse_safetensors(bytes, source, tensors, metadata);
  const TensorView *inputs = nullptr, *targets = nullptr;
  for (const TensorView& t : tensors) {
    if (t.name == "inputs")
      inputs = &t;
    else if (t.name == "targets")
      targets = &t;
    else
      refuse_set(source, "a teach set has no tensor " + shown(t.name));
  }
  if (inputs == nullptr) refuse_set(source, "it has no tensor inputs");
  set_shape(set, inputs->shape);
  if (inputs->dtype == DType::kU8) {
    for (const std::byte b : inputs->bytes)
      set.inputs.push_back(static_cast<float>(std::to_integer<uint8_t>(b)));
  } else {
    set.inputs = to_float32(*inputs);
  }
  if (targets != nullptr) {
    const bool whole = targets->dtype == DType::kI32;
    set_targets(set, targets->shape, whole);
    if (whole) {
      set.classes.resize(targets->bytes.size() / sizeof(int32_t));
      if (!set.classes.empty())
        std::memcpy(set.classes.data(), targets->bytes.data(), targets->bytes.size());
    } else {
      set.values = to_float32(*targets);
    }
  }
  set.task = metadata["task"];
  set.metric = metadata["metric"];
  if (!metadata["labels"].empty()) {
    const auto labels = parse_json(metadata["labels"], source + ": labels");
    for (const auto& label : labels) {
      if (!label.is_string()) refuse_set(source, "labels are not names");
      set.labels.push_back(label.get<std::string>());
    }
  }
  return set;
}

VectorSet parse_arrays(std::span<const std::byte> bytes, const fs::path& path) {
  VectorSet set;
  set.path = path;
  const std::string source = path.string();
  const auto arrays = parse_npz(bytes, source);
  const auto find = [&arrays](std::string_view name, std::string_view other) -> const NpyArray* {
    for (const NpyArray& a : arrays)
      if (a.name == name || a.name == other) return &a;
    return nullptr;
  };
  const NpyArray* inputs = find("inputs", "observations");
  const NpyArray* targets = find("targets", "actions");
  if (inputs == nullptr) refuse_set(source, "it has no array inputs");
  set_shape(set, inputs->shape);
  set.inputs = inputs->numbers();
  if (targets != nullptr) {
    const bool whole =
        targets->type != NpyArray::Type::kF32 && targets->type != NpyArray::Type::kF64;
    set_targets(set, targets->shape, whole);
    if (whole)
      set.classes = targets->whole();
    else
      set.values = targets->numbers();
  }
  if (const NpyArray* labels = find("labels", "labels")) set.labels = labels->text();
  for (const auto& [name, into] : {std::pair("task", &set.task), std::pair("metric", &set.metric)})
    if (const NpyArray* array = find(name, name)) {
      const auto text = array->text();
      if (text.size() == 1) *into = text.front();
    }
  return set;
}

}  // namespace

void refuse_set(std::string_view source, const std::string& what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}: {}", source, what),
              "docs/domains.md says what a set of rows looks like");
}

VectorSet read_vector_set(const fs::path& path) {
  return parse_vector_set(MappedFile(path).bytes(), path);
}

VectorSet parse_vector_set(std::span<const std::byte> bytes, const fs::path& path) {
  const std::string extension = path.extension().string();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  VectorSet set;
  if (extension == ".safetensors")
    set = parse_tensors(bytes, path);
  else if (extension == ".npz")
    set = parse_arrays(bytes, path);
  else if (extension == ".jsonl")
    set = parse_vector_lines(text, path.string());
  else if (extension == ".csv")
    set = parse_vector_table(text, path.string());
  else
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{}: not a .safetensors, .npz, .jsonl or .csv file", path.string()),
                "this model learns rows of numbers: name a file of one of these kinds");
  set.path = path;
  if (!set.classes.empty() && set.labels.empty()) number_labels(set);
  if (set.rows > 0 && !set.has_targets()) refuse_set(path.string(), "it has no targets");
  check_set(set);
  set.digest = sha256_hex(bytes);
  return set;
}

VectorSet parse_vector_rows(std::string_view text, std::string_view source) {
  VectorSet set = parse_vector_lines(text, source);
  set.path = std::string(source);
  check_set(set);
  set.digest = sha256_hex(std::as_bytes(std::span(text.data(), text.size())));
  return set;
}

VectorSet vector_rows(std::vector<float> inputs, int64_t width, std::string_view source) {
  VectorSet set;
  set.path = std::string(source);
  set.width = width;
  set.rows = width > 0 ? static_cast<int64_t>(inputs.size()) / width : 0;
  set.inputs = std::move(inputs);
  check_set(set);
  set.digest = sha256_hex(std::as_bytes(std::span(set.inputs)));
  return set;
}

std::string to_jsonl(const VectorSet& set) {
  std::string out;
  for (int64_t i = 0; i < set.rows; ++i) {
    nlohmann::ordered_json line;
    const auto row = static_cast<size_t>(i);
    const auto part = [](const std::vector<float>& all, int64_t width, size_t at) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(at) * width;
      return std::vector<float>(begin, begin + width);
    };
    line["inputs"] = part(set.inputs, set.width, row);
    if (set.in_classes())
      line["label"] = set.labels[static_cast<size_t>(set.classes[row])];
    else if (set.outputs > 0)
      line["targets"] = part(set.values, set.outputs, row);
    out += line.dump() + "\n";
  }
  return out;
}

}  // namespace accrete
