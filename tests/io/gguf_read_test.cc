#include "io/gguf.h"
#include "io_testing.h"

namespace accrete {
namespace {

using testing::bytes_of;
using testing::expect_error;
using testing::GgufBuilder;
using testing::raw;
using testing::ScratchFolder;

TEST(GgufRead, ReadsTensorsWithTheirShapeReversed) {
  const ScratchFolder folder;
  GgufBuilder builder;
  builder.floats("m", {3, 2}, {1, 2, 3, 4, 5, 6}).floats("v", {2}, {7, 8});
  const auto file = GgufFile::open(folder.write("a.gguf", builder.build()));
  EXPECT_EQ(file.version(), 3u);
  ASSERT_EQ(file.tensors().size(), 2u);
  const GgufTensor* m = file.find("m");
  ASSERT_NE(m, nullptr);
  EXPECT_EQ(m->shape, (std::vector<int64_t>{2, 3}));
  std::vector<float> values(6);
  dequantize(*m, values);
  EXPECT_EQ(values, (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(file.find("w"), nullptr);
}

TEST(GgufRead, ViewsSurviveAMove) {
  const ScratchFolder folder;
  auto file =
      GgufFile::open(folder.write("a.gguf", GgufBuilder().floats("v", {2}, {7, 8}).build()));
  const GgufFile moved = std::move(file);
  std::vector<float> values(2);
  dequantize(*moved.find("v"), values);
  EXPECT_EQ(values, (std::vector<float>{7, 8}));
}

TEST(GgufRead, ReadsVersion2) {
  GgufBuilder builder;
  builder.version = 2;
  const std::string bytes = builder.u32("k", 5).build();
  const auto file = GgufFile::parse(bytes_of(bytes), "test");
  EXPECT_EQ(file.version(), 2u);
  EXPECT_EQ(file.get_int("k"), 5);
}

TEST(GgufRead, HonoursTheAlignment) {
  for (const uint64_t alignment : {1, 8, 64, 4096}) {
    GgufBuilder builder;
    builder.alignment = alignment;
    builder.u32("general.alignment", static_cast<uint32_t>(alignment))
        .floats("a", {1}, {1})
        .floats("b", {3}, {2, 3, 4});
    const std::string bytes = builder.build();
    const auto file = GgufFile::parse(bytes_of(bytes), "test");
    std::vector<float> values(3);
    dequantize(*file.find("b"), values);
    EXPECT_EQ(values, (std::vector<float>{2, 3, 4})) << alignment;
  }
}

// Writers differ: some pad after the last tensor, some do not.
TEST(GgufRead, AllowsPaddingAfterTheLastTensor) {
  std::string bytes = GgufBuilder().floats("a", {3}, {1, 2, 3}).build();
  EXPECT_NO_THROW(GgufFile::parse(bytes_of(bytes), "test"));
  bytes.resize((bytes.size() + 31) / 32 * 32, '\0');
  EXPECT_NO_THROW(GgufFile::parse(bytes_of(bytes), "test"));
}

TEST(GgufRead, ReadsTensorsInAnyOrderOfTheirOffsets) {
  GgufBuilder builder;
  builder.tensor("second", 0, {8}, raw(std::vector<float>(8, 1)), 32)
      .tensor("first", 0, {8}, raw(std::vector<float>(8, 2)), 0);
  const std::string bytes = builder.build();
  const auto file = GgufFile::parse(bytes_of(bytes), "test");
  EXPECT_EQ(file.tensors()[0].name, "second");
  std::vector<float> values(8);
  dequantize(*file.find("first"), values);
  EXPECT_EQ(values[0], 1);
}

TEST(GgufRead, ReadsAVocabularyWithoutTensors) {
  const std::string bytes = GgufBuilder().strings("t", {"a", "", "é"}).build();
  const auto file = GgufFile::parse(bytes_of(bytes), "test");
  EXPECT_TRUE(file.tensors().empty());
  EXPECT_EQ(file.get_strings("t"), (std::vector<std::string>{"a", "", "é"}));
}

TEST(GgufRead, SaysWhatIsMissing) {
  const ScratchFolder folder;
  expect_error(ErrorCode::kNotFound, {"none.gguf"}, [&] { GgufFile::open(folder / "none.gguf"); });
  expect_error(ErrorCode::kFormat, {"empty.gguf"},
               [&] { GgufFile::open(folder.write("empty.gguf", "")); });
}

}  // namespace
}  // namespace accrete
