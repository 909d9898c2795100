#include "vector/sums.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/threads.h"

namespace accrete {
namespace {

constexpr double kExactBelow = 9007199254740992.0;  // 2^53

}  // namespace

void add_gram(std::span<const int16_t> slots, std::span<const int16_t> weights, int64_t per_row,
              int64_t columns, std::vector<double>& gram) {
  // For each slot the places it has in rows: then one row of the sum at a time is in the cache, and
  // each is written by one thread.
  const auto k = static_cast<size_t>(per_row), n = static_cast<size_t>(columns);
  std::vector<uint32_t> begin(n + 1, 0);
  for (const int16_t s : slots)
    if (s >= 0) ++begin[static_cast<size_t>(s) + 1];
  for (size_t i = 0; i < n; ++i) begin[i + 1] += begin[i];
  std::vector<uint32_t> places(begin.back());
  std::vector<uint32_t> next(begin.begin(), begin.end() - 1);
  for (size_t i = 0; i < slots.size(); ++i)
    if (slots[i] >= 0) places[next[static_cast<size_t>(slots[i])]++] = static_cast<uint32_t>(i);

  share_out(n, 64, 64, [&](size_t first, size_t last) {
    for (size_t s = first; s < last; ++s) {
      double* row = gram.data() + half_row(columns, static_cast<int64_t>(s)) - s;
      for (uint32_t p = begin[s]; p < begin[s + 1]; ++p) {
        const size_t place = places[p], end = (place / k + 1) * k;
        const int32_t weight = weights[place];
        for (size_t i = place; i < end && slots[i] >= 0; ++i)
          row[slots[i]] += weight * int32_t{weights[i]};
      }
    }
  });
}

void add_gram_reference(std::span<const int16_t> slots, std::span<const int16_t> weights,
                        int64_t per_row, int64_t columns, std::vector<double>& gram) {
  const auto k = static_cast<size_t>(per_row);
  for (size_t row = 0; row < slots.size(); row += k)
    for (size_t i = row; i < row + k; ++i)
      for (size_t j = i; j < row + k; ++j)
        if (slots[i] >= 0 && slots[j] >= 0)
          gram[half_row(columns, slots[i]) + static_cast<size_t>(slots[j] - slots[i])] +=
              double{1} * weights[i] * weights[j];
}

std::vector<double> cross_of(const UpdateVectors& a) {
  const size_t outputs = a.outputs.size(), n = static_cast<size_t>(a.columns);
  const auto k = static_cast<size_t>(a.per_row);
  std::vector<double> out(outputs * n, 0.0);
  for (size_t i = 0; i < a.slots.size(); ++i) {
    if (a.slots[i] < 0) continue;
    const size_t row = i / k, slot = static_cast<size_t>(a.slots[i]);
    const double weight = a.weights[i];
    if (a.values.empty() && !a.classes.empty()) {
      out[static_cast<size_t>(a.classes[row]) * n + slot] += weight / kTargetStep;
      continue;
    }
    for (size_t c = 0; c < outputs; ++c) out[c * n + slot] += weight * a.values[row * outputs + c];
  }
  return out;
}

VectorSums::VectorSums(int64_t columns, std::vector<std::string> first)
    : columns_(columns), first_(std::move(first)), gram_(half_row(columns, columns), 0.0) {
  for (const auto& name : first_)
    outputs_[name] = {1, std::vector<double>(static_cast<size_t>(columns), 0.0)};
}

void VectorSums::change(const UpdateVectors& update, double sign) {
  if (update.columns != columns_)
    throw Error(ErrorCode::kFormat, "an update is of a memory with another number of columns",
                "it belongs to another model");
  std::vector<double> cross;
  if (update.as_sums()) {
    for (size_t i = 0; i < gram_.size(); ++i) gram_[i] += sign * update.gram[i];
  } else if (sign > 0) {
    add_gram(update.slots, update.weights, update.per_row, columns_, gram_);
  } else {
    std::vector<double> part(gram_.size(), 0.0);
    add_gram(update.slots, update.weights, update.per_row, columns_, part);
    for (size_t i = 0; i < gram_.size(); ++i) gram_[i] -= part[i];
  }
  if (!update.as_sums()) cross = cross_of(update);
  const std::vector<double>& all = update.as_sums() ? update.cross : cross;
  const auto n = static_cast<size_t>(columns_);
  for (size_t c = 0; c < update.outputs.size(); ++c) {
    Output& output = outputs_[update.outputs[c]];
    output.cross.resize(n, 0.0);
    for (size_t i = 0; i < n; ++i) output.cross[i] += sign * all[c * n + i];
    output.users += sign > 0 ? 1 : -1;
    if (output.users == 0) outputs_.erase(update.outputs[c]);
  }
  rows_ += sign > 0 ? update.rows : -update.rows;
}

void VectorSums::add(const UpdateVectors& update) {
  change(update, 1);
  // No entry of a positive matrix is larger than the largest of its diagonal.
  bool exact = true;
  for (int64_t i = 0; i < columns_; ++i) exact &= gram_[half_row(columns_, i)] < kExactBelow;
  for (const auto& [name, output] : outputs_)
    for (const double x : output.cross) exact &= std::abs(x) < kExactBelow;
  if (!exact)
    throw Error(ErrorCode::kUnsupported, "the sums of this memory would not be exact any more",
                "teach fewer rows, or smaller targets");
}

void VectorSums::take_away(const UpdateVectors& update) {
  change(update, -1);
}

std::vector<std::string> VectorSums::outputs() const {
  std::vector<std::string> out = first_;
  for (const auto& [name, output] : outputs_)
    if (std::find(first_.begin(), first_.end(), name) == first_.end()) out.push_back(name);
  return out;
}

const std::vector<double>& VectorSums::cross(const std::string& output) const {
  return outputs_.at(output).cross;
}

int64_t VectorSums::users(const std::string& output) const {
  return outputs_.at(output).users;
}

int64_t VectorSums::used() const {
  int64_t n = 0;
  for (int64_t i = 0; i < columns_; ++i) n += gram_[half_row(columns_, i)] > 0;
  return n;
}

at::Tensor VectorSums::solve(double ridge) const {
  const c10::InferenceMode inference;
  const std::vector<std::string> names = outputs();
  const auto outputs = static_cast<int64_t>(names.size());
  if (outputs == 0) return at::zeros({columns_, 0}, at::kFloat);
  auto full = at::empty({columns_, columns_}, at::kDouble);
  auto* f = full.data_ptr<double>();
  for (int64_t i = 0; i < columns_; ++i) {
    const double* row = gram_.data() + half_row(columns_, i);
    for (int64_t j = i; j < columns_; ++j)
      f[i * columns_ + j] = row[j - i] * kWeightStep * kWeightStep;
    f[i * columns_ + i] += ridge;
  }
  auto right = at::empty({outputs, columns_}, at::kDouble);
  auto* r = right.data_ptr<double>();
  for (const auto& name : names)
    for (const double x : cross(name)) *r++ = x * kWeightStep * kTargetStep;
  // Only the upper half is read.
  const auto [factor, failed] = at::linalg_cholesky_ex(full, /*upper=*/true);
  if (failed.item<int>() != 0)
    throw Error(ErrorCode::kRefused, "the values of this memory cannot be solved for",
                "make the model with a larger --ridge");
  return at::cholesky_solve(right.t(), factor, /*upper=*/true).to(at::kFloat).contiguous();
}

VectorSums VectorSums::restore(int64_t columns, std::vector<std::string> first, int64_t rows,
                               std::vector<double> gram, const std::vector<std::string>& outputs,
                               const std::vector<int64_t>& users,
                               const std::vector<std::vector<double>>& cross) {
  VectorSums sums(columns, std::move(first));
  sums.rows_ = rows;
  sums.gram_ = std::move(gram);
  for (size_t c = 0; c < outputs.size(); ++c) sums.outputs_[outputs[c]] = {users[c], cross[c]};
  return sums;
}

at::Tensor ridge_step(const at::Tensor& m, at::Tensor& gram, const at::Tensor& a,
                      const at::Tensor& y, double beta, double ridge) {
  const at::Tensor own = a.t().mm(a);
  const at::Tensor all = own + beta * gram + ridge * at::eye(gram.size(0), gram.options());
  gram = gram + own;
  return m + at::linalg_solve(all, a.t().mm(y - a.mm(m)));
}

}  // namespace accrete
