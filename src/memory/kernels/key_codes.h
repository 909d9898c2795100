// Half-keys in a byte a number, and the scores of queries told from those: with AVX-512 VNNI four
// times as many products an instruction as in float32, and near enough to say which few half-keys
// deserve the latter.
//
// A key becomes codes in [-127, 127] times a scale of its own ([-63, 63] for AVX2, which adds pairs
// of products in 16 bits), a query codes in [-127, 127] times its scale. With q', k' for what the
// codes stand for, the told score differs from q . k by at most
//   |q - q'| max |k| + |q'| max |k - k'|                                          (Cauchy-Schwarz)
// so each of the k best half-keys is told to be at most twice that below the k-th best told.
//
// Non-goals: the search (search.h), the choice of when to use it (product_keys.cc).
#pragma once

#include <cstdint>
#include <vector>

namespace accrete::kernels {

// The instructions that products of bytes are taken with.
enum class ByteProducts { kNone, kAvx2, kVnni };
// The best that this processor has.
ByteProducts best_byte_products();

struct KeyCodes {
  static constexpr int64_t kGroup = 16;  // half-keys side by side in a vector

  ByteProducts how = ByteProducts::kNone;
  int64_t halves = 0, n = 0, width = 0;
  int64_t groups = 0;          // n / 16, up
  int64_t quads = 0;           // width / 4, up
  std::vector<int8_t> codes;   // [halves, groups, quads, 16, 4]
  std::vector<int32_t> shift;  // [halves, groups * 16]: -128 times the sum of a key's codes
  std::vector<float> scale;    // likewise
  std::vector<float> bias;     // likewise; -infinity beyond n
  std::vector<float> longest;  // [halves]: max |k|
  std::vector<float> error;    // [halves]: max |k - k'|
  std::vector<float> largest;  // [halves]: max |bias|

  bool defined() const { return halves > 0; }
  // Numbers between the told scores of two queries: rows a power of two apart would meet in few
  // lines of the nearest cache.
  int64_t stride() const { return (groups | 1) * kGroup; }
};

// keys [halves, n, width], bias [halves, n]; a half is one of a head's two. Undefined if one of
// the numbers is not finite, and without instructions.
KeyCodes key_codes(const float* keys, const float* bias, int64_t halves, int64_t n, int64_t width,
                   ByteProducts how = best_byte_products());

// A query's codes, 128 added, `quads` * 4 of them with 128 where it has ended.
struct QueryCode {
  float scale = 0;
  float margin = 0;     // what a told score may be off, for the half it was made for
  bool finite = false;  // the query; otherwise there are no codes
};
QueryCode query_code(const KeyCodes& keys, int64_t half, const float* q, uint8_t* codes);

// out[t * stride + j] = the told score of half-key j < groups * 16, -infinity beyond n, for the
// query t of `tokens` with codes [tokens, quads * 4].
void told_scores(const KeyCodes& keys, int64_t half, const uint8_t* codes, const QueryCode* queries,
                 int64_t tokens, float* out);

}  // namespace accrete::kernels
