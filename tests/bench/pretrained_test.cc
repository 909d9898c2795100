// Finetuning, the baseline, of a model that was trained with a memory.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../learn/pretrain_testing.h"
#include "bench/baselines/finetune.h"
#include "learn/pretrain/pretrain.h"

namespace accrete {
namespace {

// It trains the memory layer too: values, keys and queries.
TEST(FinetuningAPretrainedModel, ReachesTheMemory) {
  const testing::TemporaryFolder folder;
  const auto config = testing::write_tiny_config(folder.path());
  PretrainOptions how;
  how.threads = 1;
  pretrain(config, folder / "model", how);
  auto model = LanguageModel::open(folder / "model", {.threads = 1});
  FinetuneOptions o;
  o.optimizer.rate = 1e-2;
  Finetune finetune(model, {}, o);
  std::vector<std::pair<std::string, at::Tensor>> before;
  for (const auto& [name, t] : finetune.parameters())
    if (name.find("memory") != std::string::npos) before.emplace_back(name, t.detach().clone());
  EXPECT_EQ(before.size(), 4u);
  Item item;
  item.prompts = {"Ada Lunt lives in"};
  item.answers = {"Lima"};
  finetune.learn({&item, 1}, 1, {});
  for (const auto& [name, old] : before)
    for (const auto& [other, t] : finetune.parameters())
      EXPECT_TRUE(other != name || !at::equal(old, t)) << name;
}

}  // namespace
}  // namespace accrete
