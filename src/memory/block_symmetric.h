// A symmetric matrix by the blocks on and above its diagonal, in half the memory, and its Cholesky
// factor.
//
// Rows of blocks are tensors of their own, so that a part of the matrix is there or is not, and all
// large products are products of matrices. The factor U, A = U^T U, takes the matrix's place.
//
// Non-goals: matrices that are not symmetric, pivoting.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace accrete {

struct BlockSymmetric {
  static constexpr int64_t kBlock = 512;
  int64_t size = 0;
  // rows[p] [n, size - p kBlock] float32: rows and columns from p kBlock on, n = kBlock of the rows
  // or what is left; symmetric in its first n columns.
  std::vector<at::Tensor> rows;

  // Not initialised.
  static BlockSymmetric make(int64_t size);
  static BlockSymmetric of(const at::Tensor& whole);  // [size, size]
  // x^T x, for x [m, size].
  static BlockSymmetric products(const at::Tensor& x);

  BlockSymmetric to(at::Device device) const;
  at::Tensor diagonal() const;                            // [size]
  void add_to_diagonal(const at::Tensor& d);              // [size]
  void add_products(const at::Tensor& x, double factor);  // factor x^T x
  int64_t at(size_t p) const { return static_cast<int64_t>(p) * kBlock; }
};

// A becomes its factor, in place. Throws kInvalidArgument, naming it `what`, when it is not
// positive definite in float32.
void factorise(BlockSymmetric& a, std::string_view what);
// For a factor U and x [size, m]: x becomes U^-T x, or U^-1 x, in place.
void solve_lower(const BlockSymmetric& u, at::Tensor& x);
void solve_upper(const BlockSymmetric& u, at::Tensor& x);

}  // namespace accrete
