#include "learn/anchors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "learn/deposit.h"
#include "learn/plasticity.h"
#include "learn/row_solver.h"
#include "model/memory_files.h"
#include "tiny_model.h"

namespace accrete {
namespace {

class AnchorsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TemporaryFolder;
    testing::make_tiny_model(folder_->path() / "m", 3);
  }
  static void TearDownTestSuite() { delete folder_; }

  AnchorsTest() : model_(LanguageModel::open(folder_->path() / "m", testing::one_thread())) {
    ExampleOptions raw;
    raw.raw = true;
    auto known = testing::known_facts(model_, 12, Rng(7));
    for (Item& item : known) item.prompts.resize(1);
    examples_ = make_examples(model_, known, raw);
    // What is taught: another letter for names nobody has.
    Rng rng(8);
    std::vector<Item> items;
    for (int i = 0; i < 6; ++i) {
      Item item;
      item.prompts = {testing::random_word(rng) + " "};
      item.answers = {std::string(1, testing::kLetters[rng.below(testing::kLetters.size())])};
      items.push_back(item);
    }
    taught_ = make_examples(model_, items, raw);
  }

  // Rows that many anchors read.
  RowChanges changes(LanguageTask::Frozen frozen, uint64_t seed) const {
    RowChanges out;
    std::set<int64_t> slots;
    const auto& s = frozen.accesses.slots;
    for (int64_t i = 0; i < s.numel(); ++i)
      if (s.data_ptr<int32_t>()[i] >= 0) slots.insert(s.data_ptr<int32_t>()[i]);
    out.slots.assign(slots.begin(), slots.end());
    out.index = SlotIndex(out.slots);
    Rng rng(seed);
    for (const int64_t block : model_.memory().blocks) {
      auto delta = at::empty({static_cast<int64_t>(slots.size()), model_.net().config().width});
      for (int64_t i = 0; i < delta.numel(); ++i) delta.data_ptr<float>()[i] = 0.3F * rng.normal();
      out.delta[block] = delta;
    }
    return out;
  }

  // Mean InfoNCE over all anchors.
  static double loss(Anchors& anchors, const RowChanges& changes) {
    double sum = 0, n = 0;
    for (size_t i = 0; i < anchors.batches(); ++i) {
      sum += anchors.run(i, changes).loss * static_cast<double>(anchors.size(i));
      n += static_cast<double>(anchors.size(i));
    }
    return sum / n;
  }

  static testing::TemporaryFolder* folder_;
  LanguageModel model_;
  std::vector<Example> examples_, taught_;
};
testing::TemporaryFolder* AnchorsTest::folder_ = nullptr;

TEST_F(AnchorsTest, TheGradientIsThatOfTheLoss) {
  Anchors anchors(model_, examples_, 0.2, {});
  RowChanges at = changes(anchors.frozen(0), 1);
  const Pass pass = anchors.run(0, at);
  const Accesses& a = anchors.frozen(0).accesses;
  const auto n = static_cast<double>(anchors.size(0));
  for (const int64_t block : model_.memory().blocks) {
    const auto gradient = scatter_rows(pass.output_gradient.at(block), at.index.rows(a.slots),
                                       a.weights, static_cast<int64_t>(at.slots.size()));
    // Along the gradient itself, where the change is largest.
    const auto direction = gradient / gradient.norm();
    const double step = 2e-2;
    RowChanges up = at, down = at;
    up.delta[block] = at.delta[block] + step * direction;
    down.delta[block] = at.delta[block] - step * direction;
    const double measured = (anchors.run(0, up).loss - anchors.run(0, down).loss) * n / (2 * step);
    EXPECT_NEAR(measured, gradient.norm().item<double>(), 0.03 * std::abs(measured)) << block;
  }
}

TEST_F(AnchorsTest, TheyAreNearThemselvesBeforeTheUpdate) {
  Anchors anchors(model_, examples_, 0.1, {});
  RowChanges none = changes(anchors.frozen(0), 1);
  for (auto& [block, delta] : none.delta) delta = 10 * delta;
  const double moved = loss(anchors, none);
  for (auto& [block, delta] : none.delta) delta = at::zeros_like(delta);
  EXPECT_LT(loss(anchors, none), moved);
  // An anchor's own record is the nearest of all: less than a guess among 12.
  EXPECT_LT(loss(anchors, none), std::log(12.0));
}

TEST_F(AnchorsTest, TheTermHoldsThemDuringSteps) {
  const auto solve = [&](double weight, bool adapt) {
    LanguageTask task(model_, taught_, 256);
    Anchors anchors(model_, examples_, 0.05, {});
    const RowChanges all = changes(task.frozen(0), 1);
    RowSolverOptions options;
    options.rate = 40;
    options.epochs = 25;
    options.target = 0;
    options.dropout = 0;
    options.anchor_weight = weight;
    options.adapt = adapt;
    const AccessLog log = load_background(model_.folder(), model_.memory().keys);
    const auto result = solve_rows(task, all.slots, log.gram(all.index), model_.memory().blocks,
                                   model_.net().config().width, options, Rng(1), {}, &anchors);
    return std::pair{result.loss, loss(anchors, result.changes)};
  };
  const auto [plain_loss, plain_moved] = solve(0, false);
  const auto [held_loss, held_moved] = solve(1, false);
  const auto [adapted_loss, adapted_moved] = solve(0, true);
  EXPECT_LT(held_moved, plain_moved);
  EXPECT_LT(adapted_moved, plain_moved);
  EXPECT_GT(adapted_loss, plain_loss - 1e-6);
  (void)held_loss;
}

TEST(Plasticity, SeesTheWholeTheDiagonalOrNothing) {
  const auto g = at::tensor({4.0F, 1.0F, 1.0F, 9.0F}).view({2, 2});
  EXPECT_TRUE(at::equal(seen_gram(g.clone(), Plasticity::kFull), g));
  EXPECT_TRUE(
      at::equal(seen_gram(g.clone(), Plasticity::kDiagonal), at::diag(at::tensor({4.0F, 9.0F}))));
  EXPECT_TRUE(at::equal(seen_gram(g.clone(), Plasticity::kFlat), at::zeros({2, 2})));
  for (const char* name : {"full", "diagonal", "flat"})
    EXPECT_EQ(plasticity_name(parse_plasticity(name)), name);
  testing::expect_error(ErrorCode::kInvalidArgument, [] { parse_plasticity("elastic"); });
}

}  // namespace
}  // namespace accrete
