#include "learn/deposit.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace accrete {
namespace {

at::Tensor cholesky(const at::Tensor& matrix, const char* what) {
  auto [factor, info] = at::linalg_cholesky_ex(matrix);
  if (info.item<int>() != 0)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} is not positive definite in float32", what), "raise --lambda");
  return factor;
}

}  // namespace

at::Tensor deposit(const Accesses& accesses, const at::Tensor& targets, const SlotIndex& selected,
                   const at::Tensor& gram, const DepositOptions& options) {
  const int64_t n = targets.size(0), t = selected.size();
  if (!targets.isfinite().all().item<bool>())
    throw Error(ErrorCode::kInvalidArgument, "a value to write is not finite", "lower --rate");
  // A^T as a dense [t, n]: n tokens touch a few slots each, and n is small.
  auto at_dense = at::zeros({t, n}, at::kFloat);
  const auto rows = selected.rows(accesses.slots).contiguous();
  const auto weights = accesses.weights.contiguous();
  const int64_t K = rows.size(1);
  for (int64_t j = 0; j < n; ++j)
    for (int64_t k = 0; k < K; ++k)
      if (const int32_t r = rows.data_ptr<int32_t>()[j * K + k]; r >= 0)
        at_dense.data_ptr<float>()[r * n + j] += weights.data_ptr<float>()[j * K + k];

  const auto regular = gram + options.lambda * at::eye(t, at::kFloat);
  const auto factor = cholesky(regular, "G_SS + lambda I");
  const auto pa = at::cholesky_solve(at_dense, factor);  // P A^T [t, n]
  auto k = at::matmul(at_dense.t(), pa);                 // A P A^T [n, n]
  const auto scale = k.diagonal().mean().item<double>();
  k = k + options.epsilon * scale * at::eye(n, at::kFloat);
  const auto alpha = at::cholesky_solve(targets, cholesky(k, "A P A^T + epsilon I"));
  return at::matmul(pa, alpha);
}

}  // namespace accrete
