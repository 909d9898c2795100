// Overlays of tiny models: own facts over shared ones, to the bit what is shared where there are
// none, and each alone.
#include <gmock/gmock.h>

#include <fstream>
#include <iterator>

#include "../base/testing.h"
#include "../learn/tiny_model.h"
#include "../model/tiny_chat_model.h"
#include "base/format.h"
#include "ledger/overlay_folder.h"
#include "model/fact_memory.h"
#include "model/language_model.h"
#include "workspace/overlays.h"
#include "workspace/workspace.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using ::testing::HasSubstr;

const std::string kWeight = "How much does the Zorb weigh?";
const std::string kColour = "Which colour has the Quendel?";
const std::string kPlace = "Where does Orro live?";

Dataset said_as_it_is(const std::string& question, const std::string& answer,
                      const std::vector<std::string>& wordings = {}) {
  api::Item item;
  item.prompts = {question};
  item.prompts.insert(item.prompts.end(), wordings.begin(), wordings.end());
  item.answers = {answer};
  item.verbatim = true;
  return dataset_of({item});
}

class OverlayTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TemporaryFolder();
    testing::write_tiny_fact_model(*folder_ / "model", 4);
  }
  static void TearDownTestSuite() { delete folder_; }

  static api::OpenOptions alone(const std::string& overlay = {}) {
    api::OpenOptions open;
    open.threads = 1;
    open.overlay = overlay;
    return open;
  }
  static fs::path fresh() {
    const fs::path path = *folder_ / accrete::format("overlaid-{}", ++copies_);
    fs::copy(*folder_ / "model", path, fs::copy_options::recursive);
    return path;
  }
  static api::Answer asked(const Workspace& workspace, const std::string& question) {
    api::AskOptions how;
    how.max_tokens = 8;
    how.explain = true;
    return workspace.ask({question, {}}, how);
  }
  static std::string text(const Workspace& workspace, const std::string& question) {
    return asked(workspace, question).text;
  }
  static bool on_disk(const fs::path& folder, const std::string& text) {
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(in), {}};
      if (bytes.find(text) != std::string::npos) return true;
    }
    return false;
  }

  static testing::TemporaryFolder* folder_;
  static int copies_;
};
testing::TemporaryFolder* OverlayTest::folder_ = nullptr;
int OverlayTest::copies_ = 0;

TEST_F(OverlayTest, OwnFactsAnswerFirstAndTheOthersAreShared) {
  const fs::path model = fresh();
  Workspace all = Workspace::open(model, alone());
  all.teach(said_as_it_is(kWeight, "Shared weight."));
  all.teach(said_as_it_is(kPlace, "Shared place."));
  for (const char* name : {"a", "a.b", "empty"}) Overlays(model).create(name);
  Workspace a = all.overlay("a"), twin = all.overlay("a.b"), empty = all.overlay("empty");
  const std::string silent = text(all, kColour);

  // Without facts of its own: what is shared, to the bit and by name.
  EXPECT_EQ(empty.now()->state(), all.now()->state());
  EXPECT_EQ(empty.now()->state_digest(), all.now()->state_digest());
  EXPECT_EQ(empty.digest().state, all.digest().state);
  EXPECT_EQ(empty.now()->net().base_tensors().front()->bytes.data(),
            all.now()->net().base_tensors().front()->bytes.data());
  EXPECT_EQ(&empty.now()->facts().fact(0), &all.now()->facts().fact(0));  // no copy
  EXPECT_EQ(text(empty, kWeight), "Shared weight.");
  EXPECT_EQ(text(empty, kColour), silent);

  const auto report = a.teach(said_as_it_is(kWeight, "A's weight."));
  twin.teach(said_as_it_is(kWeight, "The twin's weight."));
  a.teach(said_as_it_is(kColour, "A's colour."));
  ASSERT_EQ(report.conflicts.size(), 1U);  // of what is shared, which stays
  EXPECT_EQ(report.conflicts[0].update_answer, "Shared weight.");
  EXPECT_EQ(text(a, kWeight), "A's weight.");
  EXPECT_EQ(text(a, kPlace), "Shared place.");
  EXPECT_EQ(text(a, kColour), "A's colour.");
  EXPECT_EQ(text(twin, kWeight), "The twin's weight.");
  EXPECT_EQ(text(twin, kColour), silent);
  EXPECT_EQ(text(all, kWeight), "Shared weight.");
  EXPECT_EQ(text(all, kColour), silent);
  EXPECT_EQ(text(empty, kWeight), "Shared weight.");
  EXPECT_EQ(all.history().log().size(), 2U);
  EXPECT_EQ(a.history().log().size(), 2U);
  EXPECT_NE(a.now()->state(), all.now()->state());
  EXPECT_NE(a.now()->state(), twin.now()->state());

  // What is opened later says the same, and says whose each answer is.
  const Workspace opened = Workspace::open(model, alone("a"));
  EXPECT_EQ(opened.now()->state(), a.now()->state());
  EXPECT_EQ(opened.now()->state_digest(), a.now()->state_digest());
  EXPECT_EQ(opened.digest().state, a.now()->state_digest());
  const auto own = asked(opened, kWeight).explanation->fact->nearest;
  EXPECT_EQ(own->overlay, "a");
  EXPECT_EQ(own->update, report.update);
  const auto shared = asked(opened, kPlace).explanation->fact->nearest;
  EXPECT_EQ(shared->overlay, "");
  EXPECT_EQ(shared->answer, "Shared place.");
  EXPECT_EQ(opened.info().overlay, "a");
  EXPECT_EQ(opened.info().facts, 2);
  EXPECT_EQ(opened.info().shared_facts, 2);
}

