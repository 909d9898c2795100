// A matrix that is kept in fewer bits than it computes in: products of few rows with it, and its
// values.
//
// Decoding reads every weight once a token, so its time is that of reading them. Here a row of the
// matrix is read as codes, turned into float32 in registers (value = scale * code + minimum of its
// block) and multiplied with up to eight rows of x at once.
//
// Non-goals: quantised activations, products of many rows (of the values they are faster).
#pragma once

#include <cstdint>

namespace accrete::kernels {

// A matrix [rows, columns], rows one after the other.
struct CodedRows {
  enum class Kind {
    kCodes4,   // U8 [rows, columns / 2]; the first half of a block in the low halves of its bytes
    kCodes8,   // I8 [rows, columns]
    kBFloat16  // the values themselves; no scales
  };
  Kind kind = Kind::kBFloat16;
  int64_t rows = 0, columns = 0;  // columns: a multiple of 32
  int64_t block = 32;             // values; 16 or 32
  const void* codes = nullptr;
  const float* scales = nullptr;  // [rows, columns / block]
  const float* minima = nullptr;  // likewise; null: 0
};

// y[i, r] = sum over c of x[i, c] w[r, c] for i < n and begin <= r < end; x [n, columns], y
// [n, rows], float32.
void coded_product(const CodedRows& w, int64_t begin, int64_t end, const float* x, int64_t n,
                   float* y);

// The same with row i of y as coded_product gives it for n = 1, bit for bit, for any n.
void coded_products(const CodedRows& w, int64_t begin, int64_t end, const float* x, int64_t n,
                    float* y);

// What comes back through it: x[i, c] = sum over r of y[i, r] w[r, c] for i < n and begin <= c <
// end, multiples of 32; x and y as above.
void coded_back_product(const CodedRows& w, int64_t begin, int64_t end, const float* y, int64_t n,
                        float* x);

// Rows begin <= r < end as float32, [end - begin, columns].
void coded_values(const CodedRows& w, int64_t begin, int64_t end, float* values);

}  // namespace accrete::kernels
