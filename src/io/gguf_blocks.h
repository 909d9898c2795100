// The layouts of GGUF's block-quantised types, for all that reads them: value = scale * code, plus
// a minimum where the type has them.
//
// Non-goals: types without blocks (F32, F16, BF16).
#pragma once

#include <cstdint>

#include "io/gguf.h"

namespace accrete {

// One block taken apart: codes, and the scale and minimum of each run of `BlockLayout::run` codes.
struct GgmlBlock {
  int8_t code[256];
  float scale[16], minimum[16];
};

struct BlockLayout {
  void (*read)(const uint8_t* in, GgmlBlock& out) = nullptr;  // null: a type without blocks
  int bits = 8;      // of a code: 4 or, also where it has fewer, 8
  int64_t run = 32;  // codes with one scale: 16 or 32
  bool minima = false;
};
BlockLayout block_layout(GgmlType type);

}  // namespace accrete
