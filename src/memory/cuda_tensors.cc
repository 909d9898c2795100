#include "memory/cuda_tensors.h"

#include <ATen/ATen.h>

#include <stdexcept>

#ifdef ACCRETE_CUDA
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "base/error.h"
#include "base/format.h"
#endif

namespace accrete {

#ifndef ACCRETE_CUDA

bool built_with_cuda() {
  return false;
}
bool cuda_kernels_apply(const at::Tensor&) {
  return false;
}

#else

namespace cuda = kernels::cuda;

namespace {

void check_range(const at::Tensor& rows, int64_t R) {
  if (rows.numel() == 0) return;
  const auto [low, high] = at::aminmax(rows);
  const auto ends = at::stack({low, high}).cpu();
  const int32_t* end = ends.const_data_ptr<int32_t>();
  if (end[0] < -1 || end[1] >= R)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("row {} of a table of {}", end[0] < -1 ? end[0] : end[1], R));
}

}  // namespace

bool built_with_cuda() {
  return true;
}

bool cuda_kernels_apply(const at::Tensor& t) {
  return t.is_cuda() && (t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16);
}

cuda::Type cuda_type(const at::Tensor& t) {
  return t.scalar_type() == at::kFloat ? cuda::Type::kFloat : cuda::Type::kBfloat16;
}

void* cuda_stream(const at::Tensor& t) {
  return c10::cuda::getCurrentCUDAStream(t.device().index()).stream();
}

void check_cuda(int status, const char* what) {
  if (status == 0) return;
  throw std::runtime_error(
      accrete::format("{}: {}", what, cudaGetErrorString(static_cast<cudaError_t>(status))));
}

CudaLookup product_top_k_cuda(const at::Tensor& scores, int64_t k, const at::Tensor& mask) {
  const int64_t H = scores.size(0) / 2, T = scores.size(1), n = scores.size(2);
  CudaLookup out;
  out.slots = at::empty({T, H * k}, scores.options().dtype(at::kInt));
  out.weights = at::empty({T, H * k}, scores.options());
  const auto bad = at::zeros({}, scores.options().dtype(at::kInt));
  const auto kept = mask.defined() ? mask.contiguous() : at::Tensor();
  check_cuda(cuda::product_top_k(scores.const_data_ptr<float>(), {T, H, n, k},
                                 kept.defined() ? kept.const_data_ptr<bool>() : nullptr,
                                 out.slots.mutable_data_ptr<int32_t>(),
                                 out.weights.mutable_data_ptr<float>(),
                                 bad.mutable_data_ptr<int32_t>(), cuda_stream(scores)),
             "lookup");
  out.bad = bad.item<int32_t>();
  return out;
}

at::Tensor product_top_k_backward_cuda(const at::Tensor& slots, const at::Tensor& weights,
                                       const at::Tensor& gradient, int64_t n, int64_t k) {
  const int64_t T = slots.size(0), H = slots.size(1) / k;
  auto out = at::zeros({2 * H, T, n}, weights.options());
  check_cuda(
      cuda::product_top_k_backward(slots.const_data_ptr<int32_t>(), weights.const_data_ptr<float>(),
                                   gradient.const_data_ptr<float>(), {T, H, n, k},
                                   out.mutable_data_ptr<float>(), cuda_stream(out)),
      "gradient of a lookup");
  return out;
}

at::Tensor gather_cuda(const at::Tensor& table, const at::Tensor& rows, const at::Tensor& weights) {
  check_range(rows, table.size(0));
  const int64_t T = rows.size(0), K = rows.size(1), d = table.size(1);
  auto out = at::empty({T, d}, table.options().requires_grad(false));
  check_cuda(cuda::weighted_sums(cuda_type(table), table.const_data_ptr(), d,
                                 rows.const_data_ptr<int32_t>(), weights.const_data_ptr<float>(), T,
                                 K, out.mutable_data_ptr(), cuda_stream(table)),
             "weighted gather");
  return out;
}

at::Tensor scatter_cuda(const at::Tensor& grad, const at::Tensor& rows, const at::Tensor& weights,
                        int64_t R) {
  check_range(rows, R);
  // Entries by row, and within a row in their order (a stable sort): no atomics, one result.
  const auto [sorted, order] = at::sort(rows.reshape({-1}), /*stable=*/true, 0, false);
  const auto offsets =
      at::searchsorted(sorted, at::arange(R + 1, rows.options()), /*out_int32=*/false);
  const auto token = order.div(rows.size(1), "floor").to(at::kInt);
  const auto share = weights.reshape({-1}).index_select(0, order);
  auto out = at::empty({R, grad.size(1)}, grad.options());
  check_cuda(cuda::weighted_sums_csr(cuda_type(grad), grad.const_data_ptr(), grad.size(1),
                                     offsets.const_data_ptr<int64_t>(),
                                     token.const_data_ptr<int32_t>(), share.const_data_ptr<float>(),
                                     R, out.mutable_data_ptr(), cuda_stream(grad)),
             "gradient of rows");
  return out;
}

at::Tensor dots_cuda(const at::Tensor& table, const at::Tensor& rows, const at::Tensor& grad) {
  const int64_t T = rows.size(0), K = rows.size(1), d = table.size(1);
  auto out = at::empty({T, K}, grad.options().dtype(at::kFloat));
  check_cuda(cuda::row_dots(cuda_type(table), table.const_data_ptr(), d,
                            rows.const_data_ptr<int32_t>(), grad.const_data_ptr(), T, K,
                            out.mutable_data_ptr<float>(), cuda_stream(table)),
             "gradient of weights");
  return out;
}

#endif

}  // namespace accrete
