// Merging files of facts: the same union in every order, clashes before anything changes, and files
// that are refused.
#include <gmock/gmock.h>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"
#include "base/file.h"
#include "base/format.h"
#include "ledger/ledger.h"
#include "model/language_model.h"
#include "workspace/overlays.h"
#include "workspace/workspace.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using ::testing::HasSubstr;

class MergeTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TemporaryFolder();
    testing::write_tiny_fact_model(*folder_ / "model", 4);
    for (const char* name : {"a", "b", "c"}) Overlays(*folder_ / "model").create(name);
    teach("a", "What is the first?", "One.");
    teach("a", "What is the second?", "Two.");
    teach("b", "What is the third?", "Three.");
    teach("b", "What is the first?", "One.");
    teach("c", "What is the first?", "Another one.");
    for (const char* name : {"a", "b", "c"})
      EXPECT_GT(open(*folder_ / "model", name).facts_file(file(name)).facts, 0);
  }
  static void TearDownTestSuite() { delete folder_; }

  static Workspace open(const fs::path& model, const std::string& overlay = {}) {
    api::OpenOptions open;
    open.threads = 1;
    open.overlay = overlay;
    return Workspace::open(model, open);
  }
  static void teach(const std::string& overlay, const std::string& question,
                    const std::string& answer) {
    api::Item item;
    item.prompts = {question};
    item.answers = {answer};
    item.verbatim = overlay != "b";  // one with values to copy
    api::TeachOptions how;
    how.steps = 10;
    open(*folder_ / "model", overlay).teach(dataset_of({item}), how);
  }
  static fs::path file(const std::string& name) { return *folder_ / (name + ".safetensors"); }
  static Workspace fresh() {
    const fs::path path = *folder_ / accrete::format("merged-{}", ++copies_);
    fs::copy(*folder_ / "model", path, fs::copy_options::recursive);
    return open(path);
  }
  static std::string text(const Workspace& workspace, const std::string& question) {
    return workspace.ask({question, {}}, {.max_tokens = 8}).text;
  }
  static api::MergeReport merge(Workspace& to, const std::vector<fs::path>& files,
                                const std::string& on_conflict = "refuse") {
    return to.merge(files, {on_conflict});
  }

  static testing::TemporaryFolder* folder_;
  static int copies_;
};
testing::TemporaryFolder* MergeTest::folder_ = nullptr;
int MergeTest::copies_ = 0;

TEST_F(MergeTest, OrderDoesNotMatterAndTwiceIsOnce) {
  Workspace one = fresh(), other = fresh();
  const auto report = merge(one, {file("a"), file("b")});
  EXPECT_EQ(report.files, 2);
  // "One." is there as it is said, and word for word: two facts that agree.
  EXPECT_EQ(report.facts, 4);
  EXPECT_EQ(report.taken, 4);
  EXPECT_EQ(merge(other, {file("b"), file("a"), file("b")}).update, report.update);
  EXPECT_EQ(one.now()->state_digest(), other.now()->state_digest());
  EXPECT_EQ(one.digest().state, one.now()->state_digest());
  EXPECT_EQ(text(one, "What is the second?"), "Two.");
  EXPECT_EQ(text(one, "What is the third?"),
            text(open(*folder_ / "model", "b"), "What is the third?"));
  const auto again = merge(one, {file("b"), file("a")});
  EXPECT_EQ(again.update, "");
  EXPECT_EQ(again.there, 4);
  EXPECT_EQ(one.history().log().size(), 1U);
  EXPECT_EQ(one.history().log().front().method, "merge");
  EXPECT_THAT(one.history().log().front().measurements, HasSubstr("a.safetensors"));
  one.undo();
  EXPECT_EQ(one.info().facts, 0);
  one.redo();
  EXPECT_EQ(text(one, "What is the second?"), "Two.");
}

