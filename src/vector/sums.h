// The sums that the values of a memory of vectors are solved from, and the solution.
//
// Of all rows that were taught: G = A'A, what was read together with what, and B = A'Y, what was
// wanted there. The values are ridge regression over all of them,
//
//   M = (G + ridge I)^-1 B,
//
// which is also what the recursion M <- M + (A'A + G + ridge I)^-1 A'(Y - A M) gives, row after row
// or set after set (ridge_step() with beta = 1; tested). Accesses and targets are whole numbers, so
// G and B are exact (ledger/vectors.h): the same for any order of the sets, and what is taken away
// is gone to the last bit. A new output is a new column of B and touches no other.
//
// Non-goals: gates, steps of gradients; forgetting by age (beta other than 1 outside of tests).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "ledger/vectors.h"

namespace accrete {

// Adds A'A of `rows` rows to `gram`, the upper half [N (N + 1) / 2].
void add_gram(std::span<const int16_t> slots, std::span<const int16_t> weights, int64_t per_row,
              int64_t columns, std::vector<double>& gram);
// The same in the plainest way.
void add_gram_reference(std::span<const int16_t> slots, std::span<const int16_t> weights,
                        int64_t per_row, int64_t columns, std::vector<double>& gram);
// A'Y [C, N] of accesses with their classes or values.
std::vector<double> cross_of(const UpdateVectors& accesses);

class VectorSums {
 public:
  // `first`: outputs that are always there, and come first.
  VectorSums(int64_t columns, std::vector<std::string> first);

  // Throws kUnsupported when a sum is not exact any more: 2^53 steps, some 10^9 rows.
  void add(const UpdateVectors& update);
  // What was added before.
  void take_away(const UpdateVectors& update);

  int64_t columns() const { return columns_; }
  int64_t rows() const { return rows_; }
  // `first`, then the others by name: of the active updates, whatever their order.
  std::vector<std::string> outputs() const;
  const std::vector<double>& gram() const { return gram_; }
  const std::vector<double>& cross(const std::string& output) const;
  int64_t users(const std::string& output) const;  // updates that have it
  // The diagonal of A'A that is above 0: slots that any row used.
  int64_t used() const;

  // [N, C] float32: what a weight of 1 at a slot adds to each output.
  at::Tensor solve(double ridge) const;

  // As it was saved (state.cc).
  static VectorSums restore(int64_t columns, std::vector<std::string> first, int64_t rows,
                            std::vector<double> gram, const std::vector<std::string>& outputs,
                            const std::vector<int64_t>& users,
                            const std::vector<std::vector<double>>& cross);

 private:
  struct Output {
    int64_t users = 0;
    std::vector<double> cross;  // [N]
  };
  void change(const UpdateVectors& update, double sign);

  int64_t columns_ = 0, rows_ = 0;
  std::vector<std::string> first_;
  std::vector<double> gram_;
  std::map<std::string, Output> outputs_;
};

// One step of the recursion on plain matrices of float64, for tests and to read: `gram` is G before
// it and becomes G + A'A. Returns the new M.
at::Tensor ridge_step(const at::Tensor& m, at::Tensor& gram, const at::Tensor& a,
                      const at::Tensor& y, double beta, double ridge);

}  // namespace accrete
