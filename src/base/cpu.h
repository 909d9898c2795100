// What the processor has beyond what every build may use.
//
// Non-goals: choosing kernels (Highway does, in memory/kernels and model/kernels).
#pragma once

namespace accrete {

// Instructions for products in bfloat16, enabled by the operating system: matrix tiles (AMX-BF16)
// or vectors (AVX512-BF16). Matrix products in bfloat16 are then several times, or twice, as fast
// as in float32.
bool has_bfloat16_products();

}  // namespace accrete
