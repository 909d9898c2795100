// What an update of a memory of vectors was taught, as tensors `vectors.*` of the update file: the
// accesses of its rows and their targets, or the sums that these make, whichever is smaller.
//
// Accesses and targets are whole numbers of fixed steps, so that every sum of their products is
// exact in float64 (below 2^53): updates may be added in any order, and taken away again, and the
// sums are the same to the last bit. A row's accesses are at most `per_row` slots, ascending, each
// with a weight above 0; the rest of a row is slot -1 with weight 0.
//
// Non-goals: making accesses (vector/winners.h), solving (vector/sums.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"

namespace accrete {

struct UpdateVectors {
  int64_t columns = 0;               // N: slots of the memory; 0: there are no vectors
  std::vector<std::string> outputs;  // names of the C outputs that the targets are of; may be none
  int64_t rows = 0;                  // n that were taught
  // In classes: the output of each row, whose target is 1, and 0 for all others, unless there are
  // `values`. Else empty.
  std::vector<int32_t> classes;  // [n]
  std::vector<int64_t> inputs;   // [n] of classes: names the row's input; equal inputs, equal names
  // As accesses:
  int64_t per_row = 0;           // k
  std::vector<int16_t> slots;    // [n, k]
  std::vector<int16_t> weights;  // [n, k] in steps of kWeightStep
  std::vector<int32_t> values;   // [n, C] in steps of kTargetStep
  // As sums, in the product of the steps:
  std::vector<double> gram;   // [N (N + 1) / 2] A'A, the upper half by rows
  std::vector<double> cross;  // [C, N] A'Y

  bool empty() const { return columns == 0; }
  bool as_sums() const { return !gram.empty(); }
  bool operator==(const UpdateVectors&) const = default;
};

inline constexpr double kWeightStep = 1.0 / 2048;
inline constexpr double kTargetStep = 1.0 / 65536;
// Slots are 16-bit numbers.
inline constexpr int64_t kMostColumns = 16384;

// Where row i of the upper half of a symmetric matrix of n begins; its first entry is (i, i).
constexpr size_t half_row(int64_t n, int64_t i) {
  return static_cast<size_t>(i * n - i * (i - 1) / 2);
}

// Empty when everything fits together, else what does not.
std::string fault(const UpdateVectors& vectors);

// The tensors `vectors.*`; views into `vectors` and `names`, which names_of() makes.
std::string names_of(const UpdateVectors& vectors);
void append_tensors(const UpdateVectors& vectors, const std::string& names,
                    std::vector<TensorView>& views);
// Takes a tensor of that name into `vectors`; false: it is no tensor of vectors. Throws kFormat.
bool take_tensor(const TensorView& tensor, std::string_view source, UpdateVectors& vectors);

}  // namespace accrete
