// On a device everything is found, learned and said as on the CPU, up to rounding: on a GPU where
// there is one, else on one that is made up (pretend_device.h).
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "../learn/tiny_model.h"
#include "bench/baselines/finetune.h"
#include "learn/reading.h"
#include "learn/teach.h"
#include "measure/score.h"
#include "model/generate.h"
#include "pretend_device.h"

namespace accrete {
namespace {

using testing::as_dataset;
using testing::TemporaryFolder;

const std::string kDevice = at::hasCUDA() ? "cuda" : testing::kPretend;
constexpr std::string_view kSaid = testing::kLetters;  // what the tiny model can say

class Device : public ::testing::Test {
 protected:
  void SetUp() override { testing::make_tiny_model(model(), 3); }
  std::filesystem::path model() const { return folder_ / "model"; }
  static OpenOptions on(const std::string& device) {
    OpenOptions open = testing::one_thread();
    open.device = device;
    return open;
  }
  LanguageModel open(const std::string& device) const {
    return LanguageModel::open(model(), on(device));
  }
  static TeachOptions options() {
    TeachOptions o;
    o.raw = true;
    o.neighbours = 2;
    o.values.rate = 2;
    o.values.steps = 80;
    return o;
  }
  static std::vector<Item> facts(std::initializer_list<const char*> subjects) {
    std::vector<Item> out;
    for (const char* subject : subjects) {
      Item item;
      item.subject = subject;
      item.prompts = {item.subject + " ", "So " + item.subject + " "};
      item.answers = {std::string(1, kSaid[static_cast<size_t>(subject[1]) % kSaid.size()])};
      out.push_back(item);
    }
    return out;
  }
  std::vector<Score> scores(const std::string& device, const std::vector<Item>& items) const {
    ExampleOptions raw;
    raw.raw = true;
    return score_examples(open(device), make_examples(open(device), items, raw));
  }
  TemporaryFolder folder_;
};

void expect_alike(const std::vector<Score>& a, const std::vector<Score>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i].nll, b[i].nll, 1e-3) << i;
    EXPECT_EQ(a[i].exact, b[i].exact) << i;
  }
}

TEST_F(Device, LookupFindsTheSameSlots) {
  const LanguageModel gpu_model = open(kDevice);
  const ProductKeys& keys = gpu_model.memory().keys;
  const auto random = at::detail::createCPUGenerator(4);
  const auto x = at::randn({300, keys.width()}, random);
  const auto mask = at::arange(300) % 7 != 0;
  const Accesses cpu = keys.lookup(x, mask);
  const Accesses gpu = gpu_model.memory().lookup(x.to(at::Device(kDevice)), mask);
  EXPECT_GT((cpu.slots == gpu.slots).to(at::kDouble).mean().item<double>(), 0.999);
  EXPECT_LT((cpu.weights - gpu.weights).abs().max().item<float>(), 1e-3);
  EXPECT_TRUE((gpu.slots.index_select(0, at::arange(0, 300, 7)) == -1).all().item<bool>());
}

TEST_F(Device, AnchorsNearAreTheSame) {
  const auto random = at::detail::createCPUGenerator(5);
  for (const bool with_first : {false, true}) {
    Gate gate;
    gate.radius = 3;
    const auto anchors = at::randn({90, 16}, random),
               q = at::cat({anchors + 0.3, at::randn({50, 16}, random)});
    if (with_first) {
      gate.first_at = anchors[3].clone();
      gate.first_radius = 1.5;
    }
    const auto cpu = gate.near(q, anchors);
    const auto gpu = gate.near(q.to(at::Device(kDevice)), anchors.to(at::Device(kDevice)));
    ASSERT_EQ(cpu.size(), gpu.size());
    size_t found = 0;
    for (size_t t = 0; t < cpu.size(); ++t) {
      ASSERT_EQ(cpu[t].size(), gpu[t].size()) << t;
      for (size_t i = 0; i < cpu[t].size(); ++i, ++found) {
        EXPECT_EQ(cpu[t][i].anchor, gpu[t][i].anchor);
        EXPECT_NEAR(cpu[t][i].distance, gpu[t][i].distance, 1e-3);
      }
    }
    EXPECT_GT(found, 90U);
  }
}

