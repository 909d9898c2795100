#include "base/cpu.h"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace accrete {

bool has_bfloat16_products() {
#if defined(__x86_64__)
  uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) return false;
  // XCR0, what the system saves: mask registers and the halves of the 512-bit registers (5 to 7),
  // tile configuration and tile data (17, 18).
  uint32_t saved = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  const auto saves = [saved](uint32_t bits) { return (saved & bits) == bits; };
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr uint32_t kAmxBf16 = 1U << 22, kAmxTile = 1U << 24;
  if ((d & kAmxBf16) != 0 && (d & kAmxTile) != 0 && saves(3U << 17)) return true;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) == 0) return false;
  constexpr uint32_t kAvx512Bf16 = 1U << 5;
  return (a & kAvx512Bf16) != 0 && saves(7U << 5);
#else
  return false;
#endif
}

}  // namespace accrete
