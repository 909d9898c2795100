// The cosine of a vector and a key (ledger/facts.h), both of unit length: an integer product and
// its scale.
//
// Non-goals: keys of product-key memories.
#pragma once

#include <cstdint>

namespace accrete {

inline float key_cosine(const float* vector, const int8_t* key, float scale, int64_t width) {
  float sum = 0;
  for (int64_t i = 0; i < width; ++i) sum += vector[i] * static_cast<float>(key[i]);
  return sum * scale;
}

}  // namespace accrete
