#include "io/staged_folder.h"

#include "io_testing.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::ScratchFolder;

TEST(StagedFolder, AppearsOnlyWhenCommitted) {
  const ScratchFolder scratch;
  StagedFolder folder(scratch / "out");
  std::ofstream(folder.path() / "a") << "1";
  EXPECT_FALSE(fs::exists(scratch / "out"));
  folder.commit();
  EXPECT_EQ(read_file(scratch / "out" / "a"), "1");
  EXPECT_EQ(scratch.names(), std::vector<std::string>{"out"});
}

TEST(StagedFolder, LeavesNothingBehindUncommitted) {
  const ScratchFolder scratch;
  {
    StagedFolder folder(scratch / "out");
    std::ofstream(folder.path() / "a") << "1";
  }
  EXPECT_TRUE(scratch.names().empty());
}

TEST(StagedFolder, TakesAnEmptyFolderAndATrailingSlash) {
  const ScratchFolder scratch;
  fs::create_directory(scratch / "out");
  StagedFolder folder(scratch / "out/");
  folder.commit();
  EXPECT_EQ(scratch.names(), std::vector<std::string>{"out"});
}

TEST(StagedFolder, MakesTheFoldersAbove) {
  const ScratchFolder scratch;
  StagedFolder(scratch / "a/b/out").commit();
  EXPECT_TRUE(fs::is_directory(scratch / "a/b/out"));
}

TEST(StagedFolder, RefusesWhatIsThere) {
  const ScratchFolder scratch;
  scratch.write("file", "x");
  fs::create_directories(scratch / "full/sub");
  fs::create_directory_symlink(scratch / "nowhere", scratch / "link");
  for (const char* name : {"file", "full", "link"})
    expect_error(ErrorCode::kInvalidArgument, {name, "already there"},
                 [&] { StagedFolder folder(scratch / name); });
  EXPECT_EQ(scratch.names(), (std::vector<std::string>{"file", "full", "link"}));
}

// Someone puts content there in the meantime: theirs stays.
TEST(StagedFolder, DoesNotReplaceWhatCameInTheMeantime) {
  const ScratchFolder scratch;
  {
    StagedFolder folder(scratch / "out");
    fs::create_directories(scratch / "out");
    scratch.write("out/theirs", "x");
    expect_error(ErrorCode::kIo, {"out"}, [&] { folder.commit(); });
  }
  EXPECT_EQ(ScratchFolder::names_in(scratch / "out"), std::vector<std::string>{"theirs"});
  EXPECT_EQ(scratch.names(), std::vector<std::string>{"out"});
}

}  // namespace
}  // namespace accrete
