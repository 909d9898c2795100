// What a step computes from the write site on is what whole passes give.
#include "learn/suffix_task.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "../base/testing.h"
#include "../model/tiny_model.h"
#include "base/error.h"
#include "learn/value_solver.h"

namespace accrete {
namespace {

class SuffixTaskTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TemporaryFolder();
    testing::write_tiny_memory_model(*folder_ / "model");
  }
  static void TearDownTestSuite() { delete folder_; }

  // Facts in several phrasings: some begin with the subject, some share a beginning.
  static std::vector<Item> items() {
    std::vector<Item> items;
    for (const char* name : {"Ada Lunt", "Bo Karr", "Cy Dole"}) {
      Item item;
      item.kind = Item::Kind::kFact;
      const std::string n = name;
      item.prompts = {n + " was born in", "The birthplace of " + n + " is", n + " is from",
                      "People know that " + n + " came from"};
      item.answers = {std::string("R") + name[0]};
      item.subject = name;
      items.push_back(item);
    }
    return items;
  }
  static std::vector<Example> examples(const LanguageModel& model) {
    ExampleOptions options;
    options.raw = true;
    const auto all = items();
    return make_examples(model, all, options);
  }
  // An update that speaks everywhere, or near `anchors` only.
  static Update some_update(const LanguageModel& model, Reach reach) {
    const auto& memory = model.memory();
    Update update;
    const int64_t d = memory.keys.width();
    Rng rng(5);
    for (const int64_t block : memory.blocks) {
      LayerDelta layer;
      layer.block = static_cast<int>(block);
      layer.width = d;
      for (int64_t slot = 0; slot < memory.keys.slots(); slot += 3) {
        layer.indices.push_back(slot);
        for (int64_t i = 0; i < d; ++i) layer.delta.push_back(0.2F * rng.normal());
      }
      update.layers.push_back(std::move(layer));
    }
    if (reach != Reach::kEverywhere) {
      update.anchors.width = memory.keys.options().query_width;
      update.anchors.text = reach == Reach::kText;
      update.anchors.queries.assign(static_cast<size_t>(2 * update.anchors.width), 0.1F);
    }
    return update;
  }
  // All of the examples, each with the vector of its item, and some values.
  struct Shown {
    std::vector<int64_t> which, vectors;
    std::map<int64_t, at::Tensor> values;

    Shown(const LanguageModel& model, const std::vector<Example>& examples) {
      const int64_t d = model.net().config().width;
      at::manual_seed(3);
      for (const int64_t block : model.memory().blocks) values[block] = 0.5 * at::randn({3, d});
      for (size_t i = 0; i < examples.size(); ++i) {
        which.push_back(static_cast<int64_t>(i));
        vectors.push_back(examples[i].item);
      }
    }
    std::map<int64_t, at::Tensor> no_gradient() const {
      std::map<int64_t, at::Tensor> out;
      for (const auto& [block, v] : values) out[block] = at::zeros_like(v);
      return out;
    }
  };
  static void compare(const LanguageModel& model, const SuffixOptions& options);

  static testing::TemporaryFolder* folder_;
};
testing::TemporaryFolder* SuffixTaskTest::folder_ = nullptr;

// Losses and gradients against LanguageTask's passes over all tokens, through autograd.
void SuffixTaskTest::compare(const LanguageModel& model, const SuffixOptions& options) {
  const auto examples = SuffixTaskTest::examples(model);
  const std::map<int64_t, int64_t> subject_of = {{0, 0}, {1, 1}, {2, 2}};
  const Shown shown(model, examples);
  const auto& [which, vectors, values] = shown;
  auto gradient = shown.no_gradient();
  SuffixTask task(model, examples, options, {});
  const auto loss = task.run(which, vectors, values, &gradient);
  const auto again = task.run(which, vectors, values, nullptr);

  LanguageTask whole(model, examples, 1 << 20);
  const auto selection = whole.select(which);
  PassOptions pass_options;
  pass_options.gradient = true;
  pass_options.values = &values;
  pass_options.sites = write_sites(selection.batch, examples, subject_of);
  const Pass pass = whole.run(selection, pass_options);
  for (size_t i = 0; i < loss.size(); ++i) {
    EXPECT_NEAR(loss[i], pass.example_loss[i], 1e-4) << i;
    EXPECT_EQ(loss[i], again[i]) << i;
  }
  for (const auto& [block, g] : gradient) {
    const auto& want = pass.value_gradient.at(block);
    // What is added after the last block at the subject reaches no label.
    if (block + 1 < model.net().config().blocks) {
      EXPECT_GT(want.abs().max().item<float>(), 1e-4) << block;
    }
    EXPECT_LT((g - want).abs().max().item<float>(), 1e-4 * want.abs().max().item<float>() + 1e-6)
        << block;
  }
}

