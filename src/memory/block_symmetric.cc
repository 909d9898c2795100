#include "memory/block_symmetric.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.h"
#include "base/format.h"

namespace accrete {
namespace {

// The block on the diagonal of a row of blocks, and what is right of it.
at::Tensor corner(const at::Tensor& row) {
  return row.narrow(1, 0, row.size(0));
}
at::Tensor beside(const at::Tensor& row) {
  return row.narrow(1, row.size(0), row.size(1) - row.size(0));
}

}  // namespace

BlockSymmetric BlockSymmetric::make(int64_t size) {
  BlockSymmetric out;
  out.size = size;
  for (int64_t k = 0; k < size; k += kBlock)
    out.rows.push_back(at::empty({std::min(kBlock, size - k), size - k}, at::kFloat));
  return out;
}

BlockSymmetric BlockSymmetric::of(const at::Tensor& whole) {
  BlockSymmetric out = make(whole.size(0));
  for (size_t p = 0; p < out.rows.size(); ++p) {
    at::Tensor& row = out.rows[p];
    row.copy_(whole.narrow(0, out.at(p), row.size(0)).narrow(1, out.at(p), row.size(1)));
  }
  return out;
}

BlockSymmetric BlockSymmetric::products(const at::Tensor& x) {
  BlockSymmetric out;
  out.size = x.size(1);
  for (int64_t k = 0; k < out.size; k += kBlock)
    out.rows.push_back(
        at::mm(x.narrow(1, k, std::min(kBlock, out.size - k)).t(), x.narrow(1, k, out.size - k)));
  return out;
}

BlockSymmetric BlockSymmetric::to(at::Device device) const {
  BlockSymmetric out;
  out.size = size;
  for (const at::Tensor& row : rows) out.rows.push_back(row.to(device));
  return out;
}

at::Tensor BlockSymmetric::diagonal() const {
  std::vector<at::Tensor> parts;
  for (const at::Tensor& row : rows) parts.push_back(row.diagonal());
  return at::cat(parts);
}

void BlockSymmetric::add_to_diagonal(const at::Tensor& d) {
  for (size_t p = 0; p < rows.size(); ++p)
    rows[p].diagonal().add_(d.narrow(0, at(p), rows[p].size(0)));
}

void BlockSymmetric::add_products(const at::Tensor& x, double factor) {
  for (size_t p = 0; p < rows.size(); ++p)
    rows[p].addmm_(x.narrow(1, at(p), rows[p].size(0)).t(), x.narrow(1, at(p), rows[p].size(1)), 1,
                   factor);
}

void factorise(BlockSymmetric& a, std::string_view what) {
  for (size_t p = 0; p < a.rows.size(); ++p) {
    auto own = corner(a.rows[p]);
    const auto [factor, info] = at::linalg_cholesky_ex(own, /*upper=*/true);
    if (info.item<int>() != 0)
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("{} is not positive definite in float32", what),
                  "raise --lambda");
    own.copy_(factor);
    auto right = beside(a.rows[p]);
    if (right.size(1) == 0) return;
    right.copy_(at::linalg_solve_triangular(factor.t(), right, /*upper=*/false));
    int64_t column = 0;
    for (size_t q = p + 1; q < a.rows.size(); ++q) {
      at::Tensor& rest = a.rows[q];
      rest.addmm_(right.narrow(1, column, rest.size(0)).t(), right.narrow(1, column, rest.size(1)),
                  1, -1);
      column += rest.size(0);
    }
  }
}

void solve_lower(const BlockSymmetric& u, at::Tensor& x) {
  for (size_t p = 0; p < u.rows.size(); ++p) {
    const at::Tensor& row = u.rows[p];
    auto here = x.narrow(0, u.at(p), row.size(0));
    here.copy_(at::linalg_solve_triangular(corner(row).triu().t(), here, /*upper=*/false));
    const auto right = beside(row);
    if (right.size(1) > 0)
      x.narrow(0, u.at(p) + row.size(0), right.size(1)).addmm_(right.t(), here, 1, -1);
  }
}

void solve_upper(const BlockSymmetric& u, at::Tensor& x) {
  for (size_t p = u.rows.size(); p-- > 0;) {
    const at::Tensor& row = u.rows[p];
    auto here = x.narrow(0, u.at(p), row.size(0));
    const auto right = beside(row);
    if (right.size(1) > 0)
      here.addmm_(right, x.narrow(0, u.at(p) + row.size(0), right.size(1)), 1, -1);
    here.copy_(at::linalg_solve_triangular(corner(row).triu(), here, /*upper=*/true));
  }
}

}  // namespace accrete
