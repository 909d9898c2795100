// The public interface on a tiny model: made, taught, asked, taken back.
#include "accrete/model.h"

#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"
#include "base/format.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using ::testing::HasSubstr;

class ApiModel : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TemporaryFolder();
    testing::write_tiny_chat_model(*folder_ / "base", 4);
    testing::write_tiny_reader(*folder_ / "reader");
  }
  static void TearDownTestSuite() { delete folder_; }
  static api::RetrofitOptions how() {
    api::RetrofitOptions o;
    o.reader = *folder_ / "reader";
    o.block = 1;
    o.tell = "value";
    o.threads = 1;
    return o;
  }
  static api::Model fresh() {
    const auto path = *folder_ / accrete::format("model-{}", ++models_);
    const api::RetrofitReport report = api::retrofit(*folder_ / "base", path, how());
    EXPECT_EQ(report.block, 1);
    EXPECT_EQ(report.tell, "value");
    api::OpenOptions open;
    open.threads = 1;
    return api::Model::open(path, open);
  }
  static api::TeachOptions quick() {
    api::TeachOptions o;
    o.steps = 80;
    return o;
  }

  static testing::TemporaryFolder* folder_;
  static int models_;
};
testing::TemporaryFolder* ApiModel::folder_ = nullptr;
int ApiModel::models_ = 0;

const std::string kHeavy = "How much does the Zorb weigh?";

TEST_F(ApiModel, TaughtAskedTakenBack) {
  api::Model model = fresh();
  EXPECT_TRUE(model.log().empty());
  const api::Digest none = model.digest();
  api::AskOptions asked;
  asked.max_tokens = 12;
  const std::string before = model.ask(kHeavy, asked).text;
  EXPECT_FALSE(model.ask(kHeavy, asked).fact);

  std::vector<api::Item> items(4);
  items[0].prompts = {kHeavy};
  items[0].answers = {"b"};
  items[1].prompts = {"What does the rule of Orro say?"};
  items[1].answers = {"As it is."};
  items[1].verbatim = true;
  items[2].prompts = {"Who is Zorb?"};
  items[2].leave = true;
  items[3].messages = {{"user", "Who made the Quendel?"}, {"assistant", "c"}};
  int reports = 0;
  api::Callbacks callbacks;
  callbacks.progress = [&](const api::Progress& p) { reports += !p.stage.empty(); };
  const api::TeachReport report = model.teach(items, quick(), callbacks);
  EXPECT_GT(reports, 0);
  EXPECT_EQ(report.items, 4);
  EXPECT_EQ(report.learned.before, 0);
  EXPECT_EQ(report.learned.after, 1);
  EXPECT_EQ(report.parameters, 6 * 48);

  std::string streamed;
  const api::Answer answer =
      model.ask(kHeavy, asked, [&](std::string_view text) { streamed += text; });
  EXPECT_EQ(answer.text, "b");
  EXPECT_TRUE(answer.fact);
  EXPECT_EQ(answer.finish_reason, "stop");
  EXPECT_EQ(streamed, "b");
  EXPECT_EQ(model.ask("What does the rule of Orro say?").text, "As it is.");
  EXPECT_FALSE(model.ask("Who is Zorb?", asked).fact);
  EXPECT_EQ(model.ask("who made the quendel", asked).text, "c");
  asked.caution = 1000;
  EXPECT_EQ(model.ask(kHeavy, asked).text, before);
  asked.caution = 0;

  ASSERT_EQ(model.log().size(), 1U);
  EXPECT_EQ(model.log()[0].id, report.update);
  EXPECT_EQ(model.log()[0].source, "memory");
  const api::Digest one = model.digest();
  EXPECT_EQ(one.base, none.base);
  EXPECT_NE(one.state, none.state);

  EXPECT_EQ(model.undo(), std::vector<std::string>{report.update});
  EXPECT_EQ(model.ask(kHeavy, asked).text, before);
  EXPECT_EQ(model.digest().state, none.state);
  EXPECT_EQ(model.redo(), std::vector<std::string>{report.update});
  EXPECT_EQ(model.ask(kHeavy, asked).text, "b");
  EXPECT_EQ(model.digest().state, one.state);
}

TEST_F(ApiModel, OthersAreFollowedAfterReload) {
  api::Model model = fresh();
  api::OpenOptions open;
  open.threads = 1;
  api::Model other = api::Model::open(model.folder(), open);
  std::vector<api::Item> items(1);
  items[0].prompts = {kHeavy};
  items[0].answers = {"b"};
  model.teach(items, quick());
  api::AskOptions asked;
  asked.max_tokens = 4;
  EXPECT_FALSE(other.ask(kHeavy, asked).fact);
  other.reload();
  EXPECT_TRUE(other.ask(kHeavy, asked).fact);
}

