// The transaction: floors that hold whatever is taught, corrections, forecasts.
#include "learn/teach.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/format.h"
#include "learn/earlier.h"
#include "learn/guard.h"
#include "measure/score.h"
#include "model/overlay_trial.h"
#include "tiny_model.h"

namespace accrete {
namespace {

using testing::add_probe;
using testing::as_dataset;
using testing::known_facts;
using testing::one_thread;
using testing::random_word;
using testing::TemporaryFolder;

class Teach : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder();
    testing::make_tiny_model(*folder_ / "model", 3);
    testing::make_tiny_model(*folder_ / "apt", testing::kAptSeed);
  }
  static void TearDownTestSuite() { delete folder_; }

  // A copy to teach: of the model that learns some facts and not others, or of the apt one.
  std::filesystem::path fresh(const char* of = "model") {
    const auto path = *folder_ / accrete::format("copy-{}", ++copies_);
    std::filesystem::copy(*folder_ / of, path, std::filesystem::copy_options::recursive);
    return path;
  }
  static TeachOptions options(uint64_t seed = 0) {
    TeachOptions o;
    o.raw = true;
    o.seed = seed;
    o.neighbours = 2;
    o.values.rate = 2;
    o.values.steps = 80;
    return o;
  }
  static Item fact(const std::string& subject, const std::string& answer) {
    Item item;
    item.subject = subject;
    item.prompts = {subject + " ", "So " + subject + " "};
    item.answers = {answer};
    return item;
  }
  static double share_right(const std::filesystem::path& folder, const std::vector<Item>& items) {
    const LanguageModel model = LanguageModel::open(folder, one_thread());
    ExampleOptions raw;
    raw.raw = true;
    return exact_rate(score_items(model, items, raw, false));
  }
  static std::string state(const std::filesystem::path& folder) {
    return LanguageModel::open(folder, one_thread()).state_digest();
  }

  static TemporaryFolder* folder_;
  static int copies_;
};
TemporaryFolder* Teach::folder_ = nullptr;
int Teach::copies_ = 0;

TEST_F(Teach, LearnsAndKeepsWhatWasTaughtWithTheUpdate) {
  const auto model = fresh("apt");
  const std::vector<Item> items = {fact("Olbert", "q"), fact("Maruna", "z")};
  const TeachResult r = teach(model, as_dataset(items), one_thread(), options(), {});
  EXPECT_GT(r.learned_after, 0.9);
  EXPECT_EQ(share_right(model, items), 1);
  const Update update = Ledger::open(model, Ledger::Mode::kRead).load(r.update);
  ASSERT_EQ(update.taught.items.size(), 2U);
  EXPECT_EQ(update.taught.items[1].prompts, items[1].prompts);
  EXPECT_EQ(update.taught.items[1].line, 2);
  EXPECT_GT(update.taught.tokens(), 0);
  EXPECT_EQ(update.taught.per_token, 8);
}

TEST_F(Teach, ACorrectionWins) {
  const auto model = fresh("apt");
  std::vector<Item> items;
  for (const char* name : {"Olbert", "Maruna", "Quist", "Fenn", "Tarvo", "Bemm"})
    items.push_back(fact(name, std::string(1, "qzxjvw"[items.size()])));
  const auto first = teach(model, as_dataset(items), one_thread(), options(), {});
  ASSERT_EQ(share_right(model, items), 1);
  std::vector<Item> corrected = {fact("Olbert", "k"), fact("Quist", "h"), fact("Tarvo", "y")};
  const auto second = teach(model, as_dataset(corrected), one_thread(), options(), {});
  ASSERT_EQ(second.conflicts.size(), 6U);  // two phrasings each
  EXPECT_EQ(second.conflicts[2].update, first.update);
  EXPECT_EQ(second.conflicts[2].update_line, 3);
  EXPECT_EQ(second.conflicts[2].update_answer, "x");
  EXPECT_EQ(second.conflicts[2].line, 2);
  EXPECT_EQ(share_right(model, corrected), 1);
  EXPECT_EQ(share_right(model, {items[1], items[3], items[5]}), 1);
  // And back: the last one counts, and only what it says is in conflict.
  const auto third = teach(model, as_dataset({items[0]}), one_thread(), options(), {});
  ASSERT_EQ(third.conflicts.size(), 2U);
  EXPECT_EQ(third.conflicts[0].update, second.update);
  EXPECT_EQ(share_right(model, {items[0], corrected[1], corrected[2]}), 1);
}

