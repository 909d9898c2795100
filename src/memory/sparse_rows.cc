#include "memory/sparse_rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/format.h"

namespace accrete {
namespace {

constexpr int32_t kEmpty = -1;

// Neighbouring slot ids share a codebook entry and come in runs: multiply to spread them.
uint32_t hash(int32_t slot) {
  const uint32_t h = static_cast<uint32_t>(slot) * 0x9E3779B1u;
  return h ^ (h >> 15);
}

}  // namespace

SlotIndex::SlotIndex(std::span<const int64_t> slots, std::span<const int32_t> rows)
    : size_(static_cast<int64_t>(slots.size())) {
  if (slots.empty()) return;
  if (slots.size() > (size_t{1} << 30))
    throw Error(ErrorCode::kInvalidArgument, accrete::format("{} rows are too many", slots.size()));
  const size_t capacity = std::bit_ceil(slots.size() * 2);  // at most half full: short probes
  auto table = std::make_shared<std::vector<Entry>>(capacity, Entry{kEmpty, -1});
  mask_ = static_cast<uint32_t>(capacity - 1);
  for (size_t row = 0; row < slots.size(); ++row) {
    if (slots[row] < 0 || slots[row] > std::numeric_limits<int32_t>::max())
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("slot {} is out of range", slots[row]));
    const int32_t slot = static_cast<int32_t>(slots[row]);
    uint32_t at = hash(slot) & mask_;
    for (; (*table)[at].slot != kEmpty; at = (at + 1) & mask_)
      if ((*table)[at].slot == slot)
        throw Error(ErrorCode::kInvalidArgument, accrete::format("slot {} is given twice", slot));
    (*table)[at] = {slot, rows.empty() ? static_cast<int32_t>(row) : rows[row]};
  }
  table_ = std::move(table);
}

int32_t SlotIndex::find(int32_t slot) const {
  if (table_ == nullptr || slot < 0) return -1;
  const Entry* table = table_->data();
  for (uint32_t at = hash(slot) & mask_;; at = (at + 1) & mask_) {
    if (table[at].slot == slot) return table[at].row;
    if (table[at].slot == kEmpty) return -1;
  }
}

at::Tensor SlotIndex::rows(const at::Tensor& slots) const {
  if (slots.scalar_type() != at::kInt || !slots.device().is_cpu())
    throw Error(ErrorCode::kInvalidArgument, "slots must be int32 on the CPU");
  if (table_ == nullptr) return at::full_like(slots, -1, at::MemoryFormat::Contiguous);
  const auto input = slots.contiguous();
  auto out = at::empty_like(input);
  const int32_t* from = input.const_data_ptr<int32_t>();
  int32_t* to = out.mutable_data_ptr<int32_t>();
  at::parallel_for(0, input.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = find(from[i]);
  });
  return out;
}

at::Tensor SparseRows::ordered_values() const {
  if (places.empty()) return values;
  return values.index_select(0, at::tensor(places, at::kInt));
}

SparseRows SparseRows::plus(std::span<const int64_t> more_slots,
                            const at::Tensor& more_values) const {
  if (more_slots.empty()) return *this;
  for (size_t i = 1; i < more_slots.size(); ++i)
    if (more_slots[i] <= more_slots[i - 1])
      throw Error(ErrorCode::kInvalidArgument, accrete::format("slots must ascend: {} follows {}",
                                                               more_slots[i], more_slots[i - 1]));
  const int64_t t = static_cast<int64_t>(more_slots.size());
  if (!more_values.defined() || more_values.dim() != 2 || more_values.size(0) != t ||
      (!empty() && more_values.size(1) != values.size(1)))
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} slots need values [{}, {}]", t, t,
                                empty() ? std::string("d") : std::to_string(values.size(1))));

  // For each row of the sum: its row in this table and in the added one, -1 for none.
  struct Source {
    int64_t old_row;
    int64_t new_row;
  };
  SparseRows sum;
  std::vector<Source> sources;
  sum.slots.reserve(slots.size() + more_slots.size());
  sources.reserve(slots.size() + more_slots.size());
  size_t i = 0, j = 0;
  while (i < slots.size() || j < more_slots.size()) {
    const bool old = j == more_slots.size() || (i < slots.size() && slots[i] <= more_slots[j]);
    const bool more = i == slots.size() || (j < more_slots.size() && more_slots[j] <= slots[i]);
    sum.slots.push_back(old ? slots[i] : more_slots[j]);
    sources.push_back(
        {old ? static_cast<int64_t>(i++) : -1, more ? static_cast<int64_t>(j++) : -1});
  }

  const int64_t d = more_values.size(1);
  const auto added = more_values.detach().to(at::kCPU, at::kFloat).contiguous();
  const auto before = empty() ? at::Tensor() : ordered_values().detach().contiguous();
  sum.values = at::empty({static_cast<int64_t>(sum.slots.size()), d}, added.options());
  const float* a = empty() ? nullptr : before.const_data_ptr<float>();
  const float* b = added.const_data_ptr<float>();
  float* out = sum.values.mutable_data_ptr<float>();
  const int64_t grain = std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, d));
  at::parallel_for(0, static_cast<int64_t>(sources.size()), grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const auto [old_row, new_row] = sources[static_cast<size_t>(r)];
      const float* x = old_row < 0 ? nullptr : a + old_row * d;
      const float* y = new_row < 0 ? nullptr : b + new_row * d;
      float* to = out + r * d;
      if (x != nullptr && y != nullptr)
        for (int64_t c = 0; c < d; ++c) to[c] = x[c] + y[c];
      else
        std::memcpy(to, x != nullptr ? x : y, sizeof(float) * static_cast<size_t>(d));
    }
  });
  sum.index = SlotIndex(sum.slots);
  return sum;
}

}  // namespace accrete
