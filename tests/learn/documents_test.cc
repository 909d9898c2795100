// Documents taught to a tiny model, whole transactions. Its caution is far below 0, so that a
// passage is accepted for every question.
#include "learn/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"
#include "learn/fact_inspect.h"
#include "learn/fact_teach.h"
#include "model/ask.h"
#include "model/fact_memory.h"
#include "model/memory_files.h"
#include "model/state_digest.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TemporaryFolder;

OpenOptions documents_thread() {
  OpenOptions open;
  open.threads = 1;
  return open;
}

Item document(const std::string& source, const std::string& body) {
  Item item;
  item.kind = Item::Kind::kText;
  item.source = source;
  item.text = body;
  item.markdown = true;
  item.line = 1;
  return item;
}
Item short_fact(const std::string& question, const std::string& answer) {
  Item item;
  item.prompts = {question};
  item.answers = {answer};
  item.line = 1;
  return item;
}
Dataset documents_set(std::vector<Item> items) {
  Dataset data;
  data.path = "set.jsonl";
  data.digest = std::string(64, 'a');
  data.items = std::move(items);
  return data;
}

class Documents : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::write_tiny_fact_model(folder_ / "model", 4);
    auto info = load_fact_memory_info(model_, 4);
    info.caution = -200;
    info.tell = Tell::kNote;
    save_fact_memory(model_, info, load_memory_info(model_));
  }
  TeachResult learn(std::vector<Item> items) {
    TeachOptions options;
    options.tool_version = "test";
    options.facts.steps = options.facts.more_steps = 80;
    options.facts.rate = 1;
    return teach(model_, documents_set(std::move(items)), documents_thread(), options, {});
  }
  LanguageModel open() const { return LanguageModel::open(model_, documents_thread()); }
  Asked asked(const std::string& question) const {
    const LanguageModel model = open();
    const AskRequest request = single_question(model, question, false);
    AskOptions how;
    how.generate.max_tokens = 8;
    return ask(model, {&request, 1}, how).front();
  }
  std::string state() const {
    const LanguageModel model = open();
    EXPECT_EQ(model.state_digest(), state_digest(model, Ledger::open(model_, Ledger::Mode::kRead)));
    return model.state_digest();
  }

  TemporaryFolder folder_;
  fs::path model_ = folder_ / "model";
};

TEST_F(Documents, AreToldInFrontOfTheQuestionThatTheyAnswer) {
  const std::string base = state();
  const TeachResult r =
      learn({document("a.md", "# Fees\n\nThe fee is 40.\n\n# Pool\n\nBring a towel.")});
  EXPECT_EQ(r.documents.taught, 1);
  EXPECT_EQ(r.documents.passages, 2);
  const Asked answer = asked("What is the fee?");
  ASSERT_FALSE(answer.choice.passages.empty());
  EXPECT_LT(answer.choice.fact, 0);
  const LanguageModel model = open();
  const TaughtItem& told = model.facts().store().fact(answer.choice.passages[0].fact).text();
  EXPECT_EQ(told.section, "Fees");
  EXPECT_EQ(note_of_passages(model, answer.choice).substr(0, 21), "[Fees]\nThe fee is 40.");
  // It is in the prompt of this turn, and in none that follows.
  const AskRequest request = single_question(model, "What is the fee?", false);
  const PreparedAsk told_so = prepare_ask(model, request, answer.choice);
  EXPECT_FALSE(told_so.word_for_word.has_value());
  EXPECT_GT(told_so.prompt.size(), prepare_ask(model, request, {}).prompt.size());
  Ledger::open(model_, Ledger::Mode::kWrite).undo();
  EXPECT_EQ(state(), base);
}

TEST_F(Documents, AreQuotedWhereTheModelDoesNotRead) {
  auto info = load_fact_memory_info(model_, 4);
  info.tell = Tell::kValue;
  save_fact_memory(model_, info, load_memory_info(model_));
  learn({document("a.md", "# Fees\n\n- The fee is 40.\n- Children pay nothing.")});
  EXPECT_EQ(asked("The fee is 40").generation.text, "The fee is 40.");
  EXPECT_EQ(asked("Children pay nothing").generation.text, "Children pay nothing.");
}