TEST_F(Device, WhatWasTaughtOnTheCpuIsSaidOnADevice) {
  const auto items = facts({"Zorblax", "Quillem"});
  teach(model(), as_dataset(items), on("cpu"), options(), {});
  const auto others = facts({"Abrakad", "Pimento"});
  for (const auto& asked : {items, others})
    expect_alike(scores("cpu", asked), scores(kDevice, asked));
  EXPECT_GE(exact_rate(scores(kDevice, items)), 0.5);  // of so small a model

  GenerateOptions greedy;
  greedy.max_tokens = 8;
  const LanguageModel cpu = open("cpu"), gpu = open(kDevice);
  std::vector<std::vector<int32_t>> prompts;
  for (const char* text : {"Zorblax ", "So the old Quillem ", "Once"})
    prompts.push_back(cpu.tokenizer().encode(text));
  const auto said = generate(cpu, prompts, greedy), same = generate(gpu, prompts, greedy);
  for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(said[i].text, same[i].text) << i;
}

TEST_F(Device, TeachesAndRepeatsItToTheByte) {
  const auto first = facts({"Zorblax", "Quillem"}), second = facts({"Tarmond", "Quillex"});
  const auto copy = folder_ / "copy";
  std::filesystem::copy(model(), copy, std::filesystem::copy_options::recursive);
  for (const auto& items : {first, second}) {  // the second with the first at hand
    const auto result = teach(model(), as_dataset(items), on(kDevice), options(), {});
    EXPECT_GE(result.learned_after, 0.5);
    teach(copy, as_dataset(items), on(kDevice), options(), {});
  }
  for (const auto& items : {first, second}) {
    expect_alike(scores("cpu", items), scores(kDevice, items));
    EXPECT_GE(exact_rate(scores("cpu", items)), 0.5);
  }
  EXPECT_EQ(open("cpu").state_digest(), LanguageModel::open(copy, on("cpu")).state_digest());
}

TEST_F(Device, TeachesUnderAFloorAndInSteps) {
  testing::add_probe(model(), "known", testing::known_facts(open("cpu"), 12, Rng(3)), 0.9);
  TeachOptions stepwise = options();
  stepwise.stepwise = true;
  stepwise.rows.epochs = 3;
  for (const TeachOptions& how : {options(), stepwise}) {
    const auto result = teach(model(), as_dataset(facts({how.stepwise ? "Zorblax" : "Quillem"})),
                              on(kDevice), how, {});
    EXPECT_GE(result.kept.at("known").after, 0.9 * result.kept.at("known").before);
    EXPECT_TRUE(result.forecast.contains("known"));
  }
}

TEST_F(Device, FinetunesAsOnTheCpu) {
  const auto items = facts({"Zorblax", "Quillem", "Tarmond"});
  for (const int64_t rank : {0, 2}) {
    std::vector<std::vector<double>> losses;
    for (const auto& device : {std::string("cpu"), kDevice, kDevice}) {
      LanguageModel model = open(device);
      FinetuneOptions how;
      how.raw = true;
      how.rank = rank;
      how.batch = 2;
      Finetune tune(model, {}, how);
      tune.learn(items, 3, {});
      losses.push_back(tune.cost().losses);
    }
    ASSERT_EQ(losses[0].size(), losses[1].size());
    for (size_t i = 0; i < losses[0].size(); ++i) EXPECT_NEAR(losses[0][i], losses[1][i], 1e-2);
    EXPECT_EQ(losses[1], losses[2]) << rank;
  }
}

}  // namespace
}  // namespace accrete
