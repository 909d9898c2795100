#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <thread>

#include "base/rng.h"
#include "testing.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::names_under;
using testing::run_in_child;
using testing::TemporaryFolder;

std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(ReadFile, GivesTheBytes) {
  const TemporaryFolder folder;
  std::string content(300000, '\0');
  Rng rng(1);
  for (char& c : content) c = static_cast<char>(rng.next_u32());
  write_file_atomically(folder / "a", content);
  EXPECT_EQ(read_file(folder / "a"), content);
  EXPECT_EQ(text_of(MappedFile(folder / "a")), content);
  write_file_atomically(folder / "a", "");
  EXPECT_EQ(read_file(folder / "a"), "");
  EXPECT_TRUE(MappedFile(folder / "a").bytes().empty());
}

TEST(ReadFile, ReadsFilesThatHideTheirSize) {
  EXPECT_NE(read_file("/proc/self/status").find("Pid:"), std::string::npos);
}

TEST(ReadFile, NamesWhatIsWrong) {
  const TemporaryFolder folder;
  const auto both = [&](ErrorCode code, const fs::path& path) {
    const std::string message = expect_error(code, [&] { read_file(path); });
    EXPECT_EQ(expect_error(code, [&] { MappedFile file(path); }), message);
    EXPECT_NE(message.find(path.string()), std::string::npos) << message;
  };
  both(ErrorCode::kNotFound, folder / "missing");
  write_file_atomically(folder / "file", "x");
  both(ErrorCode::kNotFound, folder / "file" / "below");
  both(ErrorCode::kInvalidArgument, folder.path());
  both(ErrorCode::kInvalidArgument, "/dev/null");
  // Must not wait for a writer.
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  both(ErrorCode::kInvalidArgument, folder / "pipe");
}

TEST(MappedFile, MovesAndOutlivesItsName) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "first");
  write_file_atomically(folder / "b", "second");
  MappedFile a(folder / "a");
  MappedFile b(folder / "b");
  write_file_atomically(folder / "a", "other");  // a new file; the map keeps the old one
  MappedFile moved(std::move(a));
  EXPECT_EQ(text_of(moved), "first");
  moved = std::move(b);
  EXPECT_EQ(text_of(moved), "second");
  EXPECT_EQ(moved.path(), folder / "b");
}

TEST(AtomicFile, ShowsNothingBeforeCommit) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("half");
    EXPECT_EQ(read_file(folder / "a"), "old");
    EXPECT_EQ(names_under(folder.path()).size(), 2U);
  }
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_EQ(names_under(folder.path()), std::set<std::string>{"a"});
  AtomicFile file(folder / "a");
  file.write("new ");
  file.write("content");
  file.commit();
  EXPECT_EQ(read_file(folder / "a"), "new content");
  EXPECT_EQ(names_under(folder.path()), std::set<std::string>{"a"});
}

TEST(AtomicFile, TwoWritersDoNotMix) {
  const TemporaryFolder folder;
  AtomicFile one(folder / "a");
  AtomicFile two(folder / "a");
  one.write("one");
  two.write("two");
  two.commit();
  one.commit();
  EXPECT_EQ(read_file(folder / "a"), "one");
}

TEST(AtomicFile, KeepsPermissions) {
  const TemporaryFolder folder;
  const mode_t mask = ::umask(027);
  write_file_atomically(folder / "a", "x");
  ::umask(mask);
  const auto mode = [&] {
    struct stat st{};
    ::stat((folder / "a").c_str(), &st);
    return st.st_mode & 07777;
  };
  EXPECT_EQ(mode(), 0640U);
  ::chmod((folder / "a").c_str(), 0600);
  write_file_atomically(folder / "a", "y");
  EXPECT_EQ(mode(), 0600U);
}

TEST(AtomicFile, NamesWhatIsWrong) {
  const TemporaryFolder folder;
  expect_error(ErrorCode::kNotFound, [&] { AtomicFile file(folder / "no" / "a"); });
  fs::create_directory(folder / "taken");
  expect_error(ErrorCode::kIo, [&] { write_file_atomically(folder / "taken", "x"); });
  EXPECT_EQ(names_under(folder.path()), std::set<std::string>{"taken"});
}

TEST(AtomicFile, FullDiskLeavesTheOldFile) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  EXPECT_EQ(0, run_in_child([&] {
              testing::limit_file_size(10000);
              const std::string message = expect_error(ErrorCode::kIo, [&] {
                write_file_atomically(folder / "a", std::string(20000, 'x'));
              });
              return message.find((folder / "a").string()) == std::string::npos ? 1 : 0;
            }));
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_EQ(names_under(folder.path()), std::set<std::string>{"a"});
}

TEST(AtomicFile, KilledAtAnyTimeLeavesAWholeFile) {
  const TemporaryFolder folder;
  const auto content = [](int i) { return std::string(50000, static_cast<char>('a' + i % 26)); };
  write_file_atomically(folder / "a", content(0));
  Rng rng(6);
  for (int round = 0; round < 50; ++round) {
    const pid_t child = testing::start_child([&] {
      for (int i = 0;; ++i) write_file_atomically(folder / "a", content(i));
      return 0;
    });
    std::this_thread::sleep_for(std::chrono::microseconds(rng.below(4000)));
    ::kill(child, SIGKILL);
    testing::wait_for(child);
    const std::string now = read_file(folder / "a");
    ASSERT_EQ(now.size(), 50000U);
    ASSERT_EQ(now.find_first_not_of(now[0]), std::string::npos);
    for (const std::string& name : names_under(folder.path()))
      if (name != "a") {
        EXPECT_TRUE(is_temporary_name(name)) << name;
        fs::remove(folder / name);
      }
  }
}

TEST(Temporaries, AreRecognised) {
  const TemporaryFolder folder;
  const fs::path made = create_temporary_beside(folder / "a.b");
  EXPECT_TRUE(fs::exists(made));
  EXPECT_TRUE(made.filename().string().starts_with("a.b.tmp-"));
  EXPECT_TRUE(is_temporary_name(made.filename().string()));
  EXPECT_NE(create_temporary_beside(folder / "a.b"), made);
  for (const char* name : {"", "a", ".tmp-", "a.tmp-12345", "a.tmp-12345Z", "a.tmp_123456",
                           "a.tmp-123456.x", "123456"})
    EXPECT_FALSE(is_temporary_name(name)) << name;
}

TEST(RenameDurably, RenamesOrSaysWhyNot) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "a");
  write_file_atomically(folder / "b", "b");
  rename_durably(folder / "a", folder / "b");
  EXPECT_EQ(read_file(folder / "b"), "a");
  expect_error(ErrorCode::kNotFound, [&] { rename_durably(folder / "a", folder / "b"); });
  EXPECT_EQ(read_file(folder / "b"), "a");
}

}  // namespace
}  // namespace accrete
