// Beginnings that are passed once give what each prompt gives alone.
#include "model/prompt_tree.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "../base/testing.h"
#include "measure/score.h"
#include "tiny_model.h"

namespace accrete {
namespace {

class PromptTreeTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TemporaryFolder();
    testing::write_tiny_memory_model(*folder_ / "model");
  }
  static void TearDownTestSuite() { delete folder_; }

  // What speaks everywhere and changes every state behind the address block.
  static LanguageModel model() {
    auto model = LanguageModel::open(*folder_ / "model");
    Update update;
    Rng rng(5);
    const int64_t d = model.memory().keys.width();
    for (const int64_t block : model.memory().blocks) {
      LayerDelta layer;
      layer.block = static_cast<int>(block);
      layer.width = d;
      for (int64_t slot = 0; slot < model.memory().keys.slots(); slot += 2) {
        layer.indices.push_back(slot);
        for (int64_t i = 0; i < d; ++i) layer.delta.push_back(0.2F * rng.normal());
      }
      update.layers.push_back(std::move(layer));
    }
    model.set_overlay({update});
    return model;
  }
  static std::vector<Example> examples(const LanguageModel& model) {
    std::vector<Item> items;
    for (const char* name : {"Ada Lunt", "Ada Lund", "Bo Karr"}) {
      Item item;
      item.prompts = {std::string("We know that ") + name + " was born in",
                      std::string("We know that ") + name + " was", std::string("We know that ")};
      item.answers = {"Rome"};
      item.subject = name;
      items.push_back(item);
    }
    return make_examples(model, items, {.raw = true, .window = 512, .prefix = ""});
  }
  static testing::TemporaryFolder* folder_;
};
testing::TemporaryFolder* PromptTreeTest::folder_ = nullptr;

TEST_F(PromptTreeTest, GivesTheLastStatesOfWholePasses) {
  const auto model = PromptTreeTest::model();
  const auto all = examples(model);
  std::vector<StateRequest> requests;
  for (const Example& e : all) requests.push_back(asked_states(e));
  EXPECT_LT(share_passed_once(requests), 0.6);
  const auto got = tree_states(model, requests, {}, "read");
  int64_t row = 0;
  const at::NoGradGuard no_grad;
  for (const StateRequest& r : requests) {
    const auto ids = at::tensor(std::vector<int64_t>(r.tokens.begin(), r.tokens.end()), at::kLong);
    const FfnSide side = model.side();
    ForwardOptions forward;
    forward.side = &side;
    const auto want = model.net().run(model.net().embed(ids.unsqueeze(0)), 0, 4, forward)[0].narrow(
        0, r.from, ids.size(0) - r.from);
    EXPECT_LT((got.narrow(0, row, want.size(0)) - want).abs().max().item<float>(), 1e-4);
    row += want.size(0);
  }
  EXPECT_EQ(row, got.size(0));
}

TEST_F(PromptTreeTest, ScoresAreThoseOfEachExampleAlone) {
  const auto model = PromptTreeTest::model();
  const auto all = examples(model);
  const auto together = score_examples(model, all);
  for (size_t i = 0; i < all.size(); ++i) {
    const auto alone = score_examples(model, {&all[i], 1});
    EXPECT_NEAR(together[i].nll, alone[0].nll, 1e-4) << i;
    EXPECT_EQ(together[i].exact, alone[0].exact) << i;
    EXPECT_EQ(together[i].right, alone[0].right) << i;
    EXPECT_EQ(together[i].labels, alone[0].labels) << i;
  }
}

TEST_F(PromptTreeTest, AskedStatesEndBeforeTheLastLabel) {
  Example e;
  e.tokens = {5, 6, 7, 8, 9};
  e.label = {0, 0, 1, 1, 0};
  const StateRequest r = asked_states(e);
  EXPECT_EQ(r.tokens.size(), 3U);
  EXPECT_EQ(r.from, 1);
}

}  // namespace
}  // namespace accrete
