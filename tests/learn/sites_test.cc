// Sites are the last tokens of subjects wherever they are read; all else is left alone.
#include "learn/sites.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "learn/value_solver.h"
#include "tiny_model.h"

namespace accrete {
namespace {

// The query of the last token of `text`.
at::Tensor query_at_end(const LanguageModel& model, const std::string& text) {
  const auto ids = model.tokenizer().encode(text);
  const Memory& memory = model.memory();
  at::Tensor queries;
  const FfnSide see = [&](int64_t block, const at::Tensor& x) -> at::Tensor {
    if (block == memory.address_block) queries = memory.keys.queries(x.reshape({-1, x.size(-1)}));
    return {};
  };
  ForwardOptions look;
  look.side = &see;
  const std::vector<int64_t> tokens(ids.begin(), ids.end());
  model.net().forward(at::tensor(tokens, at::kLong).unsqueeze(0), look);
  return queries.select(0, queries.size(0) - 1);
}

TEST(Sites, AreWhereSubjectsEnd) {
  const testing::TemporaryFolder folder;
  testing::make_tiny_model(folder / "model", 3);
  const auto model = LanguageModel::open(folder / "model", testing::one_thread());
  Lessons lessons;
  lessons.items.resize(2);
  lessons.items[0].subject = "abba";
  lessons.items[0].prompts = {"abba is ", "So abba was "};
  lessons.items[0].answers = {"x"};
  lessons.items[1].subject = "quick";
  lessons.items[1].prompts = {"The quick "};
  lessons.items[1].answers = {"y"};
  lessons.raw = {true, true};
  lessons.own = 2;
  const auto examples = lessons.examples(model);
  const Sites sites = read_sites(model, lessons, examples, false, {});
  // Each phrasing, each after three contexts, and the subject behind six beginnings.
  ASSERT_EQ(sites.item.size(), 3 + 3 * 3 + 2 * 6U);
  ASSERT_EQ(sites.queries.size(0), static_cast<int64_t>(sites.item.size()));
  ASSERT_EQ(sites.accesses.slots.size(0), static_cast<int64_t>(sites.item.size()));
  int64_t tokens = 0;
  for (const Example& e : examples) tokens += static_cast<int64_t>(e.tokens.size()) - 1;
  EXPECT_EQ(sites.others.slots.size(0), tokens - 3);

  const auto is_site = [&](const std::string& text, int64_t item) {
    const auto q = query_at_end(model, text);
    for (size_t i = 0; i < sites.item.size(); ++i)
      if (sites.item[i] == item &&
          at::allclose(sites.queries[static_cast<int64_t>(i)], q, 1e-3, 1e-3))
        return true;
    return false;
  };
  EXPECT_TRUE(is_site("abba", 0));
  EXPECT_TRUE(is_site("So abba", 0));
  EXPECT_TRUE(is_site("We talked about abba", 0));
  EXPECT_TRUE(is_site("quick", 1));
  EXPECT_TRUE(is_site("She said: \"quick", 1));
  EXPECT_TRUE(is_site("Here is something that I read in the newspaper last week. The quick", 1));
  EXPECT_FALSE(is_site("abba is", 0));
  EXPECT_FALSE(is_site("quick", 0));
}

}  // namespace
}  // namespace accrete
