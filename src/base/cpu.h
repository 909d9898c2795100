// What the processor has beyond what every build may use.
//
// Non-goals: choosing kernels (Highway does, in memory/kernels and model/kernels).
#pragma once

namespace accrete {

// Tile matrix units for bfloat16 (AMX-BF16), enabled by the operating system: matrix products in
// bfloat16 are then several times as fast as in float32.
bool has_bfloat16_tiles();

}  // namespace accrete
