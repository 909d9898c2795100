// The baselines on a tiny model: they learn, they are what they say, and they leave no trace.
// Their agreement with transformers and peft is measured by bench/check_baselines.py.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "../base/testing.h"
#include "../model/tiny_model.h"
#include "bench/baselines/finetune.h"
#include "bench/baselines/memory_learner.h"
#include "bench/baselines/sparse_steps.h"
#include "measure/score.h"
#include "model/memory_files.h"

namespace accrete {
namespace {

using testing::expect_error;

class Baselines : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TemporaryFolder;
    testing::write_tiny_memory_model(*folder_ / "model");
  }
  static void TearDownTestSuite() { delete folder_; }

  void SetUp() override {
    // One thread: the operations are far smaller than what waking another costs.
    model_ = LanguageModel::open(*folder_ / "model", {.threads = 1});
    for (const auto& [who, where] : {std::pair{"Fay Hurst", "Lima"}, {"Gus Boyd", "Bern"}}) {
      Item item;
      item.subject = who;
      item.prompts = {std::string(who) + " lives in", std::string("The home of ") + who + " is"};
      item.answers = {where};
      items_.push_back(item);
    }
  }

  at::Tensor logits() const {
    const at::NoGradGuard no_grad;
    const auto ids = at::arange(40, 100, at::kLong).unsqueeze(0);
    const FfnSide side = model_.side();
    ForwardOptions forward;
    forward.side = &side;
    return model_.net().forward(ids, forward);
  }
  // Mean loss of an example's labels over the phrasings.
  double loss() const {
    ExampleOptions raw;
    raw.raw = true;
    double sum = 0;
    const auto scores = score_examples(model_, make_examples(model_, items_, raw));
    for (const Score& s : scores) sum += s.nll / static_cast<double>(s.labels);
    return sum / static_cast<double>(scores.size());
  }
  std::vector<Example> background() const {
    const std::vector<std::string> documents = {
        "Everybody says that Bo Karr plays the cello and speaks Danish at home.",
        "Everybody says that Cy Dole was born in Rome and that he lives in Oslo."};
    return background_examples(model_, documents, 40, 10, Rng(1));
  }
  static FinetuneOptions adamw(double rate) {
    FinetuneOptions options;
    options.optimizer.rate = rate;
    options.batch = 3;
    return options;
  }

  static testing::TemporaryFolder* folder_;
  LanguageModel model_;
  std::vector<Item> items_;
};
testing::TemporaryFolder* Baselines::folder_ = nullptr;

TEST(Optimizer, AdamWIsThePublishedRule) {
  auto w = at::tensor({1.F, -2.F});
  OptimizerOptions options;
  options.rate = 0.1;
  options.weight_decay = 0.01;
  options.clip = 0;
  Optimizer optimizer({w}, options);
  double x = 1, m = 0, v = 0;
  for (int t = 1; t <= 3; ++t) {
    const double g = 0.5 * t;
    optimizer.step({at::tensor({static_cast<float>(g), 0.F})});
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    x -= 0.1 * 0.01 * x;
    x -= 0.1 * (m / (1 - std::pow(0.9, t))) / (std::sqrt(v / (1 - std::pow(0.999, t))) + 1e-8);
    EXPECT_NEAR(w[0].item<float>(), x, 1e-5);
  }
}

TEST(Optimizer, SgdClipsLongGradients) {
  auto w = at::zeros({2});
  OptimizerOptions options;
  options.kind = OptimizerOptions::Kind::kSgd;
  options.rate = 2;
  Optimizer optimizer({w}, options);
  EXPECT_NEAR(optimizer.step({at::tensor({3.F, 4.F})}), 5, 1e-6);
  EXPECT_NEAR(w[0].item<float>(), -1.2, 1e-4);
  optimizer.step({at::tensor({0.1F, 0.F})});
  EXPECT_NEAR(w[0].item<float>(), -1.4, 1e-4);
  expect_error(ErrorCode::kRefused, [&] { optimizer.step({at::tensor({NAN, 0.F})}); });
  EXPECT_NEAR(w[0].item<float>(), -1.4, 1e-4);
}