TEST_F(SuffixTaskTest, GivesTheLossesAndGradientsOfWholePasses) {
  compare(LanguageModel::open(*folder_ / "model"), {});
}

// A template that is not known keeps nobody from the model, only from guessing.
TEST_F(SuffixTaskTest, AnUnknownChatTemplateIsForRawTextOnly) {
  const auto folder = *folder_ / "unknown-chat";
  std::filesystem::copy(*folder_ / "model", folder, std::filesystem::copy_options::recursive);
  std::ofstream(folder / "chat_template.jinja") << "{{ bos }}[INST] {{ messages[0].content }}";
  const auto model = LanguageModel::open(folder);
  EXPECT_EQ(model.prompt_text("Hi", true), "Hi");
  testing::expect_error(ErrorCode::kUnsupported, [&] { (void)model.prompt_text("Hi", false); });
  EXPECT_FALSE(examples(model).empty());
  testing::expect_error(ErrorCode::kUnsupported, [&] { make_examples(model, items(), {}); });
}

TEST_F(SuffixTaskTest, WithAnOverlay) {
  auto model = LanguageModel::open(*folder_ / "model");
  for (const Reach reach : kReaches) {
    model.set_overlay({some_update(model, reach)});
    compare(model, {});
  }
}

TEST_F(SuffixTaskTest, InSmallBatchesWithTheCacheOnDisk) {
  compare(LanguageModel::open(*folder_ / "model"), {.rows = 12, .cache_bytes = 0});
}

// In bfloat16 the same, as far as it goes.
TEST_F(SuffixTaskTest, LowPrecisionStaysNear) {
  auto model = LanguageModel::open(*folder_ / "model");
  model.set_overlay({some_update(model, Reach::kSubjects)});
  const auto examples = SuffixTaskTest::examples(model);
  const Shown shown(model, examples);
  const auto& [which, vectors, values] = shown;
  auto exact = shown.no_gradient(), low = shown.no_gradient();
  SuffixTask task(model, examples, {}, {});
  const auto loss = task.run(which, vectors, values, &exact);
  SuffixTask low_task(model, examples, {.low_precision = true}, {});
  const auto low_loss = low_task.run(which, vectors, values, &low);
  for (size_t i = 0; i < loss.size(); ++i) EXPECT_NEAR(loss[i], low_loss[i], 0.1) << i;
  EXPECT_NE(low_loss, loss);  // it did run in bfloat16
  for (const auto& [block, g] : exact) {
    const double error = (g - low.at(block)).norm().item<double>();
    EXPECT_LE(error, 0.08 * g.norm().item<double>() + 1e-6) << block;
  }
}

// What is settled is left out of the gradient, and the rest is as if it were alone.
TEST_F(SuffixTaskTest, SettledExamplesHaveNoGradient) {
  auto model = LanguageModel::open(*folder_ / "model");
  model.set_overlay({some_update(model, Reach::kSubjects)});
  const auto examples = SuffixTaskTest::examples(model);
  const Shown shown(model, examples);
  const auto& [which, vectors, values] = shown;
  auto some = shown.no_gradient(), alone = shown.no_gradient();
  SuffixTask task(model, examples, {}, {});
  const auto loss = task.run(which, vectors, values, nullptr);
  auto sorted = loss;
  std::sort(sorted.begin(), sorted.end());
  const double settled = sorted[sorted.size() / 2];
  EXPECT_EQ(task.run(which, vectors, values, &some, settled), loss);
  std::vector<int64_t> open, open_vectors;
  for (size_t i = 0; i < examples.size(); ++i)
    if (loss[i] > settled) {
      open.push_back(which[i]);
      open_vectors.push_back(vectors[i]);
    }
  ASSERT_LT(open.size(), which.size());
  ASSERT_NE(open.front(), 0);  // rows do move
  task.run(open, open_vectors, values, &alone);
  for (const auto& [block, g] : alone)
    EXPECT_TRUE(at::allclose(some.at(block), g, 1e-4, 1e-6)) << block;
  for (auto& [block, g] : some) g.zero_();
  task.run(which, vectors, values, &some, sorted.back());
  for (const auto& [block, g] : some) EXPECT_EQ(g.abs().max().item<float>(), 0) << block;
}

