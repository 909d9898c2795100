#include "ledger/vectors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <span>

#include "base/error.h"
#include "base/format.h"
#include "io/strict_json.h"

namespace accrete {
namespace {

constexpr std::string_view kNames = "vectors.names";
constexpr std::string_view kClasses = "vectors.classes";
constexpr std::string_view kInputs = "vectors.inputs";
constexpr std::string_view kSlots = "vectors.slots";
constexpr std::string_view kWeights = "vectors.weights";
constexpr std::string_view kValues = "vectors.values";
constexpr std::string_view kGram = "vectors.gram";
constexpr std::string_view kCross = "vectors.cross";
constexpr double kExact = 9007199254740992.0;  // 2^53

[[noreturn]] void damaged(std::string_view source, const std::string& what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}: {}", source, what),
              "the update file is damaged, was changed, or is not one of accrete's; get it again");
}

template <typename T>
std::vector<T> take_numbers(const TensorView& t, DType dtype, size_t dimensions,
                            std::string_view source) {
  if (t.dtype != dtype || t.shape.size() != dimensions || t.bytes.size() % sizeof(T) != 0 ||
      std::any_of(t.shape.begin(), t.shape.end(), [](int64_t n) { return n < 1; }))
    damaged(source, accrete::format("{} is not {} of {} dimensions", t.name, dtype_name(dtype),
                                    dimensions));
  std::vector<T> out(t.bytes.size() / sizeof(T));
  std::memcpy(out.data(), t.bytes.data(), t.bytes.size());
  return out;
}

void take_names(const TensorView& t, std::string_view source, UpdateVectors& vectors) {
  if (t.dtype != DType::kU8 || t.shape.size() != 1)
    damaged(source, "vectors.names is not U8 [bytes]");
  const auto json = parse_json({reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size()},
                               std::string(source) + ": vectors.names");
  try {
    if (json.size() != 3) damaged(source, "vectors.names has not just outputs, columns and rows");
    vectors.outputs = json.at("outputs").get<std::vector<std::string>>();
    vectors.columns = json.at("columns").get<int64_t>();
    vectors.rows = json.at("rows").get<int64_t>();
  } catch (const nlohmann::json::exception& e) {
    damaged(source, "vectors.names: " + json_error_text(e.what()));
  }
  if (vectors.columns < 1) damaged(source, "vectors.names has no columns");
}

std::string accesses_fault(const UpdateVectors& v) {
  const auto n = static_cast<size_t>(v.rows), k = static_cast<size_t>(v.per_row);
  if (v.per_row < 1 || v.per_row > v.columns || v.slots.size() != n * k ||
      v.weights.size() != n * k)
    return accrete::format("it has not the slots and weights of {} rows", v.rows);
  for (size_t row = 0; row < n; ++row) {
    int previous = -1;
    bool ended = false;
    for (size_t i = row * k; i < (row + 1) * k; ++i) {
      ended |= v.slots[i] < 0;
      const bool fits = ended ? v.slots[i] == -1 && v.weights[i] == 0
                              : v.slots[i] > previous && v.slots[i] < v.columns && v.weights[i] > 0;
      if (!fits) return accrete::format("the accesses of row {} are not ascending slots", row);
      previous = v.slots[i];
    }
  }
  // In classes the targets follow from them, unless the network says something itself.
  const bool from_classes = !v.classes.empty() && v.values.empty();
  if (!from_classes && v.values.size() != n * v.outputs.size())
    return "it has not a target for each row and output";
  return {};
}

std::string sums_fault(const UpdateVectors& v) {
  const auto whole = [](double x) { return std::abs(x) < kExact && x == std::floor(x); };
  if (v.per_row != 0 || !v.slots.empty() || !v.weights.empty() || !v.values.empty())
    return "it has accesses and sums";
  if (v.gram.size() != half_row(v.columns, v.columns) ||
      v.cross.size() != static_cast<size_t>(v.columns) * v.outputs.size())
    return "its sums are of another size";
  if (!std::all_of(v.gram.begin(), v.gram.end(), whole) ||
      !std::all_of(v.cross.begin(), v.cross.end(), whole))
    return "its sums are not whole numbers below 2^53";
  return {};
}

}  // namespace