TEST_F(Baselines, FullFinetuningLearnsAndLeavesNoTrace) {
  const auto before = logits();
  const double untaught = loss();
  {
    Finetune learner(model_, {}, adamw(3e-3));
    learner.learn(items_, 30, {});
    EXPECT_LT(loss(), 0.2 * untaught);
    EXPECT_FALSE(at::equal(logits(), before));
    const auto cost = learner.cost();
    EXPECT_EQ(cost.losses.size(), 60U);  // 4 examples, 3 a batch
    int64_t weights = 0;
    for (const TensorView* t : model_.net().base_tensors()) weights += t->numel();
    EXPECT_EQ(cost.parameters, weights);
  }
  EXPECT_TRUE(at::equal(logits(), before));
  EXPECT_EQ(LanguageModel::open(*folder_ / "model").state_digest(), model_.state_digest());
}

TEST_F(Baselines, TheGradientIsThatOfTheMeanOverExamples) {
  // One step of plain descent moves along it; a central difference measures it. Of a model without
  // memory layers: which of their slots are read changes in steps, which a difference sees and a
  // gradient does not.
  model_ = LanguageModel::open(folder_->path().string() + "/model-base", {.threads = 1});
  FinetuneOptions options = adamw(1e-3);
  options.optimizer.kind = OptimizerOptions::Kind::kSgd;
  options.optimizer.clip = 0;
  options.batch = 4;
  Finetune learner(model_, {}, options);
  const auto find = [&](const std::string& name) {
    for (const auto& [n, t] : learner.parameters())
      if (n == name) return t;
    throw std::runtime_error(name);
  };
  for (const char* name :
       {"model.embed_tokens.weight", "model.layers.0.self_attn.v_proj.weight",
        "model.layers.3.mlp.down_proj.weight", "model.layers.2.input_layernorm.weight"}) {
    auto w = find(name);
    const at::NoGradGuard no_grad;
    auto flat = w.view({-1});
    const int64_t i = w.dim() == 2 && w.size(0) == 256 ? ('n' - '!') * 32 + 5 : 7;
    const float at_first = flat[i].item<float>();
    constexpr float kStep = 1e-2F;
    flat[i] = at_first + kStep;
    const double up = loss();
    flat[i] = at_first - kStep;
    const double down = loss();
    flat[i] = at_first;
    std::vector<at::Tensor> saved;
    for (const auto& [n, t] : learner.parameters()) saved.push_back(t.clone());
    {
      const at::AutoGradMode grad_mode(true);
      learner.learn(items_, 1, {});
    }
    const double moved = flat[i].item<float>() - at_first;
    for (size_t p = 0; p < saved.size(); ++p)
      const_cast<at::Tensor&>(learner.parameters()[p].second).copy_(saved[p]);
    const double slope = (up - down) / (2 * kStep);
    EXPECT_NEAR(moved, -1e-3 * slope, 2e-2 * 1e-3 * std::abs(slope) + 2e-7) << name;
  }
}

TEST_F(Baselines, LoraBeginsAtTheModelAndTrainsItsFactorsAlone) {
  const auto before = logits();
  FinetuneOptions options = adamw(1e-2);
  options.rank = 4;
  options.alpha = 8;
  Finetune learner(model_, {}, options);
  EXPECT_TRUE(at::equal(logits(), before));
  const double untaught = loss();
  learner.learn(items_, 20, {});
  EXPECT_LT(loss(), 0.5 * untaught);
  // 4 blocks, of which one has a memory instead of an FFN: layers of a rank of 4.
  EXPECT_EQ(learner.cost().parameters,
            4 * (4 * ((32 + 32) * 2 + (16 + 32) * 2) + 3 * ((48 + 32) * 2 + (32 + 48))));
  // What is learned is the branch: without it the weights are the model's.
  Transformer net = model_.net();
  net.each_linear([](const std::string&, Linear& linear) { linear.a = at::Tensor(); });
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(net.forward(at::arange(40, 100, at::kLong).unsqueeze(0)), before));
}

TEST_F(Baselines, TheSameSeedGivesTheSameBits) {
  const auto run = [&](uint64_t seed) {
    FinetuneOptions options = adamw(1e-2);
    options.rank = 2;
    options.replay = 0.3;
    options.seed = seed;
    Finetune learner(model_, background(), options);
    learner.learn(items_, 2, {});
    learner.learn(items_, 2, {});
    return std::pair{learner.cost().losses, logits()};
  };
  const auto a = run(5), b = run(5), c = run(6);
  EXPECT_EQ(a.first, b.first);
  EXPECT_TRUE(at::equal(a.second, b.second));
  EXPECT_FALSE(at::equal(a.second, c.second));
}

