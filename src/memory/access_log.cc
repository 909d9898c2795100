#include "memory/access_log.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "memory/csr.h"

namespace accrete {
namespace {

const int32_t* slots_of(const AccessLog::Part& part) {
  return part.accesses.slots.const_data_ptr<int32_t>();
}
const float* weights_of(const AccessLog::Part& part) {
  return part.accesses.weights.const_data_ptr<float>();
}

// The log's accesses of the selected slots, token by token.
struct SelectedEntries {
  std::vector<int32_t> row;         // entry -> selected row
  std::vector<float> weight;        // entry -> access weight
  std::vector<float> token_weight;  // entry -> how often its token counts
  std::vector<int32_t> end;         // entry -> one past the last entry of its token
};

SelectedEntries select_entries(const std::vector<AccessLog::Part>& parts,
                               const SlotIndex& selected) {
  SelectedEntries out;
  for (const auto& part : parts) {
    const auto rows = selected.rows(part.accesses.slots);
    const int32_t* row = rows.const_data_ptr<int32_t>();
    const float* weight = weights_of(part);
    const int64_t T = part.accesses.tokens(), K = part.accesses.per_token();
    std::vector<std::pair<int32_t, float>> token;
    for (int64_t t = 0; t < T; ++t) {
      token.clear();
      for (int64_t k = t * K; k < (t + 1) * K; ++k)
        if (row[k] >= 0) token.emplace_back(row[k], weight[k]);
      // Ascending rows: those behind an entry are then its columns in the upper triangle.
      std::sort(token.begin(), token.end(),
                [](const auto& a, const auto& b) { return a.first < b.first; });
      const auto end = static_cast<int32_t>(out.row.size() + token.size());
      for (const auto& [r, w] : token) {
        out.row.push_back(r);
        out.weight.push_back(w);
        out.token_weight.push_back(static_cast<float>(part.weight));
        out.end.push_back(end);
      }
    }
  }
  return out;
}

// Copies the upper triangle of [t, t] into the lower one, tile by tile to stay in the cache.
void mirror(float* matrix, int64_t t, int64_t stride) {
  constexpr int64_t kTile = 64;
  const int64_t tiles = (t + kTile - 1) / kTile;
  at::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t bi = begin; bi < end; ++bi)
      for (int64_t bj = 0; bj <= bi; ++bj)
        for (int64_t i = bi * kTile; i < std::min(t, (bi + 1) * kTile); ++i)
          for (int64_t j = bj * kTile; j < std::min(i, (bj + 1) * kTile); ++j)
            matrix[i * stride + j] = matrix[j * stride + i];
  });
}

// Slots that occur, ascending: radix sort, since a log has millions of entries.
std::vector<int32_t> sorted_slots(const std::vector<AccessLog::Part>& parts) {
  std::vector<int32_t> slots;
  for (const auto& part : parts) {
    const int32_t* slot = slots_of(part);
    for (int64_t i = 0; i < part.accesses.slots.numel(); ++i)
      if (slot[i] >= 0) slots.push_back(slot[i]);
  }
  std::vector<int32_t> other(slots.size());
  for (int shift = 0; shift < 33; shift += 11) {
    std::vector<size_t> start(size_t{1} << 11, 0);
    const auto digit = [shift](int32_t slot) {
      return (static_cast<uint32_t>(slot) >> shift) & ((1u << 11) - 1);
    };
    for (const int32_t slot : slots) ++start[digit(slot)];
    size_t sum = 0;
    for (size_t& s : start) sum += std::exchange(s, sum);
    for (const int32_t slot : slots) other[start[digit(slot)]++] = slot;
    slots.swap(other);
  }
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  return slots;
}

// Row i of the upper triangle of the Gram matrix from the diagonal on, written to diagonal_at(i).
// It is the sum over the tokens that access i: one thread owns it, in a buffer that stays in its
// cache.
void fill_gram(const std::vector<AccessLog::Part>& parts, const SlotIndex& selected,
               double denominator, const std::function<float*(int64_t)>& diagonal_at) {
  const int64_t t = selected.size();
  const SelectedEntries entries = select_entries(parts, selected);
  const RowGroups groups = group_by_row(entries.row, t);
  const double scale = 1 / denominator;
  parallel_over_rows(groups.offsets, [&](int64_t begin, int64_t end) {
    std::vector<double> sums(static_cast<size_t>(t));
    for (int64_t i = begin; i < end; ++i) {
      std::fill(sums.begin() + i, sums.end(), 0.0);
      for (int64_t e = groups.offsets[static_cast<size_t>(i)];
           e < groups.offsets[static_cast<size_t>(i) + 1]; ++e) {
        const auto entry = static_cast<size_t>(groups.order[static_cast<size_t>(e)]);
        const double factor =
            static_cast<double>(entries.token_weight[entry]) * entries.weight[entry];
        for (auto f = entry; f < static_cast<size_t>(entries.end[entry]); ++f)
          sums[static_cast<size_t>(entries.row[f])] += factor * entries.weight[f];
      }
      float* row = diagonal_at(i);
      for (int64_t j = i; j < t; ++j)
        row[j - i] = static_cast<float>(sums[static_cast<size_t>(j)] * scale);
    }
  });
}

}  // namespace

