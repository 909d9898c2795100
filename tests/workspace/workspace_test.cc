// The workspace on tiny models: states as snapshots, what changes them, and who sees it.
#include "workspace/workspace.h"

#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <iterator>
#include <thread>

#include "../base/testing.h"
#include "../learn/tiny_model.h"
#include "../model/tiny_chat_model.h"
#include "base/format.h"
#include "model/language_model.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using ::testing::HasSubstr;

const std::string kHeavy = "How much does the Zorb weigh?";
const std::string kOrro = "What does the rule of Orro say?";

api::OpenOptions on_one_thread() {
  api::OpenOptions open;
  open.threads = 1;
  return open;
}

api::TeachOptions quick() {
  api::TeachOptions o;
  o.steps = 80;
  return o;
}

Dataset fact(const std::string& question, const std::string& answer, bool verbatim = false) {
  api::Item item;
  item.prompts = {question};
  item.answers = {answer};
  item.verbatim = verbatim;
  return dataset_of({item});
}

class WorkspaceTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TemporaryFolder();
    testing::write_tiny_fact_model(*folder_ / "model", 4);
  }
  static void TearDownTestSuite() { delete folder_; }

  static Workspace fresh() {
    const fs::path path = *folder_ / accrete::format("copy-{}", ++copies_);
    fs::copy(*folder_ / "model", path, fs::copy_options::recursive);
    return Workspace::open(path, on_one_thread());
  }
  static api::Answer asked(const Workspace& workspace, const std::string& question,
                           Workspace::State state = nullptr) {
    api::AskOptions how;
    how.max_tokens = 8;
    return workspace.ask({question, {}}, how, nullptr, {}, std::move(state));
  }
  static const void* weights(const Workspace::State& state) {
    return state->net().base_tensors().front()->bytes.data();
  }
  // Every file below the folder but the ledger's, which SQLite rewrites at its leisure.
  static std::map<std::string, std::string> files(const fs::path& folder) {
    std::map<std::string, std::string> out;
    for (const std::string& name : testing::names_under(folder)) {
      if (!fs::is_regular_file(folder / name) || name.find("ledger.db") != std::string::npos ||
          name.ends_with("/lock"))
        continue;
      std::ifstream in(folder / name, std::ios::binary);
      out[name] = {std::istreambuf_iterator<char>(in), {}};
    }
    return out;
  }

  static testing::TemporaryFolder* folder_;
  static int copies_;
};
testing::TemporaryFolder* WorkspaceTest::folder_ = nullptr;
int WorkspaceTest::copies_ = 0;

TEST_F(WorkspaceTest, AStateStaysWhatItWas) {
  Workspace workspace = fresh();
  const Workspace::State before = workspace.now();
  const std::string silent = asked(workspace, kHeavy).text;
  const std::string id = workspace.teach(fact(kHeavy, "b"), quick()).update;
  const Workspace::State after = workspace.now();
  EXPECT_NE(before, after);
  EXPECT_EQ(weights(before), weights(after));
  EXPECT_TRUE(asked(workspace, kHeavy).fact);
  EXPECT_EQ(asked(workspace, kHeavy).text, "b");
  EXPECT_EQ(asked(workspace, kHeavy, before).text, silent);
  EXPECT_FALSE(asked(workspace, kHeavy, before).fact);

  EXPECT_EQ(workspace.undo().ids, std::vector<std::string>{id});
  EXPECT_EQ(workspace.now()->state(), before->state());
  EXPECT_EQ(asked(workspace, kHeavy).text, silent);
  EXPECT_EQ(asked(workspace, kHeavy, after).text, "b");
  EXPECT_EQ(workspace.redo().done, "redone");
  EXPECT_EQ(workspace.now()->state(), after->state());
  EXPECT_EQ(workspace.revert(id.substr(0, 6)).ids.front(), id);
  EXPECT_FALSE(asked(workspace, kHeavy).fact);
  EXPECT_EQ(workspace.revert(id, true).done, "activated");
  EXPECT_TRUE(asked(workspace, kHeavy).fact);
}

