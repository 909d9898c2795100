// Generation on a tiny model: a batch whose prompts begin alike is continued as each prompt alone
// is.
#include "model/generate.h"

#include <gtest/gtest.h>

#include "../base/testing.h"
#include "tiny_model.h"

namespace accrete {
namespace {

std::vector<int32_t> bytes(const std::string& text) {
  return {text.begin(), text.end()};
}

TEST(Generate, PromptsThatBeginAlikeAreContinuedAsAlone) {
  const testing::TemporaryFolder folder;
  testing::write_tiny_model(folder / "model");
  const LanguageModel model = LanguageModel::open(folder / "model", {.threads = 1});
  GenerateOptions options;
  options.max_tokens = 6;
  options.repetition_penalty = 1.3;  // sees what is shared as well
  const std::string shared = "Question: a b c\nAnswer:";
  const std::vector<std::vector<std::vector<int32_t>>> batches = {
      {bytes(shared + " one"), bytes(shared + " thirteen"), bytes(shared + " x y z w")},  // padded
      {bytes(shared + " one"), bytes(shared + " two")},                                   // not
      {bytes(shared), bytes(shared + " longer"), bytes(shared + " l")},  // one is the prefix
      {bytes(shared), bytes(shared)},                                    // only the last token left
      {bytes("abc"), bytes("abd")},  // too little in common to be worth it
      {bytes("xyz"), bytes(shared), bytes("x")}};
  for (const auto& batch : batches) {
    const auto together = generate(model, batch, options);
    ASSERT_EQ(together.size(), batch.size());
    for (size_t i = 0; i < batch.size(); ++i) {
      const auto alone = generate(model, std::span(&batch[i], 1), options);
      EXPECT_EQ(together[i].tokens, alone[0].tokens) << i;
    }
  }
}

}  // namespace
}  // namespace accrete
