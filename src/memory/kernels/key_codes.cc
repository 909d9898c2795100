#include "memory/kernels/key_codes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#define ACCRETE_BYTE_PRODUCTS 1
#endif

namespace accrete::kernels {
namespace {

constexpr float kQueryCodes = 127, kKeyCodes = 127, kNarrowKeyCodes = 63;
// What float32 adds to the errors of rounding to codes: a few units in the last place of each of
// the numbers that a score is the sum of.
constexpr float kSlack = 1.001F, kRounding = 4e-6F;

float length(const float* x, int64_t width) {
  double sum = 0;
  for (int64_t i = 0; i < width; ++i) sum += static_cast<double>(x[i]) * x[i];
  return static_cast<float>(std::sqrt(sum));
}

}  // namespace

KeyCodes key_codes(const float* keys, const float* bias, int64_t halves, int64_t n, int64_t width,
                   ByteProducts how) {
  if (how == ByteProducts::kNone) return {};
  for (int64_t i = 0; i < halves * n; ++i)
    if (!std::isfinite(bias[i]) || !std::isfinite(length(keys + i * width, width))) return {};
  KeyCodes out;
  out.how = how;
  out.halves = halves;
  out.n = n;
  out.width = width;
  out.groups = (n + KeyCodes::kGroup - 1) / KeyCodes::kGroup;
  out.quads = (width + 3) / 4;
  const auto padded = static_cast<size_t>(out.groups * KeyCodes::kGroup);
  const auto rows = static_cast<size_t>(halves) * padded;
  out.codes.assign(rows * static_cast<size_t>(out.quads) * 4, 0);
  out.shift.assign(rows, 0);
  out.scale.assign(rows, 0);
  out.bias.assign(rows, -std::numeric_limits<float>::infinity());
  for (auto* each : {&out.longest, &out.error, &out.largest})
    each->assign(static_cast<size_t>(halves), 0);
  const float codes = how == ByteProducts::kVnni ? kKeyCodes : kNarrowKeyCodes;
  std::vector<float> apart(static_cast<size_t>(width));
  for (int64_t h = 0; h < halves; ++h)
    for (int64_t j = 0; j < n; ++j) {
      const float* key = keys + (h * n + j) * width;
      const auto half = static_cast<size_t>(h);
      const auto row = half * padded + static_cast<size_t>(j);
      int8_t* to = out.codes.data() +
                   ((h * out.groups + j / KeyCodes::kGroup) * out.quads * KeyCodes::kGroup +
                    j % KeyCodes::kGroup) *
                       4;
      float most = 0;
      for (int64_t i = 0; i < width; ++i) most = std::max(most, std::abs(key[i]));
      const float scale = most / codes, inverse = most > 0 ? codes / most : 0;
      int32_t sum = 0;
      for (int64_t i = 0; i < width; ++i) {
        const auto code = static_cast<int8_t>(std::lrint(key[i] * inverse));
        to[i / 4 * KeyCodes::kGroup * 4 + i % 4] = code;
        sum += code;
        apart[static_cast<size_t>(i)] = key[i] - scale * static_cast<float>(code);
      }
      out.shift[row] = -128 * sum;
      out.scale[row] = scale;
      out.bias[row] = bias[h * n + j];
      out.longest[half] = std::max(out.longest[half], length(key, width));
      out.error[half] = std::max(out.error[half], length(apart.data(), width));
      out.largest[half] = std::max(out.largest[half], std::abs(bias[h * n + j]));
    }
  return out;
}

#ifdef ACCRETE_BYTE_PRODUCTS
namespace {

#define ACCRETE_AVX2 __attribute__((target("avx2,fma")))
#define ACCRETE_VNNI __attribute__((target("avx512f,avx512bw,avx512vnni")))

struct Half {
  const int8_t* codes;
  const int32_t* shift;
  const float *scale, *bias;
  int64_t quads, stride;
};

int32_t four_codes(const uint8_t* at) {
  int32_t out = 0;
  std::memcpy(&out, at, sizeof out);
  return out;
}

template <int kTokens, int kGroups>
ACCRETE_VNNI void scores_vnni(const Half& keys, int64_t g, const uint8_t* codes,
                              const QueryCode* queries, float* out) {
  __m512i sum[kGroups][kTokens];
  for (int k = 0; k < kGroups; ++k)
    for (int t = 0; t < kTokens; ++t)
      sum[k][t] = _mm512_loadu_si512(keys.shift + (g + k) * KeyCodes::kGroup);
  for (int64_t c = 0; c < keys.quads; ++c) {
    __m512i key[kGroups];
    for (int k = 0; k < kGroups; ++k)
      key[k] = _mm512_loadu_si512(keys.codes + ((g + k) * keys.quads + c) * 64);
    for (int t = 0; t < kTokens; ++t) {
      const __m512i q = _mm512_set1_epi32(four_codes(codes + (t * keys.quads + c) * 4));
      for (int k = 0; k < kGroups; ++k) sum[k][t] = _mm512_dpbusd_epi32(sum[k][t], q, key[k]);
    }
  }
  for (int k = 0; k < kGroups; ++k) {
    const int64_t at = (g + k) * KeyCodes::kGroup;
    const __m512 scale = _mm512_loadu_ps(keys.scale + at), bias = _mm512_loadu_ps(keys.bias + at);
    for (int t = 0; t < kTokens; ++t) {
      const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(queries[t].scale));
      _mm512_storeu_ps(out + t * keys.stride + at,
                       _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(0xFFFF, sum[k][t]), factor, bias));
    }
  }
}

