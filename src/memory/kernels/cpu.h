// The memory layer's inner loops on the CPU: vectorised with Highway, the instruction set chosen at
// run time.
//
// Plain pointers, one thread: callers split the work (at::parallel_for) and check the arguments.
// Every result is computed in an order that depends on the shapes alone, so it does not depend on
// how the work was split. It may differ in the last bit between instruction sets (fused
// multiply-add or not).
//
// Non-goals: tensors, threads, argument checks; which slots a token uses (search.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace accrete::kernels {

// The upper half of a float32's bits: what a table of rows may be stored in. Sums are float32.
enum class Bfloat16 : uint16_t {};

// out[t] = sum_k weights[t, k] table[rows[t, k]] for `tokens` lists of `per_token` (rows < 0 are
// skipped); table [?, d], out [tokens, d]. Sums in order of k.
void weighted_sums(const float* table, int64_t d, const int32_t* rows, const float* weights,
                   int64_t tokens, int64_t per_token, float* out);
void weighted_sums(const Bfloat16* table, int64_t d, const int32_t* rows, const float* weights,
                   int64_t tokens, int64_t per_token, float* out);

// The same for lists of unequal length: out[i] for i in [begin, end) sums entries offsets[i] to
// offsets[i + 1]. out is the whole output, row 0 first.
void weighted_sums_csr(const float* table, int64_t d, const int64_t* offsets, const int32_t* rows,
                       const float* weights, int64_t begin, int64_t end, float* out);

// out[t, k] = grad[t] . table[rows[t, k]], 0 where rows < 0.
void row_dots(const float* table, int64_t d, const int32_t* rows, const float* grad, int64_t tokens,
              int64_t per_token, float* out);
void row_dots(const Bfloat16* table, int64_t d, const int32_t* rows, const float* grad,
              int64_t tokens, int64_t per_token, float* out);

// out[r] = |q - table[r]|^2 for r in [0, n) where that is below `limit`; elsewhere some number that
// is not, mostly told from the first coordinates. q [d], table [n, d].
void squared_distances(const float* q, const float* table, int64_t d, int64_t n, float limit,
                       float* out);

// Which of n <= 16 rows of `table` [n, d] may lie within sqrt(limit) of each of T queries `q` [T,
// d]: bit r of maybe[t] is set for every row r that does, and for few others. Told from the first
// coordinates; squared_distances says the rest.
void maybe_near(const float* q, int64_t T, const float* table, int64_t d, int64_t n, float limit,
                uint16_t* maybe);

// For tests and benchmarks: the instruction sets that this build has and this CPU can run, best
// first; and the choice of one by name ("" gives the choice back to the CPU). Not thread-safe.
std::vector<std::string> targets();
void use_target(const std::string& name);

}  // namespace accrete::kernels
