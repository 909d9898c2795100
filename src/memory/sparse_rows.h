// Sparse value rows: a table of N implicit zeros of which a few rows are written.
//
// Memory and time depend on the rows written, never on N: an empty table of 2^22 slots costs
// nothing.
//
// Non-goals: optimisation (learn/), files (ledger/).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "memory/accesses.h"

namespace accrete {

// Slot id -> dense row number, an immutable open-addressing table (copies share it).
class SlotIndex {
 public:
  SlotIndex() = default;
  // `slots` must be distinct and in [0, 2^31); row i belongs to slots[i], or rows[i] if given.
  explicit SlotIndex(std::span<const int64_t> slots, std::span<const int32_t> rows = {});
  int32_t find(int32_t slot) const;  // -1 when absent
  int64_t size() const { return size_; }
  // slots [T, K] int32 (CPU) -> rows [T, K] int32, -1 where absent.
  at::Tensor rows(const at::Tensor& slots) const;

 private:
  struct Entry {
    int32_t slot;
    int32_t row;
  };
  std::shared_ptr<const std::vector<Entry>> table_;
  uint32_t mask_ = 0;
  int64_t size_ = 0;
};

struct SparseRows {
  std::vector<int64_t> slots;  // [R] strictly ascending
  // [R, d] float32, row i of slots[i]; or a larger table, for example a mapped file, in which
  // slots[i] has row places[i]. Undefined when R = 0.
  at::Tensor values;
  SlotIndex index;  // slot -> row of `values`
  std::vector<int32_t> places;

  bool empty() const { return slots.empty(); }
  // [R, d]: row i of slots[i].
  at::Tensor ordered_values() const;
  // Adds rows given by ascending slots and values [t, d]; returns the sum as a new table (in
  // float32, added in call order: exact replay gives exact bytes).
  SparseRows plus(std::span<const int64_t> more_slots, const at::Tensor& more_values) const;
};

// y[t] = sum_k weights[t, k] table[rows[t, k]], rows -1 skipped: the value read of a memory layer.
// table [R, d] float32 (or float64: reference path only; or on the CPU, of a table that is not
// trained, bfloat16: the sums are those of its rows as float32), rows [T, K] int32, weights [T, K];
// returns [T, d]. Differentiable in table and weights: the gradient of the table is computed for
// its R rows, without atomics, in an order that does not depend on the thread count. Only rows that
// are accessed are read.
at::Tensor weighted_gather(const at::Tensor& table, const at::Tensor& rows,
                           const at::Tensor& weights);
// The same in plain tensor operations.
at::Tensor weighted_gather_reference(const at::Tensor& table, const at::Tensor& rows,
                                     const at::Tensor& weights);

// grad_table[r] = sum over (t, k) with rows[t, k] = r of weights[t, k] grad[t]: the row-sparse
// backward alone. [R, d]
at::Tensor scatter_rows(const at::Tensor& grad, const at::Tensor& rows, const at::Tensor& weights,
                        int64_t R);

}  // namespace accrete