// The first step of Adam goes as far as the rate in every coordinate, which is in units of the
// states that the vectors are added to.
TEST_F(SuffixTaskTest, StepsAreInUnitsOfTheStates) {
  const auto model = LanguageModel::open(*folder_ / "model");
  const auto examples = SuffixTaskTest::examples(model);
  double sum = 0;
  for (const Example& e : examples) {
    const int64_t site = last_subject_token(e);
    const std::vector<int64_t> ids(e.tokens.begin(), e.tokens.begin() + site + 1);
    const auto h = model.net().run(model.net().embed(at::tensor(ids, at::kLong).unsqueeze(0)), 0,
                                   model.memory().address_block + 1);
    sum += h[0][site].square().mean().item<double>();
  }
  const double scale = std::sqrt(sum / static_cast<double>(examples.size()));
  ValueSolverOptions options;
  options.steps = 1;
  options.rate = 0.7;
  const Values values = solve_values(model, examples, {{0, 0}, {1, 1}, {2, 2}}, 3, options, {});
  const auto& v = values.by_block.at(model.memory().blocks.front());
  EXPECT_NEAR(v.abs().max().item<double>(), 0.7 * scale, 1e-2 * scale);
}

TEST_F(SuffixTaskTest, OnlyWhatFollowsTheSubjectIsComputedAgain) {
  const auto model = LanguageModel::open(*folder_ / "model");
  const auto examples = SuffixTaskTest::examples(model);
  const SuffixTask task(model, examples, {}, {});
  // "Ada Lunt was born in RA": from the t on, without the last token, which is only predicted.
  EXPECT_EQ(task.tokens_of(0), static_cast<int64_t>(std::string("t was born in R").size()));
  // Prompts that begin with a subject share what comes before its end.
  EXPECT_LT(task.tokens_before(), [&] {
    int64_t all = 0;
    for (const Example& e : examples) all += static_cast<int64_t>(e.tokens.size()) - 1;
    return 2 * all / 3;
  }());
}

TEST_F(SuffixTaskTest, ValuesAreTheSameWithTheCacheAndWithout) {
  const auto model = LanguageModel::open(*folder_ / "model");
  const auto examples = SuffixTaskTest::examples(model);
  const std::map<int64_t, int64_t> subject_of = {{0, 0}, {1, 1}, {2, 2}};
  ValueSolverOptions options;
  options.steps = 8;
  const Values with = solve_values(model, examples, subject_of, 3, options, {});
  options.cached = false;
  const Values without = solve_values(model, examples, subject_of, 3, options, {});
  EXPECT_LT(with.tokens, without.tokens);
  for (const auto& [block, v] : with.by_block) {
    if (block + 1 < model.net().config().blocks) {
      EXPECT_GT(v.abs().max().item<float>(), 0.1F);
    }
    // Adam divides by the size of the gradient, so that rounding can show where that is tiny.
    EXPECT_LT((v - without.by_block.at(block)).abs().mean().item<float>(), 1e-3F) << block;
  }
}

TEST(KeyStore, GivesBackWhatWasPutIn) {
  KeyStore store(64);
  const std::vector<float> a(8, 1.5F), b(100, -2.F), c(16, 7.F);
  const auto first = store.put(a), second = store.put(b), third = store.put(c);
  EXPECT_EQ(store.bytes_in_memory(), 32);
  EXPECT_EQ(store.bytes_on_disk(), 464);
  std::vector<float> room;
  EXPECT_EQ(std::vector<float>(store.get(first, room), store.get(first, room) + 8), a);
  EXPECT_EQ(std::vector<float>(store.get(second, room), store.get(second, room) + 100), b);
  EXPECT_EQ(std::vector<float>(store.get(third, room), store.get(third, room) + 16), c);
}

TEST(KeyStore, StaysInMemoryWhereNoFileCanBeWritten) {
  KeyStore store(0, "/does/not/exist");
  const std::vector<float> a(8, 1.5F);
  const auto entry = store.put(a);
  std::vector<float> room;
  EXPECT_EQ(store.get(entry, room)[7], 1.5F);
  EXPECT_EQ(store.bytes_on_disk(), 0);
}

}  // namespace
}  // namespace accrete
