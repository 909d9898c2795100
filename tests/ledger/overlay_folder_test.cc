// Overlays on disk: names, what belongs to what, making and erasing.
#include "ledger/overlay_folder.h"

#include <gmock/gmock.h>

#include <fstream>
#include <iterator>

#include "base/file.h"
#include "ledger_testing.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using testing::expect_error;
using ::testing::HasSubstr;

class OverlayFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    (void)Ledger::create(model());
    write_memory("b", "r");
  }
  fs::path model() const { return folder_.path(); }
  fs::path overlays() const { return model() / "accrete" / "overlays"; }
  void write_memory(const std::string& base, const std::string& reader,
                    const std::string& kind = "questions") const {
    write_file_atomically(model() / "accrete" / "memory.json",
                          R"({"version": 2, "block": 12, "kind": ")" + kind +
                              R"(", "base_digest": ")" + base + R"(", "reader_digest": ")" +
                              reader + "\"}");
  }
  // Whether a text stands anywhere below the model's folder.
  bool on_disk(const std::string& text) const {
    for (const auto& entry : fs::recursive_directory_iterator(model())) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(in), {}};
      if (bytes.find(text) != std::string::npos) return true;
    }
    return false;
  }

  testing::TemporaryFolder folder_;
};

TEST_F(OverlayFolderTest, NamesHaveOneSpellingAndAreNoPaths) {
  for (const char* good : {"a", "0", "a.b", "a..b", "desk-2", "a_b", "a."})
    EXPECT_TRUE(is_overlay_name(good)) << good;
  EXPECT_TRUE(is_overlay_name(std::string(64, 'a')));
  for (const char* bad : {"", ".", "..", ".a", "-a", "_a", "A", "aB", "a/b", "../a", "a\\b", "a b",
                          "a\n", "\xc3\xa4", "a:b", "a*"}) {
    EXPECT_FALSE(is_overlay_name(bad)) << bad;
    expect_error(ErrorCode::kInvalidArgument, [&] { create_overlay(model(), bad); });
    expect_error(ErrorCode::kInvalidArgument, [&] { find_overlay(model(), bad); });
    expect_error(ErrorCode::kInvalidArgument, [&] { erase_overlay(model(), bad); });
  }
  EXPECT_FALSE(is_overlay_name(std::string(65, 'a')));
  EXPECT_FALSE(is_overlay_name(std::string("a\0b", 3)));
  EXPECT_FALSE(fs::exists(overlays()));
}

TEST_F(OverlayFolderTest, ALedgerOfItsOwnDirectlyInIt) {
  EXPECT_TRUE(overlay_names(model()).empty());
  create_overlay(model(), "a");
  create_overlay(model(), "a.b");
  EXPECT_THAT(overlay_names(model()), ElementsAre("a", "a.b"));
  const fs::path a = find_overlay(model(), "a"), twin = find_overlay(model(), "a.b");
  EXPECT_TRUE(fs::exists(a / "ledger.db"));
  EXPECT_TRUE(fs::is_directory(a / "updates"));
  EXPECT_EQ(ledger_folder(a), a);
  EXPECT_EQ(ledger_folder(model()), model() / "accrete");
  const auto record = read_overlay(a);
  EXPECT_EQ(record.base_digest, "b");
  EXPECT_EQ(record.reader_digest, "r");
  EXPECT_EQ(record.created.size(), 20U);

  const std::string id = Ledger::open(a, Ledger::Mode::kWrite)
                             .commit(testing::make_update(5), testing::make_record(5))
                             .id;
  EXPECT_TRUE(fs::exists(a / "updates" / update_file_name(id)));
  EXPECT_EQ(Ledger::open(a, Ledger::Mode::kRead).updates().size(), 1U);
  EXPECT_TRUE(Ledger::open(twin, Ledger::Mode::kRead).updates().empty());
  EXPECT_TRUE(Ledger::open(model(), Ledger::Mode::kRead).updates().empty());
  // One writer each, and none of the others waits.
  const Ledger writing = Ledger::open(a, Ledger::Mode::kWrite);
  expect_error(ErrorCode::kConflict, [&] { Ledger::open(a, Ledger::Mode::kWrite); });
  EXPECT_NO_THROW(Ledger::open(twin, Ledger::Mode::kWrite));
  EXPECT_NO_THROW(Ledger::open(model(), Ledger::Mode::kWrite));
}

