// A model of an earlier accrete is refused with what to do, and what its ledger has is taught
// again.
#include "api/upgrade.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"
#include "base/error.h"
#include "base/format.h"
#include "ledger/ledger.h"
#include "model/fact_memory.h"
#include "model/language_model.h"

namespace accrete {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

TaughtItem fact(int64_t line, std::vector<std::string> prompts, const std::string& answer,
                const std::string& subject, bool raw = false) {
  TaughtItem item;
  item.line = line;
  item.prompts = std::move(prompts);
  item.answers = {answer};
  item.subject = subject;
  item.raw = raw;
  return item;
}

class Upgrade : public ::testing::Test {
 protected:
  // A folder as an earlier accrete left it, as far as anything reads it: base, memory.json and
  // ledger.
  void SetUp() override {
    testing::write_tiny_chat_model(old());
    testing::write_tiny_reader(folder_ / "reader");
    Ledger ledger = Ledger::create(old());
    std::ofstream(old() / "accrete" / "memory.json")
        << R"({"version": 1, "kind": "fitted", "blocks": [1], "heads": 2})";
    TaughtItem text;
    text.line = 3;
    text.excerpt = "Once upon a time";
    commit(ledger, 1,
           {fact(1, {"How heavy is Zorb?", "What does Zorb weigh?"}, "ab", "Zorb"), text});
    undone_ = commit(ledger, 2, {fact(1, {"How tall is Ada?"}, "yz", "Ada")});
    commit(ledger, 3, {fact(7, {"The home of Bo is"}, "cd", "Bo", true)});
    ledger.set_active(undone_, false);
  }
  static std::string commit(Ledger& ledger, int number, std::vector<TaughtItem> items) {
    Update update;
    update.layers = {{1, 1, {number}, {1}}};
    update.taught.items = std::move(items);
    UpdateRecord record;
    record.source = accrete::format("facts-{}.jsonl", number);
    record.source_digest = std::string(64, 'a');
    return ledger.commit(update, record).id;
  }
  std::filesystem::path old() const { return folder_ / "old"; }
  std::filesystem::path made() const { return folder_ / "new"; }
  UpgradeResult run() const {
    RetrofitFactsOptions options;
    options.reader = folder_ / "reader";
    options.block = 1;
    options.tell = Tell::kValue;
    options.open.threads = 1;
    return upgrade(old(), made(), options, {});
  }

  TemporaryFolder folder_;
  std::string undone_;
};

TEST_F(Upgrade, TheOldFolderIsRefusedWithWhatToDo) {
  try {
    (void)LanguageModel::open(old(), {.threads = 1});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(e.what(), HasSubstr("earlier accrete"));
    EXPECT_THAT(e.hint(), HasSubstr("accrete upgrade " + old().string()));
  }
}

TEST_F(Upgrade, TeachesWhatIsActiveAgain) {
  const UpgradeResult result = run();
  ASSERT_EQ(result.updates.size(), 2U);
  EXPECT_EQ(result.updates[0].facts, 1);
  EXPECT_EQ(result.updates[0].source, "facts-1.jsonl");
  EXPECT_EQ(result.updates[1].facts, 1);
  ASSERT_EQ(result.left.size(), 1U);
  EXPECT_EQ(result.left[0].what, "Once upon a time");
  EXPECT_EQ(result.left[0].line, 3);

  const auto model = LanguageModel::open(made(), {.threads = 1});
  ASSERT_TRUE(model.has_facts());
  const FactStore& store = model.facts().store();
  ASSERT_EQ(store.size(), 2);
  const Ledger ledger = Ledger::open(made(), Ledger::Mode::kRead);
  const auto active = ledger.active();
  ASSERT_EQ(active.size(), 2U);
  EXPECT_EQ(active[0].id, result.updates[0].id);
  EXPECT_EQ(active[1].source, "facts-3.jsonl");
  const TaughtItem first = ledger.load(active[0].id).taught.items.at(0),
                   raw = ledger.load(active[1].id).taught.items.at(0);
  EXPECT_EQ(first.answers.front(), "ab");
  EXPECT_FALSE(first.raw);
  EXPECT_TRUE(raw.raw);
  EXPECT_EQ(raw.line, 7);
  EXPECT_EQ(raw.subject, "Bo");
  // The old one is as it was.
  EXPECT_EQ(Ledger::open(old(), Ledger::Mode::kRead).active().size(), 2U);
}

TEST_F(Upgrade, OtherModelsAreRefusedAndNothingIsLeftBehind) {
  run();
  testing::expect_error(ErrorCode::kInvalidArgument,
                        [&] { upgrade(made(), folder_ / "again", {}, {}); });
  testing::expect_error(ErrorCode::kNotFound,
                        [&] { upgrade(folder_ / "absent", folder_ / "again", {}, {}); });
  testing::expect_error(ErrorCode::kConflict, [&] { run(); });
  // An update that was changed.
  const auto file = old() / "accrete" / "updates" /
                    update_file_name(Ledger::open(old(), Ledger::Mode::kRead).active()[0].id);
  std::ofstream(file, std::ios::app) << "x";
  std::filesystem::remove_all(made());
  testing::expect_error(ErrorCode::kFormat, [&] { run(); });
  EXPECT_FALSE(std::filesystem::exists(made()));
  EXPECT_FALSE(std::filesystem::exists(made().string() + ".partial"));
}

}  // namespace
}  // namespace accrete
