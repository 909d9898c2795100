// The CUDA kernels of the memory layer over tensors: shapes to arguments, the current stream,
// errors to exceptions.
//
// Without a CUDA libtorch at build time everything here is left out but cuda_kernels_apply, which
// is then false; callers take their reference path.
//
// Non-goals: autograd, argument checks (those of learned_lookup.h and sparse_rows.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>

#ifdef ACCRETE_CUDA
#include "memory/kernels/cuda.h"
#endif

namespace accrete {

// Whether this build has CUDA kernels.
bool built_with_cuda();
// Whether they take this tensor: on a CUDA device, of float32 or bfloat16.
bool cuda_kernels_apply(const at::Tensor& t);

#ifdef ACCRETE_CUDA
// What the kernels call the type of a tensor that they take.
kernels::cuda::Type cuda_type(const at::Tensor& t);
// The current stream of t's device, as the kernels take it.
void* cuda_stream(const at::Tensor& t);
// Throws std::runtime_error naming `what` where status is not 0.
void check_cuda(int status, const char* what);

// Scores [2 heads, T, n] float32 to slots [T, heads k] int32 and weights, and how many tokens had
// no finite scores. `mask` [T] bool on the same device: false is padding, without accesses;
// undefined: none is. Waits for the device.
struct CudaLookup {
  at::Tensor slots, weights;
  int64_t bad = 0;
};
CudaLookup product_top_k_cuda(const at::Tensor& scores, int64_t k, const at::Tensor& mask = {});
// The scores' gradient [2 heads, T, n].
at::Tensor product_top_k_backward_cuda(const at::Tensor& slots, const at::Tensor& weights,
                                       const at::Tensor& gradient, int64_t n, int64_t k);

// As the functions of weighted_gather.cc; rows and weights contiguous. Row numbers are checked.
at::Tensor gather_cuda(const at::Tensor& table, const at::Tensor& rows, const at::Tensor& weights);
at::Tensor scatter_cuda(const at::Tensor& grad, const at::Tensor& rows, const at::Tensor& weights,
                        int64_t R);
at::Tensor dots_cuda(const at::Tensor& table, const at::Tensor& rows, const at::Tensor& grad);
#endif

}  // namespace accrete
