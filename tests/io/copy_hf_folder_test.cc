#include "io/hf_folder.h"
#include "io_testing.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::bytes_of;
using testing::expect_error;
using testing::raw;
using testing::ScratchFolder;

class CopyHfFolder : public ::testing::Test {
 protected:
  CopyHfFolder() {
    fs::create_directories(from() / "accrete");
    fs::create_directories(from() / ".git");
    for (const char* name : {"config.json", "generation_config.json", "tokenizer.json",
                             "tokenizer_config.json", "special_tokens_map.json", "README.md",
                             "LICENSE", "LICENSE.txt", "NOTICE", "chat_template.jinja"})
      scratch.write(std::string("from/") + name, name);
    for (const char* name : {"pytorch_model.bin", "modeling_x.py", "accrete/ledger.db",
                             ".git/config", "config.json.tmp-abc123", "other.safetensors"})
      scratch.write(std::string("from/") + name, "no");
    write_weights("model.safetensors");
  }
  fs::path from() const { return scratch / "from"; }
  void write_weights(const char* name) {
    const std::string one = raw(1.0f);
    write_safetensors(from() / name,
                      std::vector<TensorView>{{"t", DType::kF32, {1}, bytes_of(one)}});
  }
  void refuses(ErrorCode code, std::initializer_list<const char*> parts) {
    expect_error(code, parts, [&] { copy_hf_folder(from(), scratch / "to"); });
    EXPECT_EQ(scratch.names(), std::vector<std::string>{"from"});
  }
  ScratchFolder scratch;
};

TEST_F(CopyHfFolder, CopiesWhatMakesUpAModel) {
  copy_hf_folder(from(), scratch / "to");
  EXPECT_EQ(ScratchFolder::names_in(scratch / "to"),
            (std::vector<std::string>{
                "LICENSE", "LICENSE.txt", "NOTICE", "README.md", "chat_template.jinja",
                "config.json", "generation_config.json", "model.safetensors",
                "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"}));
  EXPECT_EQ(read_file(scratch / "to" / "LICENSE"), "LICENSE");
}

TEST_F(CopyHfFolder, LinksWeightsAndCopiesTheRest) {
  copy_hf_folder(from(), scratch / "to");
  EXPECT_TRUE(fs::equivalent(from() / "model.safetensors", scratch / "to" / "model.safetensors"));
  EXPECT_FALSE(fs::equivalent(from() / "config.json", scratch / "to" / "config.json"));
}

TEST_F(CopyHfFolder, CopiesShardsAndTheirIndex) {
  fs::remove(from() / "model.safetensors");
  write_weights("part-1.safetensors");
  scratch.write("from/model.safetensors.index.json",
                R"({"weight_map":{"t":"part-1.safetensors"}})");
  copy_hf_folder(from(), scratch / "to");
  EXPECT_EQ(ShardedSafetensors::open(scratch / "to").tensors().size(), 1u);
  EXPECT_FALSE(fs::exists(scratch / "to" / "other.safetensors"));
}

// The hub's cache: files are links to blobs elsewhere.
TEST_F(CopyHfFolder, FollowsLinksOfTheHubsCache) {
  fs::create_directories(scratch / "cache");
  for (const auto& entry : fs::directory_iterator(from()))
    if (entry.is_regular_file())
      fs::create_symlink(entry.path(), scratch / "cache" / entry.path().filename());
  copy_hf_folder(scratch / "cache", scratch / "to");
  EXPECT_FALSE(fs::is_symlink(scratch / "to" / "model.safetensors"));
  EXPECT_FALSE(fs::is_symlink(scratch / "to" / "config.json"));
  EXPECT_EQ(read_file(scratch / "to" / "config.json"), "config.json");
}

TEST_F(CopyHfFolder, RefusesWhatIsNoModel) {
  fs::remove(from() / "config.json");
  refuses(ErrorCode::kNotFound, {"config.json"});
  expect_error(ErrorCode::kNotFound, {"nothing"},
               [&] { copy_hf_folder(scratch / "nothing", scratch / "to"); });
}

TEST_F(CopyHfFolder, RefusesAModelWithoutWeights) {
  fs::remove(from() / "model.safetensors");
  refuses(ErrorCode::kNotFound, {"model.safetensors"});
}

TEST_F(CopyHfFolder, RefusesTornWeights) {
  scratch.write("from/model.safetensors", "torn");
  refuses(ErrorCode::kFormat, {"model.safetensors"});
}

TEST_F(CopyHfFolder, RefusesATargetThatHasContent) {
  expect_error(ErrorCode::kInvalidArgument, {"already there"},
               [&] { copy_hf_folder(from(), from()); });
}

TEST_F(CopyHfFolder, StopsWhenAsked) {
  Reporter reporter;
  int polls = 0;
  reporter.cancelled = [&] { return ++polls > 3; };
  expect_error(ErrorCode::kInterrupted, {},
               [&] { copy_hf_folder(from(), scratch / "to", reporter); });
  EXPECT_EQ(scratch.names(), std::vector<std::string>{"from"});
}

}  // namespace
}  // namespace accrete