void AccessLog::append(const Accesses& accesses, double weight, bool background) {
  if (!accesses.defined() || accesses.slots.dim() != 2 ||
      accesses.weights.sizes() != accesses.slots.sizes())
    throw Error(ErrorCode::kInvalidArgument, "accesses need slots and weights [T, K]");
  if (!(weight >= 0) || std::isinf(weight))
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("a token cannot count {} times", weight), "give a weight >= 0");
  auto slots = accesses.slots.detach().to(at::kCPU, at::kInt).contiguous();
  auto weights = accesses.weights.detach().to(at::kCPU, at::kFloat).contiguous();
  // Padding is no token: it must not count in the expectations.
  const auto real = (slots >= 0).any(1);
  if (!real.all().item<bool>()) {
    const auto keep = at::nonzero(real).squeeze(1);
    slots = slots.index_select(0, keep);
    weights = weights.index_select(0, keep);
  }
  if (slots.size(0) == 0) return;
  if (background) background_tokens_ += weight * static_cast<double>(slots.size(0));
  parts_.push_back({{slots, weights}, weight, background});
}

int64_t AccessLog::tokens() const {
  int64_t sum = 0;
  for (const Part& part : parts_) sum += part.accesses.tokens();
  return sum;
}

double AccessLog::denominator() const {
  if (background_tokens_ > 0) return background_tokens_;
  double sum = 0;
  for (const Part& part : parts_) sum += part.weight * static_cast<double>(part.accesses.tokens());
  return sum > 0 ? sum : 1;
}

AccessLog::Diagonal AccessLog::diagonal() const {
  const auto slots = sorted_slots(parts_);
  Diagonal out;
  out.slots.assign(slots.begin(), slots.end());
  const SlotIndex index(out.slots);
  std::vector<double> sums(slots.size(), 0.0);
  for (const Part& part : parts_) {
    const auto rows = index.rows(part.accesses.slots);
    const int32_t* row = rows.const_data_ptr<int32_t>();
    const float* weight = weights_of(part);
    for (int64_t i = 0; i < rows.numel(); ++i)
      if (row[i] >= 0)
        sums[static_cast<size_t>(row[i])] +=
            part.weight * weight[i] * static_cast<double>(weight[i]);
  }
  const double scale = 1 / denominator();
  out.values.resize(sums.size());
  for (size_t i = 0; i < sums.size(); ++i) out.values[i] = static_cast<float>(sums[i] * scale);
  return out;
}

at::Tensor AccessLog::gram(const SlotIndex& selected) const {
  const int64_t t = selected.size();
  auto out = at::empty({t, t}, at::kFloat);
  if (t == 0) return out;
  float* matrix = out.mutable_data_ptr<float>();
  fill_gram(parts_, selected, denominator(), [&](int64_t i) { return matrix + i * t + i; });
  mirror(matrix, t, t);
  return out;
}

BlockSymmetric AccessLog::block_gram(const SlotIndex& selected) const {
  BlockSymmetric out = BlockSymmetric::make(selected.size());
  std::vector<float*> data;
  for (const at::Tensor& row : out.rows) data.push_back(row.mutable_data_ptr<float>());
  const auto diagonal_at = [&](int64_t i) {
    const int64_t p = i / BlockSymmetric::kBlock, own = i - p * BlockSymmetric::kBlock;
    return data[static_cast<size_t>(p)] + own * out.rows[static_cast<size_t>(p)].size(1) + own;
  };
  fill_gram(parts_, selected, denominator(), diagonal_at);
  for (size_t p = 0; p < data.size(); ++p)
    mirror(data[p], out.rows[p].size(0), out.rows[p].size(1));
  return out;
}

std::vector<int64_t> AccessLog::document_frequency(std::span<const int64_t> slots,
                                                   int64_t batch) const {
  if (batch <= 0) throw Error(ErrorCode::kInvalidArgument, "a batch needs at least one token");
  const SlotIndex index(slots);
  std::vector<int64_t> frequency(slots.size(), 0), last(slots.size(), -1);
  int64_t first = 0;  // of this part, among the background tokens
  for (const Part& part : parts_) {
    if (!part.background) continue;
    const auto rows = index.rows(part.accesses.slots);
    const int32_t* row = rows.const_data_ptr<int32_t>();
    const int64_t T = part.accesses.tokens(), K = part.accesses.per_token();
    for (int64_t i = 0; i < T * K; ++i) {
      if (row[i] < 0) continue;
      const int64_t document = (first + i / K) / batch;
      const auto r = static_cast<size_t>(row[i]);
      if (last[r] != document) ++frequency[r];
      last[r] = document;
    }
    first += T;
  }
  return frequency;
}

int64_t AccessLog::batches(int64_t batch) const {
  if (batch <= 0) throw Error(ErrorCode::kInvalidArgument, "a batch needs at least one token");
  int64_t count = 0;
  for (const Part& part : parts_)
    if (part.background) count += part.accesses.tokens();
  return (count + batch - 1) / batch;
}

}  // namespace accrete
