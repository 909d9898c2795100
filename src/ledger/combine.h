// Updates as sparse tables: folds of them, their sum, and how two of them relate.
//
// Non-goals: tensors, the order and activity of updates (ledger.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ledger/update_file.h"

namespace accrete {

// One update in the place of `updates`, which must be of one reach: a model that has it in their
// place has the same rows bit for bit. Rows of gated updates stay apart, as parts; those of others
// are added in float32 in the order given. Anchors are put one after the other, and so is what was
// taught; metadata is left empty. Throws kInvalidArgument when reaches or widths differ.
Update fold_updates(std::span<const Update> updates);

// The rows of `updates` by slot, whatever their parts, added in the order given: to compare them
// by. Anchors are put one after the other; what was taught and metadata are left empty. Throws
// kInvalidArgument when widths differ.
Update sum_updates(std::span<const Update> updates);

// Slots that both write, over all blocks; values are not looked at, so outlines will do.
int64_t shared_slots(const Update& a, const Update& b);

// What two updates have to do with each other in one block.
struct BlockDifference {
  int block = 0;
  int64_t rows_a = 0, rows_b = 0, shared = 0;  // slots
  double norm_a = 0, norm_b = 0;               // Frobenius norm of the rows
  double norm_difference = 0;                  // of a - b, rows that are absent being zero
  double shared_norm_a = 0, shared_norm_b = 0;
  double shared_dot =
      0;  // inner product over the shared rows: below 0, they work against each other
};

struct UpdateDifference {
  std::vector<BlockDifference> blocks;  // ascending; every block of either
  int64_t anchors_a = 0, anchors_b = 0;
  int64_t anchors_near = 0;  // anchors of a within `near` of one of b

  int64_t rows_a() const;
  int64_t rows_b() const;
  int64_t shared() const;
  double norm_a() const;
  double norm_b() const;
  double norm_difference() const;
  // Cosine over all shared rows; 0 when none is shared.
  double shared_cosine() const;
};

// By slot, whatever the parts. Blocks that only one has count with no rows in the other. Throws
// kInvalidArgument when widths differ.
UpdateDifference compare_updates(const Update& a, const Update& b, double near);

}  // namespace accrete
