// The memory layer's inner loops on CUDA devices: the operators of cpu.h and search.h, and the row
// update, over device pointers.
//
// A call puts its work on a stream and returns; it neither waits nor allocates. Shapes and meaning
// are those of the CPU; tables are float32 or bfloat16, sums always float32. The same inputs on the
// same device give the same bits (see cuda_device.h). Every call returns a cudaError_t as int: 0
// is success.
//
// Non-goals: tensors, argument checks, memory.
#pragma once

#include <cstdint>

#include "memory/kernels/search.h"

namespace accrete::kernels::cuda {

using Stream = void*;  // cudaStream_t

enum class Type { kFloat, kBfloat16 };

// Adds to *bad_tokens (device memory) the number of kept tokens without top_k finite scores.
int product_top_k(const float* scores, const ProductShape& shape, const bool* keep, int32_t* slots,
                  float* weights, int32_t* bad_tokens, Stream stream);

// The gradient of the scores [heads, 2, tokens, n], of which `out` must be zero, from that of the
// weights [tokens, heads * top_k]. No token may be without accesses.
int product_top_k_backward(const int32_t* slots, const float* weights, const float* gradient,
                           const ProductShape& shape, float* out, Stream stream);

// out[t] = sum_k weights[t, k] table[rows[t, k]]; table and out of one type.
int weighted_sums(Type type, const void* table, int64_t d, const int32_t* rows,
                  const float* weights, int64_t tokens, int64_t per_token, void* out,
                  Stream stream);

// out[i], i < count, sums entries offsets[i] to offsets[i + 1] (offsets in device memory).
int weighted_sums_csr(Type type, const void* table, int64_t d, const int64_t* offsets,
                      const int32_t* rows, const float* weights, int64_t count, void* out,
                      Stream stream);

// out[t, k] = grad[t] . table[rows[t, k]], 0 where rows < 0; grad of the table's type.
int row_dots(Type type, const void* table, int64_t d, const int32_t* rows, const void* grad,
             int64_t tokens, int64_t per_token, float* out, Stream stream);

// table[rows[i]] += delta[i], i < count; rows distinct, those < 0 are skipped; delta [count, d].
int add_rows(Type type, void* table, int64_t d, const int32_t* rows, const float* delta,
             int64_t count, Stream stream);

}  // namespace accrete::kernels::cuda