// Sums of pairs stay within 16 bits: 2 * 255 * 63 < 2^15.
template <int kTokens>
ACCRETE_AVX2 void scores_avx2(const Half& keys, int64_t g, const uint8_t* codes,
                              const QueryCode* queries, float* out) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum[2][kTokens];
  for (int k = 0; k < 2; ++k)
    for (int t = 0; t < kTokens; ++t)
      sum[k][t] = _mm256_loadu_si256(
          reinterpret_cast<const __m256i*>(keys.shift + g * KeyCodes::kGroup + k * 8));
  for (int64_t c = 0; c < keys.quads; ++c)
    for (int k = 0; k < 2; ++k) {
      const __m256i key = _mm256_loadu_si256(
          reinterpret_cast<const __m256i*>(keys.codes + (g * keys.quads + c) * 64 + k * 32));
      for (int t = 0; t < kTokens; ++t) {
        const __m256i q = _mm256_set1_epi32(four_codes(codes + (t * keys.quads + c) * 4));
        sum[k][t] =
            _mm256_add_epi32(sum[k][t], _mm256_madd_epi16(_mm256_maddubs_epi16(q, key), ones));
      }
    }
  for (int k = 0; k < 2; ++k) {
    const int64_t at = g * KeyCodes::kGroup + k * 8;
    const __m256 scale = _mm256_loadu_ps(keys.scale + at), bias = _mm256_loadu_ps(keys.bias + at);
    for (int t = 0; t < kTokens; ++t) {
      const __m256 factor = _mm256_mul_ps(scale, _mm256_set1_ps(queries[t].scale));
      _mm256_storeu_ps(out + t * keys.stride + at,
                       _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[k][t]), factor, bias));
    }
  }
}

template <int kTokens>
void scores_of(const Half& keys, bool vnni, int64_t begin, int64_t end, const uint8_t* codes,
               const QueryCode* queries, float* out) {
  int64_t g = begin;
  if (vnni) {
    for (; g + 2 <= end; g += 2) scores_vnni<kTokens, 2>(keys, g, codes, queries, out);
    if (g < end) scores_vnni<kTokens, 1>(keys, g, codes, queries, out);
    return;
  }
  for (; g < end; ++g) scores_avx2<kTokens>(keys, g, codes, queries, out);
}

}  // namespace

ByteProducts best_byte_products() {
  if (__builtin_cpu_supports("avx512vnni")) return ByteProducts::kVnni;
  return __builtin_cpu_supports("avx2") ? ByteProducts::kAvx2 : ByteProducts::kNone;
}