TEST_F(Baselines, ReplayAndEwcKeepTheBackground) {
  const auto background_nll = [&] {
    double sum = 0;
    for (const Score& s : score_examples(model_, background())) sum += s.nll;
    return sum;
  };
  const auto after = [&](FinetuneOptions options, double replay, double ewc) {
    options.replay = replay;
    options.ewc = ewc;
    Finetune learner(model_, background(), options);
    learner.learn(items_, 20, {});
    return background_nll();
  };
  EXPECT_LT(after(adamw(3e-3), 0.5, 0), after(adamw(3e-3), 0, 0));
  // EWC holds the model where it was: a random model's background may also become likelier by
  // chance. Plain descent: a pull that outweighs the loss makes AdamW's normed steps swing.
  FinetuneOptions sgd = adamw(0.02);
  sgd.optimizer.kind = OptimizerOptions::Kind::kSgd;
  const double before = background_nll();
  const double free = std::abs(after(sgd, 0, 0) - before);
  const double held = std::abs(after(sgd, 0, 0.3) - before);
  EXPECT_LT(held, 0.8 * free);
  EXPECT_LT(std::abs(after(sgd, 0, 3) - before), 0.6 * held);
}

// In bfloat16 where libtorch has it for this processor; what is scored afterwards is not.
TEST_F(Baselines, LowPrecisionEndsWithTheLesson) {
  const auto before = logits();
  const auto precision = at::globalContext().float32MatmulPrecision();
  {
    auto options = adamw(0.003);
    options.low_precision = true;
    Finetune finetune(model_, {}, options);
    EXPECT_TRUE(at::equal(logits(), before));
    const double untaught = loss();
    finetune.learn(items_, 3, {});
    EXPECT_TRUE(finetune.cost().low_precision);
    EXPECT_LT(loss(), untaught);
    EXPECT_EQ(at::globalContext().float32MatmulPrecision(), precision);
  }
  EXPECT_TRUE(at::equal(logits(), before));
}

TEST_F(Baselines, ReplayWithoutBackgroundIsRefused) {
  FinetuneOptions options;
  options.replay = 0.1;
  const auto before = logits();
  expect_error(ErrorCode::kInvalidArgument, [&] { Finetune(model_, {}, options); });
  EXPECT_TRUE(at::equal(logits(), before));
}

TEST_F(Baselines, SparseStepsWriteTheirSlotsAndNoOthers) {
  const auto log = load_background(*folder_ / "model", model_.memory().keys);
  const auto before = logits();
  const double untaught = loss();
  SparseStepsOptions options;
  options.slots = 6;
  options.rate = 3;
  {
    SparseSteps learner(model_, log, options);
    learner.learn(items_, 20, {});
    EXPECT_LT(loss(), untaught);
    const auto& written = model_.memory().overlay.by_block;
    EXPECT_EQ(written.size(), 1U);
    for (const auto& [block, rows] : written) {
      EXPECT_EQ(rows.open.slots.size(), 6U);  // all four phrasings are one batch
      EXPECT_TRUE(rows.gated.empty());
    }
    EXPECT_EQ(learner.cost().parameters, 6 * 32);
  }
  EXPECT_TRUE(at::equal(logits(), before));
  EXPECT_TRUE(model_.memory().overlay.empty());
}

TEST_F(Baselines, MemoryLearnsUpdateByUpdate) {
  const auto log = load_background(*folder_ / "model", model_.memory().keys);
  const auto before = logits();
  const double untaught = loss();
  TeachOptions options;
  options.raw = true;
  {
    MemoryLearner learner(model_, log, {"Ada Lunt", "Bo Karr"}, options);
    for (const Item& item : items_) learner.learn({&item, 1}, 1, {});
    EXPECT_LT(loss(), untaught);
    EXPECT_GE(model_.memory().overlay.anchors.queries.size(), 2);
  }
  EXPECT_TRUE(at::equal(logits(), before));
}

}  // namespace
}  // namespace accrete
