#include "io/safetensors.h"
#include "io_testing.h"

namespace accrete {
namespace {

using testing::bytes_of;
using testing::expect_error;
using testing::raw;
using testing::ScratchFolder;

TEST(SafetensorsWrite, ReadsBackEqual) {
  const ScratchFolder folder;
  const std::string floats = raw(std::vector<float>{1, 2, 3, 4, 5, 6}), one = raw(int64_t{-1});
  const std::vector<TensorView> tensors = {
      {"z \"quoted\" é\n", DType::kF32, {2, 3}, bytes_of(floats)},
      {"a", DType::kF32, {0}, {}},
      {"scalar", DType::kI64, {}, bytes_of(one)}};
  write_safetensors(folder / "m.safetensors", tensors, {{"k", "v\n"}, {"é", ""}});
  const auto file = SafetensorsFile::open(folder / "m.safetensors");
  EXPECT_EQ(file.metadata(), (Metadata{{"k", "v\n"}, {"é", ""}}));
  ASSERT_EQ(file.tensors().size(), 3u);
  for (const TensorView& tensor : tensors) {
    const TensorView& read = file.at(tensor.name);
    EXPECT_EQ(read.dtype, tensor.dtype);
    EXPECT_EQ(read.shape, tensor.shape);
    EXPECT_TRUE(
        std::equal(read.bytes.begin(), read.bytes.end(), tensor.bytes.begin(), tensor.bytes.end()));
  }
}

TEST(SafetensorsWrite, AlignsEveryTensor) {
  const ScratchFolder folder;
  const std::string bytes(64, '\1');
  const auto some = [&](size_t n) { return bytes_of(bytes).subspan(0, n); };
  write_safetensors(folder / "m.safetensors",
                    std::vector<TensorView>{{"u8", DType::kU8, {3}, some(3)},
                                            {"f16", DType::kF16, {3}, some(6)},
                                            {"i64", DType::kI64, {1}, some(8)},
                                            {"f32", DType::kF32, {3}, some(12)},
                                            {"u8b", DType::kU8, {1}, some(1)}});
  const auto file = SafetensorsFile::open(folder / "m.safetensors");
  std::vector<std::string> order;
  for (const TensorView& tensor : file.tensors()) {
    order.push_back(tensor.name);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.bytes.data()) % dtype_size(tensor.dtype), 0u);
  }
  EXPECT_EQ(order, (std::vector<std::string>{"i64", "f32", "f16", "u8", "u8b"}));
}

TEST(SafetensorsWrite, SameInputGivesSameBytes) {
  const ScratchFolder folder;
  const std::string one = raw(1.0f);
  const std::vector<TensorView> tensors = {{"t", DType::kF32, {1}, bytes_of(one)}};
  write_safetensors(folder / "a", tensors, {{"k", "v"}});
  write_safetensors(folder / "b", tensors, {{"k", "v"}});
  EXPECT_EQ(read_file(folder / "a"), read_file(folder / "b"));
  const std::string header =
      R"({"__metadata__":{"k":"v"},"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  const std::string padding((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(read_file(folder / "a"), testing::safetensors_file(header + padding, one));
}

TEST(SafetensorsWrite, WritesNoTensors) {
  const ScratchFolder folder;
  write_safetensors(folder / "m", {});
  EXPECT_TRUE(SafetensorsFile::open(folder / "m").tensors().empty());
}

TEST(SafetensorsWrite, RefusesWhatItCouldNotReadBack) {
  const ScratchFolder folder;
  folder.write("m", "before");
  const std::string one = raw(1.0f);
  const auto bytes = bytes_of(one);
  const auto refuses = [&](std::vector<TensorView> tensors, const char* part,
                           Metadata metadata = {}) {
    expect_error(ErrorCode::kInvalidArgument, {part},
                 [&] { write_safetensors(folder / "m", tensors, metadata); });
  };
  refuses({{"t", DType::kF32, {1}, bytes}, {"t", DType::kF32, {1}, bytes}}, "twice");
  refuses({{"__metadata__", DType::kF32, {1}, bytes}}, "reserved");
  refuses({{"t", DType::kF32, {2}, bytes}}, "need 8");
  refuses({{"t", DType::kF64, {1}, bytes}}, "need 8");
  refuses({{"t", DType::kF32, {-1}, bytes}}, "negative");
  refuses({{"t", DType::kF32, {int64_t{1} << 62, 4}, bytes}}, "overflows");
  refuses({{"\xFF", DType::kF32, {1}, bytes}}, "UTF-8");
  refuses({{"t", DType::kF32, {1}, bytes}}, "UTF-8", {{"k", "\xFF"}});
  EXPECT_EQ(read_file(folder / "m"), "before");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"m"});
}

TEST(SafetensorsWrite, WriterTakesPieces) {
  const ScratchFolder folder;
  const std::string floats = raw(std::vector<float>{1, 2, 3});
  SafetensorsWriter writer(
      folder / "m", std::vector<TensorSpec>{{"a", DType::kF32, {1}}, {"b", DType::kF32, {2}}});
  for (size_t i = 0; i < floats.size(); i += 5)
    writer.write(bytes_of(floats).subspan(i, std::min<size_t>(5, floats.size() - i)));
  EXPECT_FALSE(std::filesystem::exists(folder / "m"));
  writer.commit();
  const auto file = SafetensorsFile::open(folder / "m");
  EXPECT_EQ(to_float32(file.at("a")), (std::vector<float>{1}));
  EXPECT_EQ(to_float32(file.at("b")), (std::vector<float>{2, 3}));
}

TEST(SafetensorsWrite, WriterRefusesTooManyAndTooFewBytes) {
  const ScratchFolder folder;
  const std::vector<TensorSpec> specs = {{"a", DType::kU8, {2}}};
  {
    SafetensorsWriter writer(folder / "m", specs);
    expect_error(ErrorCode::kInvalidArgument, {"3 bytes"}, [&] { writer.write(bytes_of("abc")); });
    writer.write(bytes_of("a"));
    expect_error(ErrorCode::kInvalidArgument, {"1 bytes"}, [&] { writer.commit(); });
  }
  EXPECT_TRUE(folder.names().empty());
}

TEST(SafetensorsWrite, WriterRefusesAnUnalignedOrder) {
  const ScratchFolder folder;
  expect_error(ErrorCode::kInvalidArgument, {"\"b\"", "aligned"}, [&] {
    SafetensorsWriter(folder / "m",
                      std::vector<TensorSpec>{{"a", DType::kU8, {1}}, {"b", DType::kF32, {1}}});
  });
}

TEST(SafetensorsWrite, SaysWhereItCouldNotWrite) {
  const ScratchFolder folder;
  expect_error(ErrorCode::kNotFound, {"missing"},
               [&] { write_safetensors(folder / "missing/m", {}); });
}

}  // namespace
}  // namespace accrete