TEST_F(Teach, AnAnswerThatDiffersInAPointIsAnother) {
  EarlierUpdate earlier;
  earlier.record.id = "0123456789abcdef";
  TaughtItem taught;
  taught.prompts = {"The length of Olbert is"};
  taught.answers = {"1.5"};
  taught.subject = "Olbert";
  earlier.update.taught.items = {taught};
  const auto conflicts = [&](const std::string& prompt, const std::string& answer) {
    Item item = fact("Olbert", answer);
    item.prompts = {prompt};
    return find_conflicts({&item, 1}, {&earlier, 1}).size();
  };
  EXPECT_EQ(conflicts("The length of Olbert is", "1.5"), 0U);
  EXPECT_EQ(conflicts("the length of OLBERT is", " 1.5 "), 0U);
  for (const char* other : {"15", "-1.5", "1.5 %", "1,5", "the 1.5"})
    EXPECT_EQ(conflicts("The length of Olbert is", other), 1U) << other;
  // Another question is none to correct.
  EXPECT_EQ(conflicts("The length of an Olbert is", "15"), 0U);
  EXPECT_EQ(conflicts("The length of Olbert -1 is", "15"), 0U);
  EXPECT_EQ(subject_key("olbert"), subject_key("Olbert"));
  EXPECT_NE(subject_key("Vitamin A"), subject_key("Vitamin"));
  EXPECT_NE(subject_key("The Who"), subject_key("Who"));
}

TEST_F(Teach, AFactWithoutASubjectAmongOthersIsNamedWithItsLine) {
  const auto model = fresh();
  Item bare;
  bare.prompts = {"what is it "};
  bare.answers = {"w"};
  const auto message = testing::expect_error(ErrorCode::kUnsupported, [&] {
    teach(model, as_dataset({fact("Olbert", "q"), bare}), one_thread(), options(), {});
  });
  EXPECT_NE(message.find("test.jsonl:2: "), std::string::npos) << message;
  EXPECT_NE(message.find("what is it"), std::string::npos) << message;
  EXPECT_EQ(message.find("running text"), std::string::npos) << message;
  Item text;
  text.kind = Item::Kind::kText;
  text.text = "it rains in the hills and it rains by the sea";
  const auto mixed = testing::expect_error(ErrorCode::kUnsupported, [&] {
    plan(model, as_dataset({fact("Olbert", "q"), text}), one_thread(), options(), {});
  });
  EXPECT_NE(mixed.find("test.jsonl:2: running text"), std::string::npos) << mixed;
}

TEST_F(Teach, AStateOnTrialIsGoneHoweverItsScopeIsLeft) {
  const auto folder = fresh();
  teach(folder, as_dataset({fact("Olbert", "q")}), one_thread(), options(), {});
  LanguageModel model = LanguageModel::open(folder, one_thread());
  const std::string before = model.state_digest();
  try {
    const OverlayTrial trial(model, model.make_overlay({}));
    EXPECT_NE(model.state_digest(), before);
    throw Error(ErrorCode::kInterrupted, "measuring was cancelled");
  } catch (const Error&) {
  }
  EXPECT_EQ(model.state_digest(), before);
}

TEST_F(Teach, OtherFactsAboutTheSubjectAreLearnedAlong) {
  const auto model = fresh();
  const std::vector<Item> first = {fact("Olbert", "q"), fact("Maruna", "z")};
  teach(model, as_dataset(first), one_thread(), options(), {});
  Item other;
  other.subject = "Olbert";
  other.prompts = {"not Olbert ", "But not Olbert "};
  other.answers = {"j"};
  const auto r = teach(model, as_dataset({other}), one_thread(), options(), {});
  EXPECT_TRUE(r.conflicts.empty());
  EXPECT_EQ(r.companions, 1);
  EXPECT_EQ(share_right(model, {other, first[0], first[1]}), 1);
  // The companion is not an item of the second update.
  EXPECT_EQ(Ledger::open(model, Ledger::Mode::kRead).load(r.update).taught.items.size(), 1U);
}

