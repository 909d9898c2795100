#include "base/rng.h"

#include <cmath>
#include <numbers>

namespace accrete {
namespace {

constexpr uint32_t kMul0 = 0xD2511F53u;
constexpr uint32_t kMul1 = 0xCD9E8D57u;
constexpr uint32_t kWeyl0 = 0x9E3779B9u;
constexpr uint32_t kWeyl1 = 0xBB67AE85u;
// "split in", as ASCII: any constant that no one picks as a seed does.
constexpr uint32_t kSplitKey0 = 0x73706C69u;
constexpr uint32_t kSplitKey1 = 0x7420696Eu;

}  // namespace

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> c, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{kMul0} * c[0];
    const uint64_t p1 = uint64_t{kMul1} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ key[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return c;
}

Rng Rng::split(uint64_t stream) const {
  // The child's stream id is a Philox block of (stream, the parent's stream), so grandchildren do
  // not collide. The key is tweaked: with the plain one the block would be the parent's own output
  // at counter `stream`.
  const auto b = philox4x32(
      {static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32),
       static_cast<uint32_t>(stream_), static_cast<uint32_t>(stream_ >> 32)},
      {static_cast<uint32_t>(seed_) ^ kSplitKey0, static_cast<uint32_t>(seed_ >> 32) ^ kSplitKey1});
  return Rng(seed_, (uint64_t{b[1]} << 32) | b[0]);
}

uint32_t Rng::next_u32() {
  if (used_ == 4) {
    block_ = philox4x32({static_cast<uint32_t>(counter_), static_cast<uint32_t>(counter_ >> 32),
                         static_cast<uint32_t>(stream_), static_cast<uint32_t>(stream_ >> 32)},
                        {static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)});
    ++counter_;
    used_ = 0;
  }
  return block_[static_cast<size_t>(used_++)];
}

uint64_t Rng::next_u64() {
  const uint64_t low = next_u32();
  return (uint64_t{next_u32()} << 32) | low;
}

float Rng::uniform() {
  return static_cast<float>(next_u32() >> 8) * 0x1p-24f;
}

uint64_t Rng::below(uint64_t n) {
  const uint64_t limit = UINT64_MAX - UINT64_MAX % n;
  for (;;) {
    const uint64_t v = next_u64();
    if (v < limit) return v % n;
  }
}

float Rng::normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  const double u = 1.0 - uniform();  // (0, 1]
  const double v = uniform();
  const double r = std::sqrt(-2.0 * std::log(u));
  spare_ = static_cast<float>(r * std::sin(2 * std::numbers::pi * v));
  has_spare_ = true;
  return static_cast<float>(r * std::cos(2 * std::numbers::pi * v));
}

}  // namespace accrete
