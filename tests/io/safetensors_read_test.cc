#include <nlohmann/json.hpp>

#include "base/format.h"
#include "io/safetensors.h"
#include "io_testing.h"

namespace accrete {
namespace {

using testing::bytes_of;
using testing::expect_error;
using testing::raw;
using testing::safetensors_file;
using testing::ScratchFolder;

std::string two_tensors() {
  return safetensors_file(R"({"__metadata__":{"format":"pt","note":"é"},)"
                          R"("b":{"dtype":"F32","shape":[2,2],"data_offsets":[3,19]},)"
                          R"("a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}   )",
                          std::string("xyz").append(raw(std::vector<float>{1, 2, 3, 4})));
}

TEST(SafetensorsRead, GivesTensorsInTheOrderOfTheirBytes) {
  const ScratchFolder folder;
  const auto file = SafetensorsFile::open(folder.write("m.safetensors", two_tensors()));
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].name, "a");
  EXPECT_EQ(file.tensors()[0].dtype, DType::kU8);
  EXPECT_EQ(file.tensors()[1].shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(to_float32(file.at("b")), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(file.metadata(), (Metadata{{"format", "pt"}, {"note", "é"}}));
}

TEST(SafetensorsRead, FindsByName) {
  const ScratchFolder folder;
  const auto file = SafetensorsFile::open(folder.write("m.safetensors", two_tensors()));
  ASSERT_NE(file.find("a"), nullptr);
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_EQ(file.find(""), nullptr);
  expect_error(ErrorCode::kFormat, {"m.safetensors", "\"c\"", "\"a\"", "\"b\""},
               [&] { file.at("c"); });
}

TEST(SafetensorsRead, ViewsSurviveAMove) {
  const ScratchFolder folder;
  auto file = SafetensorsFile::open(folder.write("m.safetensors", two_tensors()));
  const std::byte* before = file.at("b").bytes.data();
  const SafetensorsFile moved = std::move(file);
  EXPECT_EQ(moved.at("b").bytes.data(), before);
  EXPECT_EQ(to_float32(moved.at("b")), (std::vector<float>{1, 2, 3, 4}));
}

TEST(SafetensorsRead, ReadsScalarsAndEmptyTensors) {
  std::vector<TensorView> tensors;
  Metadata metadata;
  const std::string file =
      safetensors_file(R"({"e":{"dtype":"F32","shape":[0,5],"data_offsets":[8,8]},)"
                       R"("s":{"dtype":"I64","shape":[],"data_offsets":[0,8]}})",
                       raw(int64_t{7}));
  parse_safetensors(bytes_of(file), "test", tensors, metadata);
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_TRUE(tensors[0].shape.empty());
  EXPECT_TRUE(tensors[1].bytes.empty());
}

TEST(SafetensorsRead, ReadsAFileWithoutTensors) {
  std::vector<TensorView> tensors(1);
  Metadata metadata{{"old", "x"}};
  const std::string file = safetensors_file("{}");
  parse_safetensors(bytes_of(file), "test", tensors, metadata);
  EXPECT_TRUE(tensors.empty());
  EXPECT_TRUE(metadata.empty());
}

TEST(SafetensorsRead, ReadsEveryType) {
  for (const auto& [name, size] : std::map<std::string, size_t>{{"F64", 8},
                                                                {"F32", 4},
                                                                {"F16", 2},
                                                                {"BF16", 2},
                                                                {"I64", 8},
                                                                {"I32", 4},
                                                                {"I16", 2},
                                                                {"I8", 1},
                                                                {"U8", 1},
                                                                {"BOOL", 1}}) {
    std::vector<TensorView> tensors;
    Metadata metadata;
    const std::string file = safetensors_file(
        accrete::format(R"({{"t":{{"dtype":"{}","shape":[3],"data_offsets":[0,{}]}}}})", name,
                        3 * size),
        std::string(3 * size, '\1'));
    parse_safetensors(bytes_of(file), "test", tensors, metadata);
    EXPECT_EQ(dtype_name(tensors.at(0).dtype), name);
    EXPECT_EQ(dtype_size(tensors.at(0).dtype), size);
  }
}

TEST(SafetensorsRead, SaysWhatIsMissing) {
  const ScratchFolder folder;
  expect_error(ErrorCode::kNotFound, {"none.safetensors"},
               [&] { SafetensorsFile::open(folder / "none.safetensors"); });
  expect_error(ErrorCode::kInvalidArgument, {}, [&] { SafetensorsFile::open(folder.path()); });
}

}  // namespace
}  // namespace accrete