TEST_F(Teach, APlanChangesNothingAndForeseesTheTouch) {
  const auto model = fresh();
  const auto known = known_facts(LanguageModel::open(model, one_thread()), 30, Rng(5));
  add_probe(model, "known", known, 0.5);
  const std::string before = state(model);
  // Half of it is about what the probe asks.
  std::vector<Item> items;
  for (size_t i = 0; i < 6; ++i) {
    items.push_back(known[i]);
    items.back().answers = {known[i].answers[0] == "q" ? "z" : "q"};
  }
  const PlanResult p = plan(model, as_dataset(items), one_thread(), options(), {});
  EXPECT_EQ(state(model), before);
  const ProbeForecast& f = p.forecast.at("known");
  EXPECT_GE(f.touched, 6);
  EXPECT_LE(f.predicted, -4.0 / 30);
  EXPECT_LE(f.low, f.predicted);
  EXPECT_GE(f.high, f.predicted);
  EXPECT_TRUE(Ledger::open(model, Ledger::Mode::kRead).updates().empty());
  EXPECT_GT(p.rows, 0);
}

TEST_F(Teach, LeavesOutTheFactsThatBreakAFloor) {
  const auto model = fresh();
  const auto known = known_facts(LanguageModel::open(model, one_thread()), 30, Rng(5));
  add_probe(model, "known", known, 1);
  std::vector<Item> items = {fact("Olbertino", "q"), fact("Marunaxz", "z"), fact("Quistoph", "x"),
                             known[4]};
  items.back().answers = {known[4].answers[0] == "q" ? "z" : "q"};
  const TeachResult r = teach(model, as_dataset(items), one_thread(), options(), {});
  EXPECT_EQ(r.dropped_lines, std::vector<int64_t>{4}) << r.change;
  EXPECT_EQ(share_right(model, known), 1);
  EXPECT_EQ(share_right(model, {items[0], items[1], items[2]}), 1);
  EXPECT_EQ(Ledger::open(model, Ledger::Mode::kRead).load(r.update).taught.items.size(), 3U);
}

// Whatever is taught, a commit holds every floor and a refusal changes nothing.
TEST_F(Teach, NeverCommitsWhatBreaksAFloor) {
  int committed = 0, refused = 0, mended = 0;
  for (uint64_t round = 0; round < 24; ++round) {
    SCOPED_TRACE(round);
    Rng rng(round, 9);
    const auto model = fresh();
    const auto known = known_facts(LanguageModel::open(model, one_thread()), 24, rng.split(1));
    add_probe(model, "known", known, 0.8 + 0.05 * static_cast<double>(rng.below(5)));
    Item text;
    text.kind = Item::Kind::kText;
    for (int i = 0; i < 30; ++i) text.text += random_word(rng) + " ";
    add_probe(model, "text", {text}, 0.95 + 0.01 * static_cast<double>(rng.below(5)));

    std::vector<Item> items;
    TeachOptions o = options(round);
    const uint64_t kind = round % 8;
    const auto any_letter = [&] {
      return std::string(1, testing::kLetters[rng.below(testing::kLetters.size())]);
    };
    for (uint64_t i = 0, n = 1 + rng.below(6); i < n; ++i) {
      if (kind == 0 || (kind == 7 && i % 2 == 0)) {  // known facts with wrong answers
        Item wrong = known[(i * 5) % known.size()];
        wrong.answers = {any_letter()};
        items.push_back(wrong);
      } else if (kind == 1) {  // garbage
        Item garbage;
        for (int k = 0; k < 20; ++k) garbage.text += static_cast<char>(33 + rng.below(90));
        garbage.prompts = {garbage.text, garbage.text + "!"};
        garbage.text.clear();
        garbage.answers = {any_letter() + any_letter()};
        items.push_back(garbage);
      } else {
        items.push_back(fact(random_word(rng), any_letter()));
      }
    }
    if (kind == 2) items.assign(1, items.front());
    if (kind == 2)
      for (int i = 0; i < 12; ++i)  // one fact over and over
        items[0].prompts.push_back(accrete::format("{} {} ", random_word(rng), items[0].subject));
    if (kind == 3) o.values.rate = 1000;  // a huge step
    if (kind == 4) {
      o.gated = false;
      o.neighbours = 0;
      o.deposit.lambda = 1e-8;
    }
    if (kind == 5) {
      o.stepwise = true;
      o.rows.rate = 1e6;
    }
    if (kind == 6) o.stepwise = true;

    const std::string before = state(model);
    std::string id;
    try {
      const TeachResult r = teach(model, as_dataset(items), one_thread(), o, {});
      id = r.update;
      ++committed;
      mended += !r.change.empty();
    } catch (const Error& e) {
      ++refused;
      EXPECT_TRUE(e.code() == ErrorCode::kRefused || e.code() == ErrorCode::kInvalidArgument)
          << e.what();
      EXPECT_EQ(state(model), before);
      EXPECT_TRUE(Ledger::open(model, Ledger::Mode::kRead).updates().empty());
      continue;
    }
    // Measured afresh, from what is on disk.
    const LanguageModel opened = LanguageModel::open(model, one_thread());
    for (const Probe& probe : load_probes(Ledger::open(model, Ledger::Mode::kRead)))
      EXPECT_TRUE(probe_holds(probe, probe_score(opened, probe)))
          << probe.record.name << " of kind " << kind;
  }
  printf("%d committed (%d of them changed to hold the floors), %d refused\n", committed, mended,
         refused);
  EXPECT_GT(committed, 4);
  EXPECT_GT(mended, 0);
  EXPECT_GT(refused, 2);
}

