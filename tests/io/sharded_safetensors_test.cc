#include "base/format.h"
#include "io/safetensors.h"
#include "io_testing.h"

namespace accrete {
namespace {

using testing::bytes_of;
using testing::expect_error;
using testing::raw;
using testing::ScratchFolder;

constexpr const char* kIndex = "model.safetensors.index.json";

void write_one(const std::filesystem::path& path, const std::vector<std::string>& names) {
  const std::string one = raw(1.0f);
  std::vector<TensorView> tensors;
  for (const std::string& name : names) tensors.push_back({name, DType::kF32, {1}, bytes_of(one)});
  write_safetensors(path, tensors);
}

class ShardedSafetensorsTest : public ::testing::Test {
 protected:
  ShardedSafetensorsTest() {
    write_one(folder / "x-1.safetensors", {"b", "c"});
    write_one(folder / "x-2.safetensors", {"a"});
    folder.write(kIndex, R"({"metadata":{"total_size":12},"weight_map":)"
                         R"({"a":"x-2.safetensors","b":"x-1.safetensors","c":"x-1.safetensors"}})");
  }
  void refuses(const std::string& index, std::initializer_list<const char*> parts) {
    folder.write(kIndex, index);
    SCOPED_TRACE(index);
    expect_error(ErrorCode::kFormat, {kIndex}, [&] { ShardedSafetensors::open(folder.path()); });
    expect_error(ErrorCode::kFormat, parts, [&] { ShardedSafetensors::open(folder.path()); });
  }
  ScratchFolder folder;
};

TEST_F(ShardedSafetensorsTest, ReadsTheShards) {
  const auto model = ShardedSafetensors::open(folder.path());
  std::vector<std::string> names;
  for (const TensorView* tensor : model.tensors()) names.push_back(tensor->name);
  EXPECT_EQ(names, (std::vector<std::string>{"a", "b", "c"}));
  ASSERT_NE(model.find("c"), nullptr);
  EXPECT_EQ(model.find("d"), nullptr);
  EXPECT_EQ(model.files(), (std::vector<std::filesystem::path>{folder / "x-1.safetensors",
                                                               folder / "x-2.safetensors"}));
}

TEST_F(ShardedSafetensorsTest, PrefersTheSingleFile) {
  write_one(folder / "model.safetensors", {"only"});
  const auto model = ShardedSafetensors::open(folder.path());
  EXPECT_EQ(model.tensors().size(), 1u);
  EXPECT_EQ(model.files(), std::vector<std::filesystem::path>{folder / "model.safetensors"});
}

TEST_F(ShardedSafetensorsTest, RefusesPathsThatLeaveTheFolder) {
  for (const char* name :
       {"../x-1.safetensors", "/etc/x.safetensors", "sub/x-1.safetensors", "..\\\\x.safetensors",
        ".safetensors", "x-1.bin", "", "x\\u0000.safetensors"})
    refuses(accrete::format(R"({{"weight_map":{{"a":"{}"}}}})", name),
            {"not the name of a .safetensors"});
}

TEST_F(ShardedSafetensorsTest, RefusesDisagreement) {
  refuses(R"({"weight_map":{"a":"x-2.safetensors","b":"x-1.safetensors"}})", {"\"c\""});
  refuses(R"({"weight_map":{"a":"x-2.safetensors","d":"x-2.safetensors"}})", {"\"d\""});
  refuses(R"({"weight_map":{"a":"x-1.safetensors","b":"x-1.safetensors","c":"x-1.safetensors"}})",
          {"\"a\""});
  refuses(R"({"weight_map":{"a":"x-9.safetensors"}})", {"x-9.safetensors", "not there"});
}

TEST_F(ShardedSafetensorsTest, RefusesAnIndexOfAnotherForm) {
  for (const char* index : {"", "[]", "{}", R"({"weight_map":{}})", R"({"weight_map":[]})",
                            R"({"weight_map":{"a":1}})", R"({"weight_map":{"a":["x"]}})",
                            R"({"weight_map":{"a":"x-2.safetensors","a":"x-2.safetensors"}})"})
    refuses(index, {});
}

TEST_F(ShardedSafetensorsTest, RefusesATornShard) {
  const std::string whole = read_file(folder / "x-1.safetensors");
  folder.write("x-1.safetensors", whole.substr(0, whole.size() - 1));
  expect_error(ErrorCode::kFormat, {"x-1.safetensors"},
               [&] { ShardedSafetensors::open(folder.path()); });
}

TEST_F(ShardedSafetensorsTest, SaysThatThereAreNoWeights) {
  std::filesystem::remove(folder / kIndex);
  expect_error(ErrorCode::kNotFound, {"model.safetensors"},
               [&] { ShardedSafetensors::open(folder.path()); });
  expect_error(ErrorCode::kNotFound, {}, [&] { ShardedSafetensors::open(folder / "nothing"); });
}

}  // namespace
}  // namespace accrete