TEST_F(OverlayFolderTest, OneThatIsAbsentOrForeignIsRefusedWithWhatToDo) {
  EXPECT_THAT(expect_error(ErrorCode::kNotFound, [&] { find_overlay(model(), "desk"); }),
              HasSubstr("accrete overlay create"));
  create_overlay(model(), "desk");
  expect_error(ErrorCode::kConflict, [&] { create_overlay(model(), "desk"); });
  write_memory("other", "r");
  EXPECT_THAT(expect_error(ErrorCode::kConflict, [&] { find_overlay(model(), "desk"); }),
              HasSubstr("another base"));
  write_memory("b", "other");
  EXPECT_THAT(expect_error(ErrorCode::kConflict, [&] { find_overlay(model(), "desk"); }),
              HasSubstr("another reader"));
  write_memory("b", "r", "pretrained");
  EXPECT_THAT(expect_error(ErrorCode::kUnsupported, [&] { find_overlay(model(), "desk"); }),
              HasSubstr("no overlays"));
  expect_error(ErrorCode::kUnsupported, [&] { create_overlay(model(), "new"); });
  write_memory("b", "r");
  for (const char* text : {"", "{}", R"({"version": 2})", R"({"version": 1, "base_digest": 3})"}) {
    write_file_atomically(overlays() / "desk" / "overlay.json", text);
    expect_error(ErrorCode::kFormat, [&] { find_overlay(model(), "desk"); });
  }
  EXPECT_EQ(overlay_names(model()).size(), 1U);
  erase_overlay(model(), "desk");  // damaged or not
  EXPECT_TRUE(overlay_names(model()).empty());
  testing::TemporaryFolder plain;
  expect_error(ErrorCode::kNotFound, [&] { create_overlay(plain.path(), "desk"); });
}

TEST_F(OverlayFolderTest, ErasingLeavesNoByte) {
  create_overlay(model(), "a");
  create_overlay(model(), "a.b");
  const fs::path a = find_overlay(model(), "a");
  Update update = testing::make_update(5);
  update.taught.items.front().answers = {"Xylophonequartz"};
  UpdateRecord record = testing::make_record(5);
  record.source = "quartzxylophone.jsonl";
  Ledger::open(a, Ledger::Mode::kWrite).commit(update, record);
  ASSERT_TRUE(on_disk("Xylophonequartz"));
  ASSERT_TRUE(on_disk("quartzxylophone"));
  {
    const Ledger busy = Ledger::open(a, Ledger::Mode::kWrite);
    expect_error(ErrorCode::kConflict, [&] { erase_overlay(model(), "a"); });
    EXPECT_TRUE(on_disk("Xylophonequartz"));
  }
  const ErasedOverlay erased = erase_overlay(model(), "a");
  EXPECT_GE(erased.files, 4);
  EXPECT_GT(erased.bytes, 0);
  EXPECT_FALSE(on_disk("Xylophonequartz"));
  EXPECT_FALSE(on_disk("quartzxylophone"));
  EXPECT_THAT(overlay_names(model()), ElementsAre("a.b"));
  EXPECT_NO_THROW(Ledger::open(find_overlay(model(), "a.b"), Ledger::Mode::kRead));
  expect_error(ErrorCode::kNotFound, [&] { erase_overlay(model(), "a"); });
  create_overlay(model(), "a");
  EXPECT_TRUE(Ledger::open(find_overlay(model(), "a"), Ledger::Mode::kRead).updates().empty());
}

// What a crash left of one is none, and goes with the next that is made or erased.
TEST_F(OverlayFolderTest, LeftoversOfACrashAreRemoved) {
  create_overlay(model(), "b");
  fs::create_directories(overlays() / "half" / "updates");
  write_file_atomically(overlays() / "half" / "updates" / "x", "text of somebody");
  EXPECT_THAT(overlay_names(model()), ElementsAre("b"));
  expect_error(ErrorCode::kNotFound, [&] { find_overlay(model(), "half"); });
  create_overlay(model(), "c");
  EXPECT_FALSE(fs::exists(overlays() / "half"));
  fs::create_directories(overlays() / "d" / "updates");
  create_overlay(model(), "d");
  EXPECT_TRUE(fs::exists(overlays() / "d" / "ledger.db"));
  EXPECT_THAT(overlay_names(model()), ElementsAre("b", "c", "d"));
}

}  // namespace
}  // namespace accrete