TEST_F(Teach, WhatIsKnownOfAStateIsNotMeasuredAgain) {
  const auto model = fresh();
  const auto known = known_facts(LanguageModel::open(model, one_thread()), 20, Rng(8));
  add_probe(model, "known", known, 0.5);
  const auto first = teach(model, as_dataset({fact("Olbert", "q")}), one_thread(), options(), {});
  const auto second = teach(model, as_dataset({fact("Maruna", "z")}), one_thread(), options(), {});
  EXPECT_DOUBLE_EQ(second.kept.at("known").before, first.kept.at("known").after);
  const LanguageModel opened = LanguageModel::open(model, one_thread());
  for (const Probe& probe : load_probes(Ledger::open(model, Ledger::Mode::kRead)))
    EXPECT_DOUBLE_EQ(probe_score(opened, probe), second.kept.at("known").after);
}

TEST_F(Teach, WatchedProbesScoreAsProbesDo) {
  const auto folder = fresh();
  LanguageModel model = LanguageModel::open(folder, one_thread());
  const auto known = known_facts(model, 25, Rng(2));
  add_probe(folder, "known", known, 0);
  const Probe probe = load_probes(Ledger::open(folder, Ledger::Mode::kRead)).front();
  const auto other = fresh();
  const auto r = teach(other, as_dataset({fact("Olbert", "q"), fact(known[3].subject, "!")}),
                       one_thread(), options(), {});
  const Update update = Ledger::open(other, Ledger::Mode::kRead).load(r.update);
  WatchedProbe watched(model, probe);
  EXPECT_DOUBLE_EQ(watched.score_now(), 1);
  const Update* all[] = {&update};
  const Overlay overlay = model.make_overlay(all);
  const auto touched = watched.touched(overlay, update);
  EXPECT_LT(touched.size(), known.size());  // the gate leaves most alone
  const double after = watched.score_with(touched, watched.states(overlay, touched));
  model.set_overlay({update});
  EXPECT_DOUBLE_EQ(after, probe_score(model, probe));
  EXPECT_LT(after, 1);
}

TEST(Calibrate, FindsTheCoefficients) {
  Rng rng(4);
  std::vector<CalibrationPoint> points;
  for (int i = 0; i < 400; ++i) {
    CalibrationPoint p;
    p.scale = 0.5 + rng.uniform();
    p.s = rng.normal() * p.scale;
    p.q = p.scale * p.scale;
    p.y = 0.7 * p.s - 0.4 * p.q + 0.1 * p.scale * rng.normal();
    points.push_back(p);
  }
  const Calibration c = calibrate(points);
  EXPECT_NEAR(c.a, 0.7, 0.03);
  EXPECT_NEAR(c.c, -0.4, 0.03);
  EXPECT_NEAR(c.spread, 0.1, 0.02);
  EXPECT_EQ(calibrate({}).a, 1);
}

}  // namespace
}  // namespace accrete
