#include "base/sha256.h"

#include <gtest/gtest.h>

#include <string>

#include "base/rng.h"

namespace accrete {
namespace {

// FIPS 180-4's examples and the vectors of its test suite.
TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                       "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  const std::string byte(1, '\xbd');
  EXPECT_EQ(sha256_hex(byte), "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b");
}

TEST(Sha256, StreamsInAnyPieces) {
  Rng rng(1);
  for (int round = 0; round < 50; ++round) {
    std::string text(rng.below(400), '\0');
    for (char& c : text) c = static_cast<char>(rng.next_u32());
    Sha256 hash;
    for (size_t done = 0; done < text.size();) {
      const size_t n = std::min<size_t>(rng.below(100), text.size() - done);
      hash.update(std::string_view(text).substr(done, n));
      done += n;
    }
    hash.update(std::span<const std::byte>());
    EXPECT_EQ(hash.hex(), sha256_hex(text));
  }
}

}  // namespace
}  // namespace accrete
