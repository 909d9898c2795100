#include "io/tensorboard.h"

#include <gtest/gtest.h>

#include <string>

namespace accrete {
namespace {

std::string hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

TEST(Tensorboard, Crc32cHasThePublishedCheckValue) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);            // RFC 3720 and every catalogue of CRCs
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(masked_crc32c("123456789"), 0xC78AB0E5u);
}

// Bytes computed apart from this code, with Python's struct and a CRC bit by bit.
TEST(Tensorboard, RecordsHaveTheBytesOfTheFormat) {
  EXPECT_EQ(hex(tfrecord(version_event(1.5))),
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c");
  EXPECT_EQ(hex(tfrecord(scalar_event(1.5, 300, "loss", 2.5F))),
            "1b000000000000001a0d9e1309000000000000f83f10ac022a0d0a0b0a046c6f737315000020406899"
            "7c51");
}

TEST(Tensorboard, LongTagsHaveLengthsOfTwoBytes) {
  const std::string tag(200, 't');
  const std::string event = scalar_event(0, 1, tag, 0);
  // wall time 9, step 2, then field 5 with a length beyond 127 in two bytes.
  EXPECT_EQ(hex(std::string_view(event).substr(11, 3)), "2ad301");
  EXPECT_EQ(event.size(), 9u + 2 + 3 + 3 + 208);
}

}  // namespace
}  // namespace accrete