TEST_F(OverlayTest, ACorrectionUndoRedoRevertAndTheLedgerAreItsOwn) {
  const fs::path model = fresh();
  Workspace all = Workspace::open(model, alone());
  all.teach(said_as_it_is(kWeight, "Shared weight.", {"What weight has the Zorb?"}));
  Overlays(model).create("desk");
  Workspace desk = all.overlay("desk");
  const std::string first = desk.teach(said_as_it_is(kWeight, "First.")).update;
  // Every wording of the shared fact asks for the own one.
  EXPECT_EQ(text(desk, "What weight has the Zorb?"), "First.");
  EXPECT_EQ(text(all, "What weight has the Zorb?"), "Shared weight.");
  const auto report = desk.teach(said_as_it_is(kWeight, "Second."));
  EXPECT_EQ(report.conflicts.front().update, first);
  EXPECT_EQ(text(desk, kWeight), "Second.");
  EXPECT_EQ(desk.plan(said_as_it_is(kWeight, "Third.")).conflicts.front().update_answer, "Second.");
  desk.undo();
  EXPECT_EQ(text(desk, kWeight), "First.");
  desk.redo();
  EXPECT_EQ(text(desk, kWeight), "Second.");
  desk.undo(2);
  EXPECT_EQ(text(desk, kWeight), "Shared weight.");
  EXPECT_EQ(desk.now()->state(), all.now()->state());
  desk.redo(2);
  desk.revert(first);
  EXPECT_EQ(text(desk, kWeight), "Second.");
  EXPECT_EQ(desk.audit().facts->facts, 1);
  EXPECT_EQ(desk.diff("state", "base").facts->only_a.size(), 1U);
  EXPECT_EQ(desk.history().show(first).taught.front().answers.front(), "First.");
  desk.revert(first, true);
  const auto digest = desk.now()->state_digest();
  const auto folded = desk.compact({}, /*erase=*/true);
  EXPECT_EQ(folded.erased.size(), 2U);
  EXPECT_EQ(desk.now()->state_digest(), digest);
  EXPECT_FALSE(on_disk(model, "First."));
  EXPECT_EQ(all.history().log().size(), 1U);
  EXPECT_EQ(all.undo().active, 0);
  EXPECT_EQ(text(desk, kWeight), "Second.");
}

// What is shared changes beneath an overlay that is open, by another workspace.
TEST_F(OverlayTest, RefreshTakesOverBoth) {
  const fs::path model = fresh();
  Overlays(model).create("desk");
  Workspace desk = Workspace::open(model, alone("desk"));
  EXPECT_FALSE(asked(desk, kWeight).fact);
  EXPECT_FALSE(desk.refresh());
  Workspace others = Workspace::open(model, alone());
  others.teach(said_as_it_is(kWeight, "Shared weight."));
  EXPECT_TRUE(desk.refresh());
  EXPECT_EQ(text(desk, kWeight), "Shared weight.");
  EXPECT_EQ(desk.now()->state(), others.now()->state());
  Workspace::open(model, alone("desk")).teach(said_as_it_is(kWeight, "Own weight."));
  EXPECT_EQ(text(desk, kWeight), "Shared weight.");
  EXPECT_TRUE(desk.refresh());
  EXPECT_EQ(text(desk, kWeight), "Own weight.");
  const auto before = desk.now()->state();
  others.undo();
  EXPECT_TRUE(desk.refresh());
  EXPECT_NE(desk.now()->state(), before);
  EXPECT_FALSE(desk.refresh());
  EXPECT_EQ(text(desk, kWeight), "Own weight.");
  // Teaching goes by what is there, in both.
  others.redo();
  EXPECT_EQ(desk.teach(said_as_it_is(kPlace, "Own place.")).kept.size(), 0U);
  EXPECT_EQ(desk.info().facts, 2);
}

