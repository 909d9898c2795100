#include "base/slips.h"

#include <gtest/gtest.h>

#include <vector>

namespace accrete {
namespace {

TEST(Slips, CountsEdits) {
  EXPECT_EQ(slips("answer", "answer"), 0U);
  EXPECT_EQ(slips("answr", "answer"), 1U);
  EXPECT_EQ(slips("anwser", "answer"), 1U);  // two that changed places
  EXPECT_EQ(slips("anwsers", "answer"), 2U);
  EXPECT_EQ(slips("question", "answer"), 3U);  // more than two
  EXPECT_EQ(slips("", "ab"), 2U);
}

TEST(Slips, FindsTheNearestWord) {
  const std::vector<std::string> known = {"--explain", "--overlay", "--top-k", "--top-p"};
  EXPECT_EQ(nearest_word("--explian", known), "--explain");
  EXPECT_EQ(nearest_word("--overlays", known), "--overlay");
  EXPECT_EQ(nearest_word("--frobnicate", known), "");
  EXPECT_EQ(nearest_word("x", known), "");
  EXPECT_EQ(nearest_word("--top_k", known), "--top-k");
}

}  // namespace
}  // namespace accrete