ACCRETE_AVX2 QueryCode query_code(const KeyCodes& keys, int64_t of, const float* q,
                                  uint8_t* codes) {
  const auto half = static_cast<size_t>(of);
  const int64_t width = keys.width;
  const __m256 sign = _mm256_set1_ps(-0.0F);
  __m256 most8 = _mm256_setzero_ps();
  int64_t i = 0;
  for (; i + 8 <= width; i += 8)
    most8 = _mm256_max_ps(_mm256_andnot_ps(sign, _mm256_loadu_ps(q + i)), most8);
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, most8);
  float most = *std::max_element(lanes, lanes + 8);
  for (int64_t j = i; j < width; ++j) most = std::max(most, std::abs(q[j]));
  QueryCode out;
  out.scale = most / kQueryCodes;
  const float inverse = most > 0 ? kQueryCodes / most : 0;
  const __m256 to_code = _mm256_set1_ps(inverse), from_code = _mm256_set1_ps(out.scale);
  const __m256i middle = _mm256_set1_epi32(128);
  __m256 apart8 = _mm256_setzero_ps(), sum8 = _mm256_setzero_ps();
  for (i = 0; i + 8 <= width; i += 8) {
    const __m256 x = _mm256_loadu_ps(q + i);
    const __m256i code = _mm256_cvtps_epi32(_mm256_mul_ps(x, to_code));
    const __m256 d = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(code), from_code, x);
    apart8 = _mm256_fmadd_ps(d, d, apart8);
    sum8 = _mm256_fmadd_ps(x, x, sum8);
    const __m256i shifted = _mm256_add_epi32(code, middle);
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(shifted), _mm256_extracti128_si256(shifted, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(codes + i), _mm_packus_epi16(words, words));
  }
  float apart = 0, sum = 0;
  alignas(32) float sums[8];
  _mm256_store_ps(lanes, apart8);
  _mm256_store_ps(sums, sum8);
  for (int l = 0; l < 8; ++l) {
    apart += lanes[l];
    sum += sums[l];
  }
  for (; i < width; ++i) {
    const int32_t code = _mm_cvtss_si32(_mm_set_ss(q[i] * inverse));
    const float d = q[i] - out.scale * static_cast<float>(code);
    apart += d * d;
    sum += q[i] * q[i];
    codes[i] = static_cast<uint8_t>(code + 128);
  }
  for (; i < keys.quads * 4; ++i) codes[i] = 128;
  out.finite = std::isfinite(most) && !std::isnan(sum);  // a maximum may have missed a NaN
  const float off = std::sqrt(apart), length = std::sqrt(sum);
  out.margin = kSlack * (off * keys.longest[half] + (length + off) * keys.error[half]) +
               kRounding * (length * keys.longest[half] + keys.largest[half]);
  return out;
}

void told_scores(const KeyCodes& keys, int64_t half, const uint8_t* codes, const QueryCode* queries,
                 int64_t tokens, float* out) {
  const int64_t padded = keys.groups * KeyCodes::kGroup, row = half * padded;
  const Half of{keys.codes.data() + row * keys.quads * 4,
                keys.shift.data() + row,
                keys.scale.data() + row,
                keys.bias.data() + row,
                keys.quads,
                keys.stride()};
  const bool vnni = keys.how == ByteProducts::kVnni;
  // So many half-keys that their codes stay in the nearest cache while all tokens meet them.
  const int64_t tile = std::max<int64_t>(2, 256 / keys.quads / 2 * 2);
  for (int64_t g = 0; g < keys.groups; g += tile) {
    const int64_t end = std::min(g + tile, keys.groups);
    const auto part = [&]<int kTokens>(int64_t t) {
      scores_of<kTokens>(of, vnni, g, end, codes + t * keys.quads * 4, queries + t,
                         out + t * keys.stride());
    };
    int64_t t = 0;
    for (; t + 8 <= tokens; t += 8) part.template operator()<8>(t);
    for (; t + 4 <= tokens; t += 4) part.template operator()<4>(t);
    for (; t < tokens; ++t) part.template operator()<1>(t);
  }
}
#else
ByteProducts best_byte_products() {
  return ByteProducts::kNone;
}

QueryCode query_code(const KeyCodes&, int64_t, const float*, uint8_t*) {
  return {};
}

void told_scores(const KeyCodes&, int64_t, const uint8_t*, const QueryCode*, int64_t, float*) {}
#endif

}  // namespace accrete::kernels
