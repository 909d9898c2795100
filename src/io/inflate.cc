#include "io/inflate.h"

#include <array>
#include <cstdint>

namespace accrete {
namespace {

constexpr int kLongest = 15;  // bits of a code

struct Damaged {};

// Bits, the lowest of each byte first.
class Bits {
 public:
  explicit Bits(std::span<const std::byte> bytes) : bytes_(bytes) {}

  uint32_t take(int n) {
    while (held_ < n) {
      if (at_ == bytes_.size()) throw Damaged();
      bits_ |= std::to_integer<uint64_t>(bytes_[at_++]) << held_;
      held_ += 8;
    }
    const auto out = static_cast<uint32_t>(bits_ & ((uint64_t{1} << n) - 1));
    bits_ >>= n;
    held_ -= n;
    return out;
  }
  // What is left of the byte is skipped.
  void to_byte() { (void)take(held_ % 8); }
  bool at_end() const { return at_ == bytes_.size() && held_ < 8; }

 private:
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
  uint64_t bits_ = 0;
  int held_ = 0;
};

// A Huffman code by the lengths of its words: canonical, as RFC 1951 3.2.2.
class Code {
 public:
  explicit Code(std::span<const uint8_t> lengths) {
    for (const uint8_t n : lengths) ++count_[n];
    count_[0] = 0;
    int left = 1;  // words of this length that are free
    for (int n = 1; n <= kLongest; ++n) {
      left = 2 * left - count_[static_cast<size_t>(n)];
      if (left < 0) throw Damaged();
    }
    std::array<int, kLongest + 2> next{};
    for (size_t n = 1; n <= kLongest; ++n) next[n + 1] = next[n] + count_[n];
    symbols_.resize(static_cast<size_t>(next[kLongest + 1]));
    for (size_t s = 0; s < lengths.size(); ++s)
      if (lengths[s] != 0)
        symbols_[static_cast<size_t>(next[lengths[s]]++)] = static_cast<uint16_t>(s);
  }

  uint16_t read(Bits& in) const {
    int code = 0, first = 0, index = 0;
    for (size_t n = 1; n <= kLongest; ++n) {
      code |= static_cast<int>(in.take(1));
      const int count = count_[n];
      if (code - first < count) return symbols_[static_cast<size_t>(index + code - first)];
      index += count;
      first = 2 * (first + count);
      code *= 2;
    }
    throw Damaged();
  }

 private:
  std::array<int, kLongest + 1> count_{};
  std::vector<uint16_t> symbols_;
};

constexpr std::array<uint16_t, 29> kLengths = {3,  4,  5,  6,   7,   8,   9,   10,  11, 13,
                                               15, 17, 19, 23,  27,  31,  35,  43,  51, 59,
                                               67, 83, 99, 115, 131, 163, 195, 227, 258};
constexpr std::array<uint8_t, 29> kLengthBits = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                                 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
constexpr std::array<uint16_t, 30> kDistances = {
    1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
    193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};

int distance_bits(size_t symbol) {
  return symbol < 4 ? 0 : static_cast<int>(symbol / 2) - 1;
}

class Inflater {
 public:
  Inflater(std::span<const std::byte> packed, size_t size) : in_(packed), size_(size) {}

  std::vector<std::byte> run() {
    for (bool last = false; !last;) {
      last = in_.take(1) != 0;
      switch (in_.take(2)) {
        case 0:
          stored();
          break;
        case 1:
          fixed();
          break;
        case 2:
          dynamic();
          break;
        default:
          throw Damaged();
      }
    }
    if (!in_.at_end() || out_.size() != size_) throw Damaged();
    return std::move(out_);
  }

 private:
  void put(std::byte b) {
    if (out_.size() == size_) throw Damaged();
    out_.push_back(b);
  }

  void stored() {
    in_.to_byte();
    const uint32_t n = in_.take(16), check = in_.take(16);
    if ((n ^ check) != 0xffff) throw Damaged();
    for (uint32_t i = 0; i < n; ++i) put(static_cast<std::byte>(in_.take(8)));
  }

  void fixed() {
    std::array<uint8_t, 288> lengths{};
    for (size_t i = 0; i < 288; ++i)
      lengths[i] = static_cast<uint8_t>(i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8);
    std::array<uint8_t, 30> distances{};
    distances.fill(5);
    block(Code(lengths), Code(distances));
  }

  void dynamic() {
    constexpr std::array<uint8_t, 19> kOrder = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                11, 4,  12, 3, 13, 2, 14, 1, 15};
    const size_t lengths = in_.take(5) + 257, distances = in_.take(5) + 1, own = in_.take(4) + 4;
    if (lengths > 286 || distances > 30) throw Damaged();
    std::array<uint8_t, 19> first{};
    for (size_t i = 0; i < own; ++i) first[kOrder[i]] = static_cast<uint8_t>(in_.take(3));
    const Code code(first);
    std::vector<uint8_t> all;
    while (all.size() < lengths + distances) {
      const uint16_t symbol = code.read(in_);
      if (symbol < 16) {
        all.push_back(static_cast<uint8_t>(symbol));
        continue;
      }
      if (symbol == 16 && all.empty()) throw Damaged();
      const uint8_t again = symbol == 16 ? all.back() : 0;
      const uint32_t times = symbol == 16   ? 3 + in_.take(2)
                             : symbol == 17 ? 3 + in_.take(3)
                                            : 11 + in_.take(7);
      all.insert(all.end(), times, again);
    }
    if (all.size() != lengths + distances || all[256] == 0) throw Damaged();
    block(Code(std::span(all).first(lengths)), Code(std::span(all).subspan(lengths)));
  }

  void block(const Code& code, const Code& distances) {
    while (true) {
      const uint16_t symbol = code.read(in_);
      if (symbol < 256) {
        put(static_cast<std::byte>(symbol));
        continue;
      }
      if (symbol == 256) return;
      const size_t l = symbol - size_t{257};
      if (l >= kLengths.size()) throw Damaged();
      const size_t length = kLengths[l] + in_.take(kLengthBits[l]);
      const size_t d = distances.read(in_);
      if (d >= kDistances.size()) throw Damaged();
      const size_t back = kDistances[d] + in_.take(distance_bits(d));
      if (back > out_.size()) throw Damaged();
      for (size_t i = 0; i < length; ++i) put(out_[out_.size() - back]);
    }
  }

  Bits in_;
  size_t size_;
  std::vector<std::byte> out_;
};

}  // namespace

std::optional<std::vector<std::byte>> inflate(std::span<const std::byte> packed, size_t size) {
  try {
    return Inflater(packed, size).run();
  } catch (const Damaged&) {
    return std::nullopt;
  }
}

}  // namespace accrete