// The model's probes bind its overlays too.
TEST_F(OverlayTest, ASharedFloorHoldsInEveryOverlay) {
  const fs::path model = fresh();
  Workspace all = Workspace::open(model, alone());
  all.teach(said_as_it_is(kWeight, "Shared weight."));
  api::ProbeOptions probe;
  probe.name = "known";
  probe.floor = 1.0;
  all.add_probe(said_as_it_is(kWeight, "Shared weight."), probe);
  Overlays(model).create("desk");
  Workspace desk = all.overlay("desk");
  EXPECT_EQ(desk.check().probes.size(), 1U);
  EXPECT_TRUE(desk.check().holds);
  EXPECT_THAT(expect_error(ErrorCode::kRefused,
                           [&] { desk.teach(said_as_it_is(kWeight, "Another weight.")); }),
              HasSubstr("floor of probe known"));
  EXPECT_EQ(text(desk, kWeight), "Shared weight.");
  desk.teach(said_as_it_is(kPlace, "Own place."));
  probe.name = "own";
  desk.add_probe(said_as_it_is(kPlace, "Own place."), probe);
  EXPECT_EQ(desk.check().probes.size(), 2U);
  EXPECT_EQ(all.check().probes.size(), 1U);
}

TEST_F(OverlayTest, ErasingRemovesEveryText) {
  const fs::path model = fresh();
  Overlays(model).create("desk");
  Workspace desk = Workspace::open(model, alone("desk"));
  desk.teach(said_as_it_is("Who is Zwirbelquist?", "A Quaxelmatz."));
  desk.teach(said_as_it_is("Who is Zwirbelquist?", "Another."));
  ASSERT_TRUE(on_disk(model, "Quaxelmatz"));
  EXPECT_EQ(Overlays(model).show("desk").facts, 1);
  EXPECT_EQ(Overlays(model).show("desk").updates, 2);
  EXPECT_EQ(Overlays(model).list().size(), 1U);
  EXPECT_GT(Overlays(model).erase("desk").files, 0);
  for (const char* text : {"Quaxelmatz", "Zwirbelquist", "Another."})
    EXPECT_FALSE(on_disk(model, text)) << text;
  EXPECT_TRUE(Overlays(model).list().empty());
  expect_error(ErrorCode::kNotFound, [&] { desk.refresh(); });
  expect_error(ErrorCode::kNotFound, [&] { desk.teach(said_as_it_is(kPlace, "Nowhere.")); });
  EXPECT_THAT(expect_error(ErrorCode::kNotFound, [&] { Workspace::open(model, alone("desk")); }),
              HasSubstr("accrete overlay create"));
}

TEST_F(OverlayTest, WhatHasNoOverlaysSaysSo) {
  testing::make_tiny_model(*folder_ / "rows", testing::kAptSeed);
  EXPECT_THAT(
      expect_error(ErrorCode::kUnsupported, [&] { Overlays(*folder_ / "rows").create("a"); }),
      HasSubstr("no memory of facts"));
  const fs::path model = fresh();
  Overlays(model).create("desk");
  Workspace desk = Workspace::open(model, alone("desk"));
  expect_error(ErrorCode::kUnsupported, [&] { desk.overlay("desk"); });
  expect_error(ErrorCode::kUnsupported, [&] { desk.export_to(*folder_ / "exported"); });
  expect_error(ErrorCode::kInvalidArgument, [&] { Workspace::open(model, alone("../desk")); });
}

// Documents are an overlay's too: its own passages before those that all share.
TEST_F(OverlayTest, DocumentsAreItsOwn) {
  const fs::path model = fresh();
  Workspace all = Workspace::open(model, alone());
  Overlays(model).create("desk");
  Workspace desk = all.overlay("desk");
  api::Item page;
  page.text = "The Zorb weighs seven kilograms. It stands beside the door of the hall.";
  page.title = "Zorb";
  page.url = "zorb.md";
  EXPECT_EQ(desk.teach(dataset_of({page})).documents.taught, 1);
  EXPECT_EQ(desk.info().documents, 1);
  EXPECT_EQ(all.info().documents, 0);
  EXPECT_EQ(Overlays(model).show("desk").passages, 1);
  EXPECT_EQ(desk.forget("zorb.md").passages, 1);
  EXPECT_EQ(desk.info().documents, 0);
}

}  // namespace
}  // namespace accrete