TEST_F(Documents, TheSameAgainIsNothingNewAndAnotherVersionReplacesIt) {
  learn({document("a.md", "The fee is 40."), document("b.md", "Bring a towel.")});
  const std::string before = state();
  const TeachResult same =
      learn({document("a.md", "The fee is 40."), document("b.md", "Bring a towel.")});
  EXPECT_EQ(same.update, "");
  EXPECT_EQ(same.documents.unchanged, 2);
  EXPECT_EQ(state(), before);
  const TeachResult other =
      learn({document("a.md", "The fee is 45."), document("b.md", "Bring a towel.")});
  EXPECT_EQ(other.documents.replaced, 1);
  EXPECT_EQ(other.documents.unchanged, 1);
  const LanguageModel model = open();
  ASSERT_EQ(model.facts().store().passages().size(), 2U);
  std::string all;
  for (const int64_t f : model.facts().store().passages())
    all += model.facts().store().fact(f).text().prompts.front();
  EXPECT_EQ(all.find("40"), std::string::npos);
  Ledger::open(model_, Ledger::Mode::kWrite).undo();
  EXPECT_EQ(state(), before);
}

TEST_F(Documents, TheSameTextElsewhereIsTaughtOnceAndOneWithoutASentenceIsLeftOut) {
  const TeachResult r = learn({document("a.md", "The fee is 40."), document("b.md", "# Alone"),
                               document("https://c", "The fee is 40.")});
  EXPECT_EQ(r.documents.taught, 1);
  EXPECT_EQ(r.documents.unchanged, 1);
  ASSERT_EQ(r.remarks.size(), 2U);
  EXPECT_EQ(r.remarks[0], "b.md: there is no sentence in it, left out");
  EXPECT_EQ(r.remarks[1], "https://c is the same as a.md, which is taught: left out");
  EXPECT_EQ(learn({document("d.md", "The fee is 40.")}).update, "");
  // A page that becomes what another is replaces itself all the same.
  learn({document("e.md", "Bring a towel.")});
  EXPECT_EQ(learn({document("e.md", "The fee is 40.")}).documents.replaced, 1);
}

TEST_F(Documents, WhatStandsForErasedUpdatesCannotBeTakenBack) {
  learn({document("a.md", "The fee is 40.")});
  learn({document("a.md", "The fee is 45.")});
  const auto model_in = [this](const Ledger&, const std::vector<UpdateRecord>&) { return open(); };
  (void)compact_facts(model_, model_in, "test", {});
  const std::string before = state();
  Ledger ledger = Ledger::open(model_, Ledger::Mode::kWrite);
  EXPECT_EQ(ledger.erase_inactive().size(), 2U);
  EXPECT_TRUE(ledger.erase_inactive().empty());
  EXPECT_THAT(expect_error(ErrorCode::kRefused, [&] { ledger.undo(); }),
              ::testing::HasSubstr("cannot be taken back"));
  EXPECT_EQ(state(), before);
  EXPECT_EQ(ledger.updates().size(), 3U);
}

TEST_F(Documents, AreForgottenByTheirSourceOrByTheirFolder) {
  learn({document("d/a.md", "The fee is 40."), document("d/b.md", "Bring a towel."),
         document("dd.md", "No dogs.")});
  const std::string before = state();
  const auto model_in = [this](const Ledger&, const std::vector<UpdateRecord>&) { return open(); };
  const ForgetResult r = forget_documents(model_, "d", model_in, "test");
  EXPECT_EQ(r.documents, (std::vector<std::string>{"d/a.md", "d/b.md"}));
  EXPECT_EQ(open().facts().store().size(), 1);
  EXPECT_EQ(r.after->state_digest(), state());
  expect_error(ErrorCode::kNotFound, [&] { forget_documents(model_, "d", model_in, "test"); });
  Ledger::open(model_, Ledger::Mode::kWrite).undo();
  EXPECT_EQ(state(), before);
}

TEST_F(Documents, StandBesideFactsAndAreFoldedWithThem) {
  learn({short_fact("How heavy is the Zorb?", "b"), document("a.md", "The fee is 40.")});
  learn({document("b.md", "Bring a towel.")});
  const std::string before = state();
  const auto model_in = [this](const Ledger&, const std::vector<UpdateRecord>&) { return open(); };
  const CompactResult r = compact_facts(model_, model_in, "test", {});
  EXPECT_EQ(r.digest_before, r.digest_after);
  EXPECT_EQ(state(), before);
  const FactAudit audit = audit_facts(Ledger::open(model_, Ledger::Mode::kRead));
  EXPECT_EQ(audit.facts, 1);
  ASSERT_EQ(audit.documents.size(), 2U);
  EXPECT_EQ(audit.documents[0].document, "a.md");
  EXPECT_EQ(audit.passages, 2);
  EXPECT_GE(asked("How heavy is the Zorb?").choice.fact, 0);
}

}  // namespace
}  // namespace accrete
