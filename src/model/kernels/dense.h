// A matrix product with float32 weights as they lie in a file, every element summed in one order.
//
// A BLAS copies the weights into an order of its own first; for the tokens of one question that is
// most of the time. Here rows of the weights are multiplied as they are, and a row of the result is
// the same, bit for bit, whatever rows are beside it and however threads share the columns.
//
// Non-goals: other types, tensors, threads.
#pragma once

#include <cstdint>

namespace accrete::kernels {

// y[i, r] = bias[r] + sum over c of x[i, c] w[r, c] for i < n and begin <= r < end;
// x [n, columns], w [rows, columns], y [n, rows].
void dense_product(const float* x, int64_t n, int64_t columns, const float* w, const float* bias,
                   int64_t rows, int64_t begin, int64_t end, float* y);

}  // namespace accrete::kernels