// What a teach leaves is what opening the folder would find, bit for bit.
TEST_F(WorkspaceTest, ATeachLeavesWhatTheFolderSays) {
  Workspace workspace = fresh();
  workspace.teach(fact(kHeavy, "b"), quick());
  workspace.teach(fact(kOrro, "As it is.", true), quick());
  workspace.teach(fact(kHeavy, "c"), quick());  // a correction
  const Workspace opened = Workspace::open(workspace.folder(), on_one_thread());
  EXPECT_EQ(workspace.now()->state(), opened.now()->state());
  EXPECT_EQ(workspace.now()->state_digest(), opened.now()->state_digest());
  EXPECT_EQ(workspace.digest().state, workspace.now()->state_digest());
  EXPECT_EQ(asked(workspace, kHeavy).text, asked(opened, kHeavy).text);
  EXPECT_EQ(asked(workspace, kOrro).text, "As it is.");
  EXPECT_FALSE(workspace.refresh());
  EXPECT_EQ(workspace.compact().updates.size(), 1U);
  EXPECT_EQ(workspace.now()->state_digest(), opened.now()->state_digest());
}

TEST_F(WorkspaceTest, TwoThreadsAskUnderTwoStatesWhileAThirdTeaches) {
  Workspace workspace = fresh();
  const Workspace::State none = workspace.now();
  const std::string silent = asked(workspace, kHeavy).text;
  workspace.teach(fact(kHeavy, "b"), quick());
  const Workspace::State one = workspace.now();
  std::atomic<bool> done = false;
  std::atomic<int> wrong = 0, answers = 0;
  const auto keep_asking = [&](const Workspace::State& state, const std::string& expected) {
    do {
      wrong += asked(workspace, kHeavy, state).text != expected;
      ++answers;
    } while (!done);
  };
  std::thread first([&] { keep_asking(none, silent); });
  std::thread second([&] { keep_asking(one, "b"); });
  std::thread third([&] {
    try {
      workspace.teach(fact("How much does the Quendel weigh?", "c"), quick());
      workspace.undo();
    } catch (...) {
      ++wrong;
    }
    done = true;
  });
  for (std::thread* thread : {&first, &second, &third}) thread->join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GE(answers, 2);
  EXPECT_EQ(workspace.now()->state(), one->state());
}

TEST_F(WorkspaceTest, ACommitByAnotherProcessIsSeen) {
  Workspace workspace = fresh();
  workspace.teach(fact(kHeavy, "b"), quick());
  EXPECT_FALSE(workspace.refresh());
  ASSERT_EQ(testing::run_in_child([&] {
              History(workspace.folder()).undo();
              return 0;
            }),
            0);
  EXPECT_TRUE(asked(workspace, kHeavy).fact);
  EXPECT_TRUE(workspace.refresh());
  EXPECT_FALSE(asked(workspace, kHeavy).fact);
  EXPECT_EQ(workspace.info().facts, 0);
  // A teach goes by what is there, not by what this workspace knows.
  Workspace other = Workspace::open(workspace.folder(), on_one_thread());
  other.redo();
  const auto report = workspace.teach(fact(kHeavy, "c"), quick());
  ASSERT_EQ(report.conflicts.size(), 1U);
  EXPECT_EQ(report.conflicts[0].update_answer, "b");
  EXPECT_EQ(workspace.info().updates, 2);
}

TEST_F(WorkspaceTest, AFailedTeachLeavesStateAndFolder) {
  Workspace workspace = fresh();
  workspace.teach(fact(kHeavy, "b"), quick());
  const Workspace::State before = workspace.now();
  const auto there = files(workspace.folder());
  const auto refused = [&](ErrorCode code, const api::TeachOptions& how, const Reporter& reporter) {
    expect_error(code, [&] { workspace.teach(fact(kOrro, "c"), how, reporter); });
    EXPECT_EQ(workspace.now(), before);
    EXPECT_EQ(files(workspace.folder()), there);
    EXPECT_EQ(workspace.history().log().size(), 1U);
  };
  api::TeachOptions hurried = quick();
  hurried.max_seconds = 1e-6;
  refused(ErrorCode::kRefused, hurried, {});
  Reporter cancelled;
  cancelled.cancelled = [] { return true; };
  refused(ErrorCode::kInterrupted, quick(), cancelled);
  Reporter throws;
  throws.progress = [](const ProgressEvent& e) {
    if (e.stage != "read questions") throw Error(ErrorCode::kInternal, "thrown by a callback");
  };
  refused(ErrorCode::kInternal, quick(), throws);
  {
    const Ledger busy = Ledger::open(workspace.folder(), Ledger::Mode::kWrite);
    refused(ErrorCode::kConflict, quick(), {});
    expect_error(ErrorCode::kConflict, [&] { workspace.undo(); });
  }
  expect_error(ErrorCode::kInvalidArgument, [&] { workspace.undo(2); });
  EXPECT_EQ(workspace.now(), before);
}

