// GGUF files that are torn, contradictory or hostile.
#include <cmath>

#include "io/gguf.h"
#include "io_testing.h"

namespace accrete {
namespace {

using testing::bytes_of;
using testing::error_of;
using testing::expect_error;
using testing::GgufBuilder;
using testing::raw;

void gguf_refuses(const std::string& file, std::initializer_list<const char*> parts,
                  ErrorCode code = ErrorCode::kFormat) {
  expect_error(code, {"model.gguf: "}, [&] { GgufFile::parse(bytes_of(file), "model.gguf"); });
  expect_error(code, parts, [&] { GgufFile::parse(bytes_of(file), "model.gguf"); });
}

std::string good_gguf() {
  return GgufBuilder()
      .u32("general.alignment", 32)
      .string("s", "text")
      .strings("ss", {"a", "bc"})
      .numbers("n", 5, std::vector<int32_t>{1, 2})
      .floats("v", {2, 2}, {1, 2, 3, 4})
      .tensor("q", 8, {32, 1}, std::string(34, '\1'))
      .build();
}

TEST(GgufRefused, EveryTruncation) {
  const std::string file = good_gguf();
  ASSERT_NO_THROW(GgufFile::parse(bytes_of(file), "model.gguf"));
  for (size_t n = 0; n < file.size(); ++n)
    expect_error(ErrorCode::kFormat, {"model.gguf"},
                 [&] { GgufFile::parse(bytes_of(file).first(n), "model.gguf"); });
}

TEST(GgufRefused, FlippedBytesNeverDoHarm) {
  const std::string file = good_gguf();
  for (size_t i = 0; i < file.size(); ++i) {
    for (const int flip : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      std::string torn = file;
      torn[i] = static_cast<char>(torn[i] ^ flip);
      error_of([&] {
        const GgufFile read = GgufFile::parse(bytes_of(torn), "model.gguf");
        for (const GgufTensor& tensor : read.tensors()) {
          std::vector<float> values(static_cast<size_t>(tensor.numel()));
          dequantize(tensor, values);
        }
      });
    }
  }
}

TEST(GgufRefused, OtherFilesAndVersions) {
  gguf_refuses("", {"ends inside the magic"});
  GgufBuilder other;
  other.magic = "GGML";
  gguf_refuses(other.build(), {"does not begin with GGUF"});
  for (const uint32_t version : {0u, 1u, 4u, 0xFFFFFFFFu}) {
    GgufBuilder builder;
    builder.version = version;
    gguf_refuses(builder.build(), {"version"}, ErrorCode::kUnsupported);
  }
  GgufBuilder swapped;
  swapped.version = 0x03000000;
  gguf_refuses(swapped.build(), {"big-endian"}, ErrorCode::kUnsupported);
}

TEST(GgufRefused, CountsThatLie) {
  for (const uint64_t count : {uint64_t{1}, uint64_t{1} << 32, ~uint64_t{0}}) {
    GgufBuilder pairs, tensors;
    pairs.pair_count = count;
    gguf_refuses(pairs.build(), {"metadata entries"});
    tensors.tensor_count = count;
    gguf_refuses(tensors.build(), {"tensors"});
  }
  // Enough bytes at first, but the metadata use them up.
  GgufBuilder used_up;
  used_up.tensor_count = 2;
  used_up.string("long", std::string(100, 'x'));
  gguf_refuses(used_up.build(), {"2 tensors"});
}

TEST(GgufRefused, LengthsThatLie) {
  for (const uint64_t length : {uint64_t{100}, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    gguf_refuses(GgufBuilder().pair("k", 8, raw(length) + "short").build(), {"a string claims"});
    for (const uint32_t type : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 10u, 11u, 12u})
      gguf_refuses(GgufBuilder().pair("k", 9, raw(type) + raw(length) + "short").build(),
                   {"array's length"});
  }
}

TEST(GgufRefused, ValuesThatAreNotTheirType) {
  gguf_refuses(GgufBuilder().pair("k", 13, raw(uint64_t{0})).build(), {"unknown type 13"});
  gguf_refuses(GgufBuilder().pair("k", 9, raw(uint32_t{13}) + raw(uint64_t{0})).build(),
               {"unknown type 13"});
  gguf_refuses(GgufBuilder().pair("k", 9, raw(uint32_t{9}) + raw(uint64_t{0})).build(),
               {"array of arrays"});
  gguf_refuses(GgufBuilder().pair("k", 7, raw(uint8_t{2})).build(), {"not a boolean"});
  gguf_refuses(GgufBuilder().numbers("k", 7, std::vector<uint8_t>{0, 3}).build(),
               {"not a boolean"});
  gguf_refuses(GgufBuilder().numbers("k", 10, std::vector<uint64_t>{uint64_t{1} << 63}).build(),
               {"2^63"});
}

TEST(GgufRefused, Names) {
  gguf_refuses(GgufBuilder().u32("k", 1).u32("k", 2).build(), {"\"k\"", "twice"});
  gguf_refuses(GgufBuilder().u32("", 1).build(), {"a key is empty"});
  gguf_refuses(GgufBuilder().u32("\xFF", 1).build(), {"UTF-8"});
  gguf_refuses(GgufBuilder().floats("t", {1}, {1}).floats("t", {1}, {1}).build(),
               {"\"t\"", "twice"});
  gguf_refuses(GgufBuilder().floats("", {1}, {1}).build(), {"name is empty"});
  gguf_refuses(GgufBuilder().floats("\xC0", {1}, {1}).build(), {"UTF-8"});
}

TEST(GgufRefused, Alignments) {
  for (const uint32_t alignment : {0u, 3u, 24u, 1u << 31})
    gguf_refuses(GgufBuilder().u32("general.alignment", alignment).build(), {"power of two"});
  gguf_refuses(GgufBuilder().string("general.alignment", "32").build(), {"not an integer"});
}

TEST(GgufRefused, Shapes) {
  const std::string none;
  gguf_refuses(GgufBuilder().tensor("a scalar", 0, {}, raw(1.0f)).build(), {"0 dimensions"});
  gguf_refuses(GgufBuilder().tensor("t", 0, {1, 1, 1, 1, 1}, raw(1.0f)).build(), {"5 dimensions"});
  gguf_refuses(GgufBuilder().tensor("t", 0, {0}, none).build(), {"empty or overflows"});
  gguf_refuses(GgufBuilder().tensor("t", 0, {4, 0}, none).build(), {"empty or overflows"});
  gguf_refuses(GgufBuilder().tensor("t", 0, {uint64_t{1} << 63}, none).build(), {"overflows"});
  gguf_refuses(GgufBuilder().tensor("t", 0, {uint64_t{1} << 32, uint64_t{1} << 32}, none).build(),
               {"overflows"});
  gguf_refuses(GgufBuilder().tensor("t", 0, {uint64_t{1} << 62}, none).build(), {});
  gguf_refuses(GgufBuilder().tensor("t", 12, {uint64_t{1} << 62}, none).build(), {});
  gguf_refuses(GgufBuilder().tensor("t", 8, {33}, std::string(34, 'x')).build(),
               {"multiple of 32"});
  gguf_refuses(GgufBuilder().tensor("t", 12, {32, 8}, std::string(144, 'x')).build(),
               {"multiple of 256"});
}

TEST(GgufRefused, TypesThatAreNotRead) {
  for (const uint32_t type : {4u, 9u, 10u, 16u, 24u, 31u, 39u, 0xFFFFFFFFu})
    gguf_refuses(GgufBuilder().tensor("t", type, {256}, std::string(300, 'x')).build(),
                 {"\"t\"", std::to_string(type).c_str()}, ErrorCode::kUnsupported);
}

TEST(GgufRefused, OffsetsThatOverlapOrLeaveHoles) {
  const std::string bytes = raw(std::vector<float>(8, 1));
  const auto two = [&](uint64_t first, uint64_t second) {
    return GgufBuilder()
        .tensor("a", 0, {8}, bytes, first)
        .tensor("b", 0, {8}, bytes, second)
        .build();
  };
  EXPECT_NO_THROW({
    const std::string file = two(0, 32);
    GgufFile::parse(bytes_of(file), "model.gguf");
  });
  gguf_refuses(two(0, 0), {"overlap"});
  gguf_refuses(two(0, 16), {"overlap"});
  gguf_refuses(two(0, 64), {"hole"});
  gguf_refuses(two(32, 64), {"hole"});
  gguf_refuses(two(0, 33), {"hole"});
  gguf_refuses(two(0, ~uint64_t{0} - 31), {"hole"});
}

TEST(GgufRefused, TrailingBytes) {
  const std::string file = good_gguf();
  const std::string padded = file + std::string((32 - file.size() % 32) % 32, '\0');
  EXPECT_NO_THROW(GgufFile::parse(bytes_of(padded), "model.gguf"));
  gguf_refuses(padded + "x", {"follow the last tensor"});
  gguf_refuses(file + "x", {"follow the last tensor"});
  gguf_refuses(GgufBuilder().u32("k", 1).build() + "x", {"follow the last entry"});
}

TEST(GgufRefused, MessagesAreShortAndPrintable) {
  const std::string name = "\x1B[2J" + std::string(100000, 'x');
  const std::string file = GgufBuilder().floats(name, {1}, {1}).floats(name, {1}, {1}).build();
  const auto error = error_of([&] { GgufFile::parse(bytes_of(file), "model.gguf"); });
  ASSERT_TRUE(error);
  EXPECT_LT(std::string(error->what()).size(), 400u);
  EXPECT_EQ(std::string(error->what()).find('\x1B'), std::string::npos);
}

}  // namespace
}  // namespace accrete
