// What zlib and numpy wrote, unpacked; and every damage refused.
#include "io/inflate.h"

#include <gmock/gmock.h>

#include "../base/testing.h"
#include "io/vector_set.h"

namespace accrete {
namespace {

std::string from_hex(std::string_view hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    out += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return out;
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::optional<std::string> unpacked(const std::string& packed, size_t size) {
  const auto out = inflate(bytes_of(packed), size);
  if (!out) return std::nullopt;
  return std::string(reinterpret_cast<const char*>(out->data()), out->size());
}

// zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy) of Python 3.11: a block of each kind.
constexpr std::string_view kStored = "011400ebff5468652073616d6520776f7264732c2074686520";
constexpr std::string_view kFixed =
    "0bc94855284ecc4d5528cf2f4a29d65128c1cb57484c4fccccd35308018b0200";
constexpr std::string_view kDynamic =
    "2dd089b6a90a0000d03265cad041a44e3498ae12913a421499158aa2c3ff7fc5bd6fadb73f6103a912c5877344"
    "679cc13bcaa6d69b9fdfcaee9922bc2421e8a4683eb3a710cae99462c5887789373fcb6781df744d109709c545"
    "7a45d1ce70c5e1151954d58098b5f7e9de6506309b94ffad431cbe8cf7dc353c0a58548b0f5ee78a9151789fbd"
    "7c17161935010a6f2e7059b771b7a91bfbb835bcee27e8477f32b05e3eb3ec4b4c2e0ddce162099d780ca4fcb1"
    "15499a34305bd1a0f6dd8cad1bb19c3df872009d85f68f0919deb8935af4f05ab6b277c8926bf16ae42453522d"
    "755f3e0c014fd4e0d74eb6e63c013751c8db45eedb09b79b0a4c59ea9085449b2ca642348624430c51ca26b866"
    "1d4755792874afd671bfcd65e0746af48f0480e128244a8aaac1f922469e6efe272a4d8dc38de5a4f9a6caf614"
    "a34cf72626de9674bb251957f067e7272ab748b1a9141acae1ad5a61b49b24477b40bbc38c4a8c8ed16f001b9e"
    "a043ac3ef5667e49b4c60e229cc76e71e4ccdea4061e33c2b508b2dbb4f05fe97509f14e353d7cd187594cf0e9"
    "d222258177ea8499d3a41c15fff8ad47b366d5ec3a7e226d9abcb05eb7fd3b88a993dc1abf5e3ba09243f67420"
    "29c8b109c69684379aa0ce205b72c4bced2b654fd199a8d91a963c95ec666f32fe27e74eea7df4bde6668dcc5d"
    "bbaa6cd6873da3870978dcd57d7344e73b95f863035ef421ab0d9852a25149030e02051733165c770bd0b3b78b"
    "70e09eb7e918183cf07221070ffb7cb773b1adf30945d172c55899db3d8a1135e6e23e3f115199af0e38dd19fc"
    "a40a44a3174a97ea5d2085d2bd2842767ff2243f3d3043e316995b00c27c1056deb7542b5279a429f9c4af5e48"
    "2745ab0e6c25e8e943bde7b92dbf8798456b1da616ed0dd434fb174474349031136e650ab05f72406dc6bfcc3e"
    "1fea5c307df4dbb4b18c12e6fd33667e6952b8ffe6d81b75a963fbea0147b7d891ac9eea4eabf1ec8515193630"
    "db6e7dc6d9fc8e7a8de4ff4f7d492dbb62ae7c1f7d5d5f93ea4b5d37e3bbae8c051a2d14bc695d283e17cd3111"
    "39882baef86bfe05";
// numpy.savez_compressed(file, inputs=numpy.arange(80, dtype=numpy.float32).reshape(40, 2) / 8,
//                        targets=numpy.arange(40) % 3)
constexpr std::string_view kNumpy =
    "504b03042d00000008000000210002f09f8bffffffffffffffff0a001400696e707574732e6e707901001000c0"
    "01000000000000f7000000000000009dc8b14b02611cc6f19f12221221122112f16eafc20d220e1151e7122e86"
    "4b60531e7ae2102a7711410437343438083a34343838383438343434dcd0e0d0e0e0d0d0e0d0d0d0e0e0d0d0d0"
    "57fc0f7ae0333cdfeef149a1781a904bb9d655dbad387a4fe9fd5a561b4ad79ace856335ce9a4ed55ef623ebdc"
    "b5e96edd6ad9fc64366da84cca5037eabf8bc86a07221e7cc8a1888289323c74d0c7083e2698610e3145c28822"
    "0e8524d2d885893c8a28a18c3a5ab882875bdca18d0e7ab8c703fa186088478cf08467bcc0c72bc678c30453bc"
    "e303337ce20bdf9863811ffc42722241ac2184302258c706a28861135b8823816dece4fe00504b03042d000000"
    "080000002100637e73fcffffffffffffffff0b001400746172676574732e6e707901001000c001000000000000"
    "52000000000000009bec17ea1b10c9c850c650ad9e925a9c5ca46ea5a06e9369a1aea3a09e965f54529498179f"
    "5f94920a12774bcc294e058a17672416a402f91a26063a9a3a0ab50ae4032e06286084d24c0ca860541cbf3800"
    "504b01022d032d00000008000000210002f09f8bf7000000c00100000a00000000000000000000008001000000"
    "00696e707574732e6e7079504b01022d032d000000080000002100637e73fc52000000c00100000b0000000000"
    "000000000000800133010000746172676574732e6e7079504b0506000000000200020071000000c20100000000";

const std::string kWords = "The same words, the same words, the same words again. The sa";

std::string sums() {
  std::string out;
  for (int i = 0; i < 900; ++i) out += static_cast<char>((i * i / 7 + i % 5 * 11) % 97);
  return out;
}

TEST(Inflate, UnpacksWhatZlibPacked) {
  EXPECT_EQ(unpacked(from_hex(kStored), 20), kWords.substr(0, 20));
  EXPECT_EQ(unpacked(from_hex(kFixed), 60), kWords);
  EXPECT_EQ(unpacked(from_hex(kDynamic), 900), sums());
}

TEST(Inflate, RefusesWhatIsCutLongerOrOfAnotherSize) {
  for (const auto& [hex, size] :
       {std::pair(kStored, size_t{20}), {kFixed, size_t{60}}, {kDynamic, size_t{900}}}) {
    const std::string whole = from_hex(hex);
    for (size_t n = 0; n < whole.size(); ++n) EXPECT_FALSE(unpacked(whole.substr(0, n), size));
    EXPECT_FALSE(unpacked(whole + '\0', size));
    EXPECT_FALSE(unpacked(whole, size - 1));
    EXPECT_FALSE(unpacked(whole, size + 1));
  }
}

TEST(Inflate, SurvivesEveryChangedBit) {
  const std::string whole = from_hex(kDynamic);
  size_t refused = 0, another = 0;
  for (size_t i = 0; i < 8 * whole.size(); ++i) {
    std::string changed = whole;
    changed[i / 8] = static_cast<char>(changed[i / 8] ^ (1 << i % 8));
    const auto out = unpacked(changed, 900);
    refused += !out;
    another += out && *out != sums();
  }
  // What has the right size is caught by the checksum of the zip. The bits behind the end of the
  // last block, at most 7, say nothing.
  EXPECT_GE(refused + another, 8 * whole.size() - 7);
  EXPECT_GT(refused, 0);
}

TEST(Inflate, ReadsSetsThatNumpyPacked) {
  const std::string file = from_hex(kNumpy);
  const VectorSet set = parse_vector_set(bytes_of(file), "a.npz");
  EXPECT_EQ(set.rows, 40);
  EXPECT_EQ(set.width, 2);
  for (size_t i = 0; i < 80; ++i) EXPECT_EQ(set.inputs[i], static_cast<float>(i) / 8);
  for (size_t i = 0; i < 40; ++i) EXPECT_EQ(set.classes[i], static_cast<int32_t>(i % 3));
  // A changed byte of what is packed is found, by the packing or by the checksum.
  for (size_t i = 60; i < 90; ++i) {
    std::string changed = file;
    changed[i] ^= 0x10;
    EXPECT_THAT(testing::expect_error(ErrorCode::kFormat,
                                      [&] { parse_vector_set(bytes_of(changed), "a.npz"); }),
                ::testing::HasSubstr("is damaged"));
  }
}

}  // namespace
}  // namespace accrete