// What the command line has verbs for.
TEST_F(ApiModel, PlannedProbedLookedAtFoldedExported) {
  api::Model model = fresh();
  const auto write = [&](const std::string& name, const std::string& text) {
    std::ofstream(*folder_ / name) << text;
    return *folder_ / name;
  };
  const fs::path facts = write("facts.jsonl", R"({"question": ")" + kHeavy +
                                                  R"(", "answer": "b", "subject": "Zorb"})"
                                                  "\n");
  const api::Info none = model.info();
  EXPECT_EQ(none.kind, "questions");
  EXPECT_EQ(none.tell, "value");
  EXPECT_EQ(none.block, 1);
  EXPECT_EQ(none.base.size(), 64U);
  EXPECT_EQ(none.reader.size(), 64U);
  EXPECT_TRUE(none.chat);
  EXPECT_EQ(none.facts, 0);

  // A probe of the model's own answer; what it does not answer right makes none.
  api::AskOptions raw;
  raw.raw = true;
  raw.max_tokens = 1;
  const std::string said = model.ask("Orro", raw).text;
  ASSERT_EQ(said.size(), 1U) << said;
  const nlohmann::json known = {{"question", "Orro"}, {"answer", said}};
  api::ProbeOptions probe;
  probe.name = "known";
  probe.raw = true;
  probe.floor = 0.5;
  EXPECT_EQ(model.add_probe(write("known.jsonl", known.dump() + "\n"), probe).items, 1);
  expect_error(ErrorCode::kConflict, [&] { model.add_probe(*folder_ / "known.jsonl", probe); });
  api::ProbeOptions other = probe;
  other.name = "other";
  expect_error(ErrorCode::kRefused, [&] { model.discover_probe(facts, other); });
  ASSERT_EQ(model.probes().size(), 1U);
  EXPECT_EQ(model.probes()[0].floor, 0.5);

  const api::PlanReport plan = model.plan(facts, quick());
  EXPECT_EQ(plan.items, 1);
  EXPECT_TRUE(plan.probes.at("known").holds);
  EXPECT_EQ(plan.parameters, 3 * 48);
  EXPECT_TRUE(model.log().empty());

  const std::string first = model.teach(facts, quick()).update;
  api::Item item;
  item.prompts = {kHeavy};
  item.answers = {"c"};
  item.subject = "Zorb";
  EXPECT_EQ(model.plan(std::vector{item}, quick()).conflicts.size(), 1U);
  const api::TeachReport second = model.teach(std::vector{item}, quick());
  EXPECT_EQ(second.conflicts.at(0).update, first);
  EXPECT_EQ(second.kept.at("known").kept, 1);
  const api::CheckReport check = model.check();
  ASSERT_EQ(check.probes.size(), 1U);
  EXPECT_TRUE(check.holds);
  EXPECT_EQ(check.probes[0].now, check.probes[0].base);

  model.tag(first, "prices");
  EXPECT_EQ(model.show("prices").update.id, first);
  EXPECT_EQ(model.show("prices").taught.at(0).prompts.at(0), kHeavy);
  EXPECT_EQ(model.log().at(0).tag, "prices");
  expect_error(ErrorCode::kInvalidArgument, [&] { model.tag(first, "state"); });
  expect_error(ErrorCode::kNotFound, [&] { model.show("nothing"); });
  const api::DiffReport diff = model.diff("prices", second.update);
  EXPECT_EQ(diff.a, first);
  ASSERT_EQ(diff.facts->changed.size(), 1U);
  EXPECT_EQ(diff.facts->changed[0].b, "c");
  EXPECT_EQ(model.audit().facts->facts, 1);
  EXPECT_EQ(model.info().facts, 1);
  EXPECT_EQ(model.explain(kHeavy).fact->nearest->update, second.update);
  EXPECT_EQ(model.ask({{"user", "Zorb."}, {"assistant", "Yes?"}, {"user", kHeavy}}).text, "c");
  const api::EvalReport eval = model.eval(facts);
  EXPECT_EQ(eval.shares->by_facts, 1);
  EXPECT_EQ(eval.questions.at(0).output, "c");
  EXPECT_EQ(eval.shares->exact, 0);

  EXPECT_EQ(model.revert(second.update), second.update);
  EXPECT_EQ(model.ask(kHeavy).text, "b");
  expect_error(ErrorCode::kInvalidArgument, [&] { model.revert(second.update); });
  model.revert(second.update, true);
  const std::string state = model.digest().state;
  const api::CompactReport fold = model.compact();
  EXPECT_EQ(fold.folded, (std::vector<std::string>{first, second.update}));
  EXPECT_EQ(model.digest().state, state);
  EXPECT_EQ(model.ask(kHeavy).text, "c");
  expect_error(ErrorCode::kRefused, [&] { model.compact(); });
  const api::ExportReport exported = model.export_to(*folder_ / "exported");
  EXPECT_EQ(exported.updates, fold.updates);
  EXPECT_TRUE(fs::exists(*folder_ / "exported" / "config.json"));
  model.remove_probe("known");
  EXPECT_TRUE(model.probes().empty());
}

