// What many updates come to: audit, explanations, folds.
#include <gtest/gtest.h>

#include "base/error.h"
#include "learn/audit.h"
#include "learn/compact.h"
#include "learn/explain.h"
#include "ledger/combine.h"
#include "measure/score.h"
#include "tiny_model.h"

namespace accrete {
namespace {

using testing::as_dataset;
using testing::one_thread;
using testing::random_word;
using testing::TemporaryFolder;

// Nine updates of two facts each and one of running text.
class ManyUpdates : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder();
    testing::make_tiny_model(model(), testing::kAptSeed);
    Rng rng(11);
    for (int u = 0; u < 10; ++u) {
      TeachOptions o;
      o.raw = true;
      o.neighbours = 2;
      o.values.rate = 2;
      o.values.steps = 80;
      std::vector<Item> items;
      if (u == 4) {
        Item text;
        text.kind = Item::Kind::kText;
        for (int i = 0; i < 20; ++i) text.text += random_word(rng) + " ";
        items = {text};
        o.rows.epochs = 2;
      } else {
        for (int i = 0; i < 2; ++i) {
          Item item;
          item.subject = random_word(rng) + random_word(rng);
          item.prompts = {item.subject + " ", "So " + item.subject + " "};
          item.answers = {std::string(1, testing::kLetters[rng.below(testing::kLetters.size())])};
          items.push_back(item);
        }
      }
      ids_.push_back(teach(model(), as_dataset(items), one_thread(), o, {}).update);
      taught_.push_back(items);
    }
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::filesystem::path model() { return *folder_ / "model"; }
  static std::string state() { return LanguageModel::open(model(), one_thread()).state_digest(); }
  static std::vector<std::string> active() {
    std::vector<std::string> out;
    for (const auto& r : Ledger::open(model(), Ledger::Mode::kRead).active()) out.push_back(r.id);
    return out;
  }

