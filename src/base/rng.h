// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011).
//
// A generator is a value: (key, counter). Copy it to repeat a sequence; split() it to get
// independent streams. The same key gives the same numbers on every machine and thread count.
//
// Non-goals: cryptographic strength, the distributions of <random> (they differ by vendor).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace accrete {

// One Philox4x32-10 block: 128 random bits from a 128-bit counter and a 64-bit key.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  // An independent generator; the same (generator seed, stream) always gives the same one. Does not
  // advance this generator.
  Rng split(uint64_t stream) const;

  uint32_t next_u32();
  uint64_t next_u64();
  // Uniform in [0, 1), 24 bits.
  float uniform();
  // Uniform integer in [0, n); n must be > 0. Unbiased (rejection).
  uint64_t below(uint64_t n);
  // Standard normal (Box-Muller).
  float normal();

  // Fisher-Yates.
  template <typename T>
  void shuffle(std::span<T> values) {
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

 private:
  uint64_t seed_;
  uint64_t stream_;
  uint64_t counter_ = 0;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
  float spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace accrete
