// The address of a memory of vectors: the winners of a random projection.
//
//   h = relu(R z)        R by seed, z the standardised inputs and a constant 1
//   slots of a row: the k largest of h that are above 0; their weights: h
//
// With a gate some inputs g, of a task or an instruction, say which columns are open at all: those
// with the largest of Q g, Q by the same seed. The others are closed to the row. Two tasks whose g
// are unlike then share few columns, though their other inputs be the same.
//
// z is in steps of 1/256, clamped to +-8, R in steps of 1/32 of a standard normal number. So h is a
// sum of whole numbers, and the same on every machine, for every kernel and any number of threads.
// Of equal numbers the lower slot wins. Kin: the fruit fly's olfactory circuit (Dasgupta et al.,
// "A neural algorithm for a fundamental computing problem", Science 2017), RanPAC (McDonnell et
// al., 2023), where all of h is used.
//
// Non-goals: training the projection, what is stored at the slots (sums.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace accrete {

inline constexpr float kInputSteps = 256;
inline constexpr float kInputLimit = 8;

// [rows, width] values in steps of 1/256 of (x - mean) / scale, clamped.
std::vector<int16_t> standardised(std::span<const float> x, std::span<const float> mean,
                                  std::span<const float> scale);

// What rows read: as UpdateVectors has them (ledger/vectors.h).
struct VectorAccesses {
  int64_t per_row = 0;
  std::vector<int16_t> slots;    // [n, per_row] ascending, then -1
  std::vector<int16_t> weights;  // [n, per_row] in steps of kWeightStep, above 0; then 0

  int64_t rows() const { return per_row > 0 ? static_cast<int64_t>(slots.size()) / per_row : 0; }
};

// No gate: 0 inputs.
struct WinnersGate {
  int64_t inputs = 0;
  double share = 1;  // of the columns that are open to a row, at least one
};

class Winners {
 public:
  // Throws kInvalidArgument: 1 <= winners <= columns <= kMostColumns does not hold.
  Winners(int64_t inputs, int64_t columns, int64_t winners, uint64_t seed, WinnersGate gate = {});

  int64_t inputs() const { return inputs_; }
  int64_t columns() const { return columns_; }
  int64_t winners() const { return winners_; }
  // Of rows z [n, inputs] and g [n, gate inputs].
  VectorAccesses of(std::span<const int16_t> z, std::span<const int16_t> g = {}) const;
  // The same in the plainest way, to test the other by.
  VectorAccesses reference(std::span<const int16_t> z, std::span<const int16_t> g = {}) const;

 private:
  int64_t inputs_, columns_, winners_;
  int64_t step_;  // of h in one of a weight
  // Closes [columns] all but the open columns of one row's g.
  void close(const int16_t* g, std::vector<int16_t>& order, std::vector<uint8_t>& closed) const;

  WinnersGate gate_;
  int64_t open_;                  // columns
  at::Tensor projection_;         // [inputs + 1, columns] float64, whole numbers
  std::vector<int32_t> openers_;  // Q [gate inputs, columns] in steps of 1/32
};

}  // namespace accrete
