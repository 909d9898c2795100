// What prompts read along a tree of their tokens is what whole prompts in padded batches read.
#include "learn/reading.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../base/testing.h"
#include "../model/tiny_model.h"
#include "learn/language_task.h"

namespace accrete {
namespace {

TEST(Reading, IsWhatWholePromptsRead) {
  const testing::TemporaryFolder folder;
  testing::write_tiny_memory_model(folder / "model");
  const auto model = LanguageModel::open(folder / "model");
  // Shared beginnings, a prompt that others continue, one twice, one alone.
  const std::vector<std::string> prompts = {
      "The home of Ada Lunt is", "The home of Bo Karr is",   "The home",
      "Bo Karr speaks",          "The home of Ada Lunt was", "Bo Karr speaks"};
  std::vector<ReadRequest> requests;
  std::vector<Example> examples;
  for (const auto& prompt : prompts) {
    Example e;
    e.tokens = model.tokenizer().encode(prompt);
    requests.push_back({e.tokens, static_cast<int64_t>(requests.size()) % 3});
    e.label.resize(e.tokens.size());
    e.label.push_back(1);
    e.tokens.push_back(0);
    e.subject.resize(e.tokens.size());
    examples.push_back(e);
  }
  int64_t done = 0, total = 0;
  Reporter reporter;
  reporter.progress = [&](const ProgressEvent& e) {
    done = e.done;
    total = e.total;
  };
  const Reads reads = read_prompts(model, requests, true, reporter, "read");
  EXPECT_EQ(done, total);
  int64_t tokens = 0;
  for (const auto& request : requests) tokens += static_cast<int64_t>(request.tokens.size());
  EXPECT_LT(total, 2 * tokens / 3);  // computed once what is shared

  ASSERT_EQ(reads.begin.size(), requests.size() + 1);
  LanguageTask task(model, examples, 1 << 20);
  const auto& frozen = task.frozen(0);
  const int64_t T = task.batch(0).ids.size(1);
  for (size_t b = 0; b < prompts.size(); ++b) {
    const auto r = static_cast<size_t>(task.batch(0).examples[b]);
    const int64_t begin = reads.begin[r], n = reads.begin[r + 1] - begin;
    ASSERT_EQ(n, static_cast<int64_t>(requests[r].tokens.size()) - requests[r].from);
    const int64_t from = static_cast<int64_t>(b) * T + requests[r].from;
    const auto same = [&](const at::Tensor& a, const at::Tensor& whole) {
      return at::allclose(a.narrow(0, begin, n).to(at::kFloat),
                          whole.narrow(0, from, n).to(at::kFloat), 1e-3, 1e-4);
    };
    EXPECT_TRUE(same(reads.accesses.slots, frozen.accesses.slots)) << prompts[r];
    EXPECT_TRUE(same(reads.accesses.weights, frozen.accesses.weights)) << prompts[r];
    EXPECT_TRUE(same(reads.queries, frozen.queries)) << prompts[r];
  }
}

TEST(Reading, OfNothing) {
  const testing::TemporaryFolder folder;
  testing::write_tiny_memory_model(folder / "model");
  const auto model = LanguageModel::open(folder / "model");
  EXPECT_EQ(read_prompts(model, {}, true, {}, "read").begin.size(), 1U);
}

}  // namespace
}  // namespace accrete
