#include "learn/document_questions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"
#include "base/error.h"
#include "base/file.h"
#include "model/fact_memory.h"
#include "model/memory_files.h"

namespace accrete {
namespace {

using ::testing::ElementsAre;
using testing::expect_error;
using ::testing::IsEmpty;
using testing::TemporaryFolder;

TEST(DocumentQuestions, AreTheLinesThatAsk) {
  EXPECT_THAT(questions_in("Here are five questions:\n1. What does a new sole cost?\n"
                           "2) \"When is the shop open?\" (see above)\n- When is the shop open?\n"
                           "* What is the text about?\nThe shop is open.\nWhy?\n"),
              ElementsAre("What does a new sole cost?", "When is the shop open?"));
  EXPECT_THAT(questions_in(""), IsEmpty());
  EXPECT_THAT(questions_in("?\n??\n- ?"), IsEmpty());
}

class MakeQuestions : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::write_tiny_fact_model(folder_ / "model", 4);
    Item item;
    item.kind = Item::Kind::kText;
    item.source = "a.md";
    item.text = "# Fees\n\nThe fee is 40.\n\n# Pool\n\nBring a towel.";
    item.markdown = true;
    data_.path = "a.md";
    data_.items = {item};
  }
  LanguageModel open(Tell tell) const {
    auto info = load_fact_memory_info(folder_ / "model", 4);
    info.tell = tell;
    save_fact_memory(folder_ / "model", info, load_memory_info(folder_ / "model"));
    OpenOptions options;
    options.threads = 1;
    return LanguageModel::open(folder_ / "model", options);
  }

  TemporaryFolder folder_;
  Dataset data_;
};

TEST_F(MakeQuestions, GoOnWhereARunWasStoppedAndKeepWhatIsThere) {
  const LanguageModel model = open(Tell::kNote);
  const auto file = folder_ / "made.jsonl", progress = folder_ / "made.jsonl.progress";
  // Stopped behind the first passage.
  Reporter reporter;
  int64_t seen = 0;
  reporter.cancelled = [&] { return ++seen > 2; };
  expect_error(ErrorCode::kInterrupted,
               [&] { (void)make_questions(model, data_, file, reporter); });
  ASSERT_TRUE(std::filesystem::exists(progress));
  const MadeQuestions made = make_questions(model, data_, file, {});
  EXPECT_EQ(made.passages, 2);
  EXPECT_FALSE(std::filesystem::exists(progress));
  // What a person may have corrected is not made anew.
  write_file_atomically(file, "{\"questions\": [\"a\"], \"answer\": \"b\"}\n");
  expect_error(ErrorCode::kConflict, [&] { (void)make_questions(model, data_, file, {}); });
  EXPECT_EQ(read_file(file), "{\"questions\": [\"a\"], \"answer\": \"b\"}\n");
}

TEST_F(MakeQuestions, NeedAModelThatReadsAndADocument) {
  const auto file = folder_ / "made.jsonl";
  expect_error(ErrorCode::kUnsupported,
               [&] { (void)make_questions(open(Tell::kValue), data_, file, {}); });
  data_.items.clear();
  expect_error(ErrorCode::kInvalidArgument,
               [&] { (void)make_questions(open(Tell::kNote), data_, file, {}); });
  EXPECT_FALSE(std::filesystem::exists(file));
}

}  // namespace
}  // namespace accrete
