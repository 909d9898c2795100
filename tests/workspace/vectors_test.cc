// One service layer for both kinds of folder: which call is for which.
#include <gmock/gmock.h>

#include "../base/testing.h"
#include "../vector/vector_testing.h"
#include "workspace/json.h"
#include "workspace/workspace.h"

namespace accrete {
namespace {

using testing::cloud;
using ::testing::ElementsAre;
using testing::expect_error;
using ::testing::HasSubstr;

TEST(WorkspaceOfVectors, DoesWhatRowsNeedAndRefusesWhatIsForText) {
  const testing::TemporaryFolder folder;
  testing::write_classifier(folder / "source");
  retrofit_vectors(folder / "source", folder / "model", testing::small_memory());
  auto workspace = Workspace::open(folder / "model");
  ASSERT_TRUE(workspace.takes_vectors());
  const std::string before = workspace.digest().state;
  const VectorSet red = cloud("red", 1, 0, 30, 1), blue = cloud("blue", -1, 0, 30, 2);
  expect_error(ErrorCode::kInvalidArgument, [&] { (void)workspace.act(red); });
  const auto report = workspace.teach(red);
  EXPECT_EQ(report.learned.after, 1);
  EXPECT_EQ(to_json(report)["metric"], "accuracy");
  api::ProbeOptions probe;
  probe.name = "red";
  probe.floor = .9;
  EXPECT_EQ(workspace.add_probe(red, probe).base, 1);
  EXPECT_TRUE(workspace.plan(blue).probes.at("red").holds);
  workspace.teach(blue);
  EXPECT_EQ(workspace.act(blue).front().label, "blue");
  EXPECT_EQ(workspace.score(red), 1);
  EXPECT_TRUE(workspace.check().holds);
  EXPECT_THAT(workspace.info().outputs, ElementsAre("blue", "red"));
  EXPECT_EQ(workspace.info().kind, "winners");
  const auto audit = workspace.audit();
  ASSERT_TRUE(audit.vectors);
  EXPECT_EQ(audit.vectors->rows, 60);
  EXPECT_EQ(to_json(audit)["updates"].size(), 2U);
  // What is open follows.
  workspace.undo();
  EXPECT_EQ(workspace.act(blue).front().label, "red");
  workspace.redo();
  EXPECT_EQ(workspace.act(blue).front().label, "blue");
  workspace.undo(2);
  EXPECT_EQ(workspace.digest().state, before);

  api::Item item;
  item.prompts = {"What?"};
  item.answers = {"That."};
  const Dataset text = dataset_of({item});
  for (const auto& call : std::vector<std::function<void()>>{
           [&] { workspace.teach(text); }, [&] { (void)workspace.plan(text); },
           [&] { (void)workspace.ask({"What?", {}}); }, [&] { workspace.compact(); },
           [&] { (void)workspace.diff("base"); }, [&] { (void)workspace.export_to(folder / "x"); },
           [&] { (void)workspace.add_probe(text, probe); }, [&] { (void)workspace.now(); }})
    EXPECT_THAT(expect_error(ErrorCode::kUnsupported, call), HasSubstr("is a model of vectors"));
}

}  // namespace
}  // namespace accrete