std::string fault(const UpdateVectors& v) {
  if (v.empty())
    return v.outputs.empty() && v.rows == 0 && v.classes.empty() && v.inputs.empty() &&
                   v.slots.empty() && v.weights.empty() && v.values.empty() && v.gram.empty() &&
                   v.cross.empty()
               ? ""
               : "it has vectors without columns";
  if (v.columns > kMostColumns)
    return accrete::format("{} columns are more than {}", v.columns, kMostColumns);
  if (v.rows < 1 || v.rows > (int64_t{1} << 31)) return accrete::format("it has {} rows", v.rows);
  const std::set<std::string> names(v.outputs.begin(), v.outputs.end());
  if (names.size() != v.outputs.size() || names.contains(""))
    return "its outputs have not a name each";
  if (v.classes.size() != v.inputs.size()) return "it has not an input for each class";
  if (!v.classes.empty() && v.classes.size() != static_cast<size_t>(v.rows))
    return "it has not a class for each row";
  for (const int32_t c : v.classes)
    if (c < 0 || static_cast<size_t>(c) >= v.outputs.size())
      return accrete::format("class {} is outside its {} outputs", c, v.outputs.size());
  return v.as_sums() ? sums_fault(v) : accesses_fault(v);
}

std::string names_of(const UpdateVectors& v) {
  if (v.empty()) return {};
  return nlohmann::ordered_json({{"outputs", v.outputs}, {"columns", v.columns}, {"rows", v.rows}})
      .dump();
}

void append_tensors(const UpdateVectors& v, const std::string& names,
                    std::vector<TensorView>& views) {
  if (v.empty()) return;
  const auto outputs = static_cast<int64_t>(v.outputs.size());
  const auto add = [&views]<typename T>(std::string_view name, DType dtype,
                                        std::vector<int64_t> shape, const std::vector<T>& values) {
    if (!values.empty())
      views.push_back(
          {std::string(name), dtype, std::move(shape), std::as_bytes(std::span(values))});
  };
  // Larger elements first, so that every tensor starts at a multiple of its element's size.
  add(kGram, DType::kF64, {static_cast<int64_t>(v.gram.size())}, v.gram);
  add(kCross, DType::kF64, {outputs, v.columns}, v.cross);
  add(kInputs, DType::kI64, {v.rows}, v.inputs);
  add(kClasses, DType::kI32, {v.rows}, v.classes);
  add(kValues, DType::kI32, {v.rows, outputs}, v.values);
  add(kSlots, DType::kI16, {v.rows, v.per_row}, v.slots);
  add(kWeights, DType::kI16, {v.rows, v.per_row}, v.weights);
  views.push_back({std::string(kNames),
                   DType::kU8,
                   {static_cast<int64_t>(names.size())},
                   std::as_bytes(std::span(names))});
}

bool take_tensor(const TensorView& tensor, std::string_view source, UpdateVectors& v) {
  if (tensor.name == kNames) {
    take_names(tensor, source, v);
  } else if (tensor.name == kClasses) {
    v.classes = take_numbers<int32_t>(tensor, DType::kI32, 1, source);
  } else if (tensor.name == kInputs) {
    v.inputs = take_numbers<int64_t>(tensor, DType::kI64, 1, source);
  } else if (tensor.name == kSlots) {
    v.slots = take_numbers<int16_t>(tensor, DType::kI16, 2, source);
    v.per_row = tensor.shape[1];
  } else if (tensor.name == kWeights) {
    v.weights = take_numbers<int16_t>(tensor, DType::kI16, 2, source);
  } else if (tensor.name == kValues) {
    v.values = take_numbers<int32_t>(tensor, DType::kI32, 2, source);
  } else if (tensor.name == kGram) {
    v.gram = take_numbers<double>(tensor, DType::kF64, 1, source);
  } else if (tensor.name == kCross) {
    v.cross = take_numbers<double>(tensor, DType::kF64, 2, source);
  } else {
    return false;
  }
  return true;
}

}  // namespace accrete