// Verbs that need no network open none: a folder without weights will do.
TEST_F(WorkspaceTest, TheNetworkIsOpenedWhenItIsNeeded) {
  Workspace workspace = fresh();
  workspace.teach(fact(kHeavy, "b"), quick());
  fs::remove(workspace.folder() / "model.safetensors");
  Workspace without = Workspace::open(workspace.folder(), on_one_thread());
  EXPECT_EQ(without.audit().facts->facts, 1);
  EXPECT_EQ(without.diff("state", "base").facts->only_a.size(), 1U);
  EXPECT_EQ(without.undo().active, 0);
  EXPECT_THROW(without.now(), Error);
  EXPECT_TRUE(workspace.refresh());  // it has its weights still
  EXPECT_FALSE(asked(workspace, kHeavy).fact);
}

TEST_F(WorkspaceTest, BatchesStreamAndExplain) {
  Workspace workspace = fresh();
  const auto report = workspace.teach(fact(kHeavy, "b"), quick());
  const std::vector<api::Request> requests = {{kHeavy, {}}, {"", {{"user", "Who is Quendel?"}}}};
  api::AskOptions how;
  how.max_tokens = 8;
  how.explain = true;
  std::vector<std::string> streamed(2);
  const auto answers = workspace.ask(
      requests, how, [&](size_t i, std::string_view text) { streamed.at(i) += text; });
  ASSERT_EQ(answers.size(), 2U);
  EXPECT_EQ(streamed[0], "b");
  EXPECT_EQ(streamed[1], answers[1].text);
  ASSERT_TRUE(answers[0].explanation && answers[0].explanation->fact);
  EXPECT_TRUE(answers[0].explanation->fact->accepted);
  EXPECT_EQ(answers[0].explanation->fact->nearest->update, report.update);
  EXPECT_FALSE(answers[1].explanation->fact->accepted);
  EXPECT_EQ(workspace.explain({kHeavy, {}}).fact->nearest->answer, "b");
  EXPECT_NO_THROW(workspace.require_chat());
  expect_error(ErrorCode::kInvalidArgument, [&] { workspace.ask(api::Request()); });
}

TEST_F(WorkspaceTest, ItemsAreRefusedAsLinesAre) {
  expect_error(ErrorCode::kInvalidArgument, [] { dataset_of({}); });
  api::Item both;
  both.prompts = {kHeavy};
  both.answers = {"b"};
  both.text = "Once upon a time.";
  EXPECT_THAT(expect_error(ErrorCode::kInvalidArgument, [&] { dataset_of({both}); }),
              HasSubstr("more than one kind"));
  both.text.clear();
  both.leave = true;
  EXPECT_THROW(dataset_of({both}), Error);
  EXPECT_EQ(fact(kHeavy, "b").items.front().line, 1);
}

// A model with memory layers takes the same way, by rows.
TEST(WorkspaceOfRows, FollowsItsLedger) {
  const testing::TemporaryFolder folder;
  testing::make_tiny_model(folder / "model", testing::kAptSeed);
  Workspace workspace = Workspace::open(folder / "model", on_one_thread());
  const Workspace::State before = workspace.now();
  api::Item item;
  item.subject = "Olbert";
  item.prompts = {"Olbert ", "So Olbert "};
  item.answers = {"q"};
  api::TeachOptions how;
  how.raw = true;
  how.neighbours = 2;
  how.rate = 2;
  how.steps = 80;
  const auto report = workspace.teach(dataset_of({item}), how);
  const Workspace::State after = workspace.now();
  EXPECT_NE(after->state(), before->state());
  EXPECT_EQ(before->net().base_tensors().front()->bytes.data(),
            after->net().base_tensors().front()->bytes.data());
  EXPECT_EQ(after->state_digest(),
            Workspace::open(folder / "model", on_one_thread()).now()->state_digest());
  EXPECT_EQ(workspace.digest().state, after->state_digest());
  EXPECT_EQ(workspace.audit().rows->updates.front().id, report.update);
  EXPECT_EQ(workspace.diff("base", "state").rows->all.rows_b, report.rows);
  workspace.undo();
  EXPECT_EQ(workspace.now()->state_digest(), before->state_digest());
  EXPECT_EQ(workspace.info().kind, "rows");
}

}  // namespace
}  // namespace accrete