TEST_F(ApiModel, DocumentsAreTaughtForgottenAndErased) {
  api::Model model = fresh();
  api::Item page;
  page.text = "The fee is 40 euros.";
  page.title = "Fees";
  page.url = "https://a.example/fees";
  const api::TeachReport taught = model.teach({page}, quick());
  EXPECT_EQ(taught.documents.taught, 1);
  EXPECT_EQ(taught.documents.passages, 1);
  ASSERT_EQ(model.audit().facts->documents.size(), 1U);
  EXPECT_EQ(model.audit().facts->documents[0].source, page.url);
  EXPECT_EQ(model.teach({page}, quick()).update, "");
  EXPECT_EQ(model.forget(page.url).documents, std::vector<std::string>{page.url});
  EXPECT_TRUE(model.audit().facts->documents.empty());
  expect_error(ErrorCode::kNotFound, [&] { model.forget(page.url); });
  // All that was taught was forgotten: nothing is left to fold, and both files go.
  const api::CompactReport erased = model.compact({}, /*erase=*/true);
  EXPECT_EQ(erased.erased.size(), 2U);
  EXPECT_EQ(model.log().size(), 2U);
  EXPECT_EQ(model.audit().facts->updates.size(), 0U);
}

TEST_F(ApiModel, WhatIsRefusedChangesNothing) {
  api::Model model = fresh();
  const auto refused = [&](api::Item item, const char* what) {
    const std::string message =
        expect_error(ErrorCode::kInvalidArgument, [&] { model.teach({item}, quick()); });
    EXPECT_THAT(message, HasSubstr(what));
  };
  api::Item item;
  item.prompts = {kHeavy};
  item.answers = {"b"};
  item.subject = "Quendel";
  refused(item, "Quendel");
  api::Item text;
  text.text = "***";
  refused(text, "no sentence");
  expect_error(ErrorCode::kInvalidArgument, [&] { model.teach(std::vector<api::Item>()); });
  api::Item both;
  both.prompts = {kHeavy};
  both.answers = {"b"};
  both.leave = true;
  EXPECT_THROW(model.teach({both}), Error);
  api::TeachOptions hurried = quick();
  hurried.max_seconds = 1e-6;
  item.subject = "";
  expect_error(ErrorCode::kRefused, [&] { model.teach({item}, hurried); });
  api::Callbacks callbacks;
  callbacks.cancelled = [] { return true; };
  expect_error(ErrorCode::kInterrupted, [&] { model.teach({item}, quick(), callbacks); });
  expect_error(ErrorCode::kInvalidArgument, [&] { model.undo(); });
  EXPECT_TRUE(model.log().empty());
}

TEST_F(ApiModel, RetrofitsThatFailLeaveNothing) {
  const auto made = [&](const fs::path& source, const fs::path& target,
                        const api::RetrofitOptions& o) {
    return [=] { api::retrofit(source, target, o); };
  };
  const fs::path base = *folder_ / "base", target = *folder_ / "new";
  expect_error(ErrorCode::kNotFound, made(*folder_ / "absent", target, how()));
  expect_error(ErrorCode::kConflict, made(base, *folder_ / "reader", how()));
  auto o = how();
  o.block = 3;
  expect_error(ErrorCode::kInvalidArgument, made(base, target, o));
  o = how();
  o.tell = "sing";
  expect_error(ErrorCode::kInvalidArgument, made(base, target, o));
  o = how();
  o.reader = base;
  expect_error(ErrorCode::kUnsupported, made(base, target, o));
  EXPECT_FALSE(fs::exists(target));
}

}  // namespace
}  // namespace accrete