  static TemporaryFolder* folder_;
  static std::vector<std::string> ids_;
  static std::vector<std::vector<Item>> taught_;
};
TemporaryFolder* ManyUpdates::folder_ = nullptr;
std::vector<std::string> ManyUpdates::ids_;
std::vector<std::vector<Item>> ManyUpdates::taught_;

TEST_F(ManyUpdates, TheRightUpdateIsNamedFirst) {
  const LanguageModel model = LanguageModel::open(ManyUpdates::model(), one_thread());
  const auto all = load_members(Ledger::open(ManyUpdates::model(), Ledger::Mode::kRead));
  int asked = 0, first = 0, line = 0;
  for (size_t u = 0; u < taught_.size(); ++u)
    for (const Item& item : taught_[u]) {
      if (item.kind != Item::Kind::kFact) continue;
      const Explanation e = explain(model, all, item.prompts[1], item.answers[0], true);
      ++asked;
      ASSERT_FALSE(e.updates.empty());
      if (e.updates[0].update != ids_[u]) continue;
      ++first;
      EXPECT_GT(e.updates[0].effect, 0);
      ASSERT_FALSE(e.updates[0].lines.empty());
      line += e.updates[0].lines[0].question == item.prompts[0];
    }
  printf("right update first: %d of %d, right line first: %d\n", first, asked, line);
  EXPECT_GE(first * 100, asked * 95);
  EXPECT_GE(line * 100, asked * 90);
}

TEST_F(ManyUpdates, TheEffectIsWhatLeavingTheUpdateOutDoes) {
  LanguageModel model = LanguageModel::open(ManyUpdates::model(), one_thread());
  const auto all = load_earlier(Ledger::open(ManyUpdates::model(), Ledger::Mode::kRead));
  const Item& item = taught_[2][0];
  const Explanation e = explain(model, all, item.prompts[0], item.answers[0], true);
  ExampleOptions raw;
  raw.raw = true;
  const auto log_probability = [&](const std::vector<EarlierUpdate>& updates) {
    model.set_overlay(updates_of(updates));
    return -score_items(model, {&item, 1}, raw, false)[0].nll;
  };
  EXPECT_NEAR(e.log_probability, log_probability(all), 1e-4);
  EXPECT_NEAR(e.base_log_probability, log_probability({}), 1e-4);
  for (const Influence& u : e.updates) {
    auto rest = all;
    std::erase_if(rest, [&](const auto& x) { return x.record.id == u.update; });
    EXPECT_NEAR(u.effect, log_probability(all) - log_probability(rest), 1e-4);
  }
}

TEST_F(ManyUpdates, TheAuditAddsUp) {
  const auto all = load_earlier(Ledger::open(model(), Ledger::Mode::kRead));
  const LanguageModel opened = LanguageModel::open(model(), one_thread());
  const Memory& memory = opened.memory();
  const AuditReport r = audit(all, memory.blocks, memory.keys.slots(), 5);
  ASSERT_EQ(r.updates.size(), 10U);
  int64_t rows = 0, exclusive = 0;
  for (size_t i = 0; i < r.updates.size(); ++i) {
    EXPECT_EQ(r.updates[i].update, ids_[i]);
    EXPECT_EQ(r.updates[i].rows, all[i].record.rows);
    EXPECT_LE(r.updates[i].exclusive, r.updates[i].rows);
    rows += r.updates[i].rows;
    exclusive += r.updates[i].exclusive;
  }
  int64_t used = 0;
  for (const BlockUse& b : r.blocks) {
    EXPECT_EQ(b.slots, memory.keys.slots());
    const auto& overlay = memory.overlay.by_block.at(b.block);
    std::set<int64_t> slots(overlay.open.slots.begin(), overlay.open.slots.end());
    for (const auto* table : {&overlay.gated, &overlay.text})
      for (const int64_t key : table->key_span()) slots.insert(slot_of(key));
    EXPECT_EQ(b.used, static_cast<int64_t>(slots.size()));
    used += b.used;
  }
  EXPECT_LT(used, rows);  // some slots are shared
  EXPECT_LT(exclusive, used);
  ASSERT_FALSE(r.contested.empty());
  EXPECT_LE(r.contested.size(), 5U);
  EXPECT_GE(r.contested[0].updates.size(), 2U);
  EXPECT_LE(r.contested[0].norm, r.contested[0].sum_of_norms + 1e-6);
  ASSERT_FALSE(r.overlaps.empty());
  const auto d = compare_updates(
      all[static_cast<size_t>(std::find(ids_.begin(), ids_.end(), r.overlaps[0].a) - ids_.begin())]
          .update,
      all[static_cast<size_t>(std::find(ids_.begin(), ids_.end(), r.overlaps[0].b) - ids_.begin())]
          .update,
      0);
  EXPECT_EQ(d.shared(), r.overlaps[0].shared);
}

TEST_F(ManyUpdates, AFoldIsTheSameStateAndComesApartAgain) {
  const std::string before = state();
  const CompactResult r = compact(model(), one_thread(), "test");
  EXPECT_EQ(r.digest_before, before);
  EXPECT_EQ(r.digest_after, before);
  EXPECT_EQ(state(), before);
  // Nine gated updates in one; the open one has no company.
  ASSERT_EQ(r.updates.size(), 1U);
  EXPECT_EQ(r.folded.size(), 9U);
  EXPECT_EQ(active(), (std::vector<std::string>{ids_[4], r.updates[0]}));
  EXPECT_LE(r.rows_after, r.rows_before);
  testing::expect_error(ErrorCode::kRefused, [] { compact(model(), one_thread(), "test"); });

  // Conflicts and explanations still name the update that taught it.
  const LanguageModel opened = LanguageModel::open(model(), one_thread());
  const auto members = load_members(Ledger::open(model(), Ledger::Mode::kRead));
  EXPECT_EQ(members.size(), 10U);
  const Item& item = taught_[7][1];
  EXPECT_EQ(explain(opened, members, item.prompts[0], item.answers[0], true).updates[0].update,
            ids_[7]);
  Item other = item;
  other.answers = {item.answers[0] == "q" ? "z" : "q"};
  const auto conflicts =
      find_conflicts({&other, 1}, load_earlier(Ledger::open(model(), Ledger::Mode::kRead)));
  ASSERT_EQ(conflicts.size(), 2U);
  EXPECT_EQ(conflicts[0].update, ids_[7]);

  {
    Ledger ledger = Ledger::open(model(), Ledger::Mode::kWrite);
    EXPECT_EQ(ledger.undo(), r.updates);
  }
  EXPECT_EQ(active(), ids_);
  EXPECT_EQ(state(), before);
  {
    Ledger ledger = Ledger::open(model(), Ledger::Mode::kWrite);
    EXPECT_EQ(ledger.redo(), r.updates);
    EXPECT_EQ(active(), (std::vector<std::string>{ids_[4], r.updates[0]}));
    ledger.set_active(r.updates[0], false);
  }
  EXPECT_EQ(active(), ids_);
  // What was folded can be taken back for itself, and folding again is another fold.
  {
    Ledger ledger = Ledger::open(model(), Ledger::Mode::kWrite);
    ledger.undo();
  }
  const std::string without = state();
  const CompactResult again = compact(model(), one_thread(), "test");
  EXPECT_EQ(state(), without);
  EXPECT_NE(again.updates, r.updates);
}

}  // namespace
}  // namespace accrete