TEST_F(MergeTest, AClashIsNamedBeforeAnythingChanges) {
  Workspace to = fresh();
  merge(to, {file("a")});
  const std::string state = to.now()->state();
  const std::string message =
      expect_error(ErrorCode::kConflict, [&] { merge(to, {file("b"), file("c")}, "theirs"); });
  EXPECT_THAT(message, HasSubstr("What is the first?"));  // of two files: never one of them
  const std::string clash = expect_error(ErrorCode::kConflict, [&] { merge(to, {file("c")}); });
  EXPECT_THAT(clash, HasSubstr("Another one."));
  EXPECT_THAT(clash, HasSubstr("--on-conflict"));
  EXPECT_EQ(to.now()->state(), state);
  EXPECT_EQ(to.history().log().size(), 1U);
  const auto ours = merge(to, {file("c")}, "ours");
  EXPECT_EQ(ours.update, "");
  EXPECT_EQ(ours.kept, 1);
  EXPECT_EQ(text(to, "What is the first?"), "One.");
  const auto theirs = merge(to, {file("c")}, "theirs");
  EXPECT_EQ(theirs.replaced, 1);
  ASSERT_EQ(theirs.clashes.size(), 1U);
  EXPECT_EQ(theirs.clashes[0].own_answer, "One.");
  EXPECT_EQ(text(to, "What is the first?"), "Another one.");
  EXPECT_EQ(text(to, "What is the second?"), "Two.");
  EXPECT_EQ(to.info().facts, 2);
  to.undo();
  EXPECT_EQ(text(to, "What is the first?"), "One.");
  expect_error(ErrorCode::kInvalidArgument, [&] { merge(to, {file("c")}, "mine"); });
}

TEST_F(MergeTest, IntoAnOverlayAloneAndFromUpdates) {
  Workspace to = fresh();
  Workspace overlay = to.overlay("c");
  const fs::path updates = to.folder() / "accrete" / "overlays" / "a" / "updates";
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(updates)) files.push_back(entry.path());
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(merge(overlay, files, "theirs").taken, 2);
  EXPECT_EQ(text(overlay, "What is the first?"), "One.");
  EXPECT_EQ(to.info().facts, 0);
  EXPECT_EQ(to.overlay("b").info().facts, 2);
}

TEST_F(MergeTest, WhatDoesNotFitIsRefused) {
  Workspace to = fresh();
  expect_error(ErrorCode::kInvalidArgument, [&] { merge(to, {}); });
  expect_error(ErrorCode::kNotFound, [&] { merge(to, {*folder_ / "absent"}); });
  const auto altered = [&](const std::string& name, auto change) {
    Update update = read_update(file("b"));
    change(update);
    const fs::path other = *folder_ / name;
    fs::create_directories(other);
    return other / update_file_name(write_update(other, update));
  };
  for (const char* key : {"base_digest", "reader_digest", "block"}) {
    const auto foreign = altered(key, [&](Update& u) { u.metadata[key] = "17"; });
    EXPECT_THAT(expect_error(ErrorCode::kConflict, [&] { merge(to, {foreign}); }),
                HasSubstr("another"));
    const auto silent = altered(key, [&](Update& u) { u.metadata.erase(key); });
    EXPECT_THAT(expect_error(ErrorCode::kConflict, [&] { merge(to, {silent}); }),
                HasSubstr("does not say"));
  }
  const auto wide = altered("width", [](Update& u) {
    u.facts.width *= 2;
    u.facts.values.resize(u.facts.values.size() * 2);
  });
  EXPECT_THAT(expect_error(ErrorCode::kConflict, [&] { merge(to, {wide}); }), HasSubstr("width"));
  std::string bytes = read_file(file("b"));
  bytes[bytes.size() / 2] ^= 1;
  write_file_atomically(*folder_ / "torn.safetensors", bytes.substr(0, bytes.size() / 2));
  expect_error(ErrorCode::kFormat, [&] { merge(to, {*folder_ / "torn.safetensors"}); });
  EXPECT_TRUE(to.history().log().empty());
  expect_error(ErrorCode::kRefused, [&] { to.facts_file(*folder_ / "nothing.safetensors"); });
  EXPECT_FALSE(fs::exists(*folder_ / "nothing.safetensors"));
}

}  // namespace
}  // namespace accrete
