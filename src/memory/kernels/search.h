// Which slots a token uses: the search of product keys on the CPU, vectorised with Highway.
//
// Plain pointers, one thread: callers split the work and check the arguments. Results depend on
// nothing but the arguments; they may differ in the last bit between instruction sets.
//
// Non-goals: queries (product_keys.h), rows (cpu.h), tensors, threads.
#pragma once

#include <cstdint>

#include "memory/kernels/key_codes.h"

namespace accrete::kernels {

inline constexpr int64_t kMaxTopK = 64;

struct ProductShape {
  int64_t tokens = 0;
  int64_t heads = 1;
  int64_t n = 1;      // half-keys of each half
  int64_t top_k = 1;  // <= min(n, kMaxTopK)
};

// Scores of both halves to accesses. scores [heads, 2, tokens, n]; keep [tokens] or null (no
// padding); slots, weights [tokens, heads * top_k], each head's by descending score. Equal scores
// go to the lower slot. Returns how many kept tokens have no top_k finite scores (NaN or infinity
// in the input); their accesses are -1.
int64_t product_top_k(const float* scores, const ProductShape& shape, const bool* keep,
                      int32_t* slots, float* weights);

// The same from queries q [tokens, heads, 2, width] and half-keys keys [heads, 2, n, width]
// with bias [heads, 2, n]: s_j = q . key_j + bias_j. Which half-keys can be among the best is told
// from `codes`, made of keys and bias; only those are scored in float32, so that the result is that
// of scoring all of them.
int64_t product_top_k(const KeyCodes& codes, const float* keys, const float* bias, const float* q,
                      const ProductShape& shape, const bool* keep, int32_t* slots, float* weights);

// The k largest of row [n], descending, and where they are; equal values by position. Returns how
// many were found: fewer than k only if NaNs leave fewer.
int64_t top_k(const float* row, int64_t n, int64_t k, float* values, int32_t* positions);

}  // namespace accrete::kernels
