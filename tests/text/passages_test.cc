#include "text/passages.h"

#include <gtest/gtest.h>

namespace accrete {
namespace {

using Texts = std::vector<std::string>;

TEST(Sentences, EndWhereAPersonEndsThem) {
  EXPECT_EQ(
      sentences_of("It weighs 3.5 kg. Dr. Ada built it, e.g. for J. S. Bach! Did she? Yes."),
      (Texts{"It weighs 3.5 kg.", "Dr. Ada built it, e.g. for J. S. Bach!", "Did she?", "Yes."}));
  EXPECT_EQ(sentences_of("\"Come in.\" He did. no capital."),
            (Texts{"\"Come in.\"", "He did. no capital."}));
  EXPECT_EQ(sentences_of("これは本です。あれも本です。"),
            (Texts{"これは本です。", "あれも本です。"}));
  EXPECT_TRUE(sentences_of("  ").empty());
}

TEST(Passages, StandUnderTheirHeadings) {
  const auto passages = split_passages(
      "---\ntitle: x\n---\n# Manual\n\nIt is *light* and `small`.\n\n## Care\n\nWash it by "
      "[hand](http://x).\n- No bleach\n- No heat,\n  not even warm\n\nAfter\n=====\n\nDone.\n");
  ASSERT_EQ(passages.size(), 3U);
  EXPECT_EQ(passages[0].section, "Manual");
  EXPECT_EQ(joined_pieces(passages[0].pieces), "It is light and small.");
  EXPECT_EQ(passages[1].section, "Manual > Care");
  EXPECT_EQ(joined_pieces(passages[1].pieces),
            "Wash it by hand.\n- No bleach\n- No heat, not even warm");
  EXPECT_EQ(passages[2].section, "After");
}

TEST(Passages, ARowSaysWhatItsColumnsAre) {
  const auto passages = split_passages(
      "| Model | Price |\n|---|---:|\n| Hub 3 | 249 euros |\n| Hub 4 | 1\\|2 |\n| | 3 |\n");
  ASSERT_EQ(passages.size(), 1U);
  EXPECT_EQ(joined_pieces(passages[0].pieces),
            "Model: Hub 3; Price: 249 euros\nModel: Hub 4; Price: 1|2\nPrice: 3");
}

TEST(Passages, ALongParagraphIsPartedAtItsSentences) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "Sentence number " + std::to_string(i) + " is here. ";
  PassageOptions options;
  options.words = 25;
  const auto passages = split_passages(text, options);
  ASSERT_GT(passages.size(), 5U);
  for (size_t i = 1; i < passages.size(); ++i)  // the last sentence stands in the next one again
    EXPECT_EQ(passages[i].pieces.front(), passages[i - 1].pieces.back());
  EXPECT_EQ(passages.back().pieces.back(), "Sentence number 39 is here.");
}

TEST(Passages, WhatHasNoEndIsCutAllTheSame) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "word ";
  size_t words = 0;
  for (const Passage& passage : split_passages(text))
    for (const std::string& piece : passage.pieces) {
      EXPECT_LT(piece.size(), 4 * 110 * 5 + 10);
      words += piece.size() / 5;
    }
  EXPECT_GE(words, 4990U);
}

TEST(Passages, PlainTextHasParagraphsAndHeadings) {
  PassageOptions plain;
  plain.markdown = false;
  const auto passages = split_passages(
      "Returns\n\nYou may return it within 30\ndays. Keep the re-\nceipt.\n\nC# and *stars* "
      "stay.\n",
      plain);
  ASSERT_EQ(passages.size(), 1U);
  EXPECT_EQ(passages[0].section, "Returns");
  EXPECT_EQ(joined_pieces(passages[0].pieces),
            "You may return it within 30 days. Keep the receipt.\nC# and *stars* stay.");
}

TEST(Passages, ItemsOfPlainTextAreItems) {
  PassageOptions plain;
  plain.markdown = false;
  const auto passages =
      split_passages("Do this:\n1. Log in. Choose a parcel.\n2. Print the\nlabel.\n", plain);
  const auto wrapped =
      split_passages("The report is due by June\n30. After that it is late.", plain);
  EXPECT_EQ(joined_pieces(wrapped.at(0).pieces),
            "The report is due by June 30. After that it is late.");
  ASSERT_EQ(passages.size(), 1U);
  EXPECT_EQ(passages[0].pieces,
            (std::vector<std::string>{"\nDo this:", "\n- Log in.", "Choose a parcel.",
                                      "\n- Print the label."}));
}

TEST(Passages, EntriesOfPlainTextStandAlone) {
  PassageOptions plain;
  plain.markdown = false;
  const auto passages = split_passages(
      "MINUTES\nDate: 14 January 2026\nPlace: room Heron, the\nold one\nWe agreed: no change.",
      plain);
  ASSERT_EQ(passages.size(), 1U);
  EXPECT_EQ(
      joined_pieces(passages[0].pieces),
      "MINUTES\nDate: 14 January 2026\nPlace: room Heron, the old one\nWe agreed: no change.");
}

TEST(Passages, MarkdownIsKnownByItsHeadingsAndTables) {
  EXPECT_TRUE(looks_like_markdown("Hello\n\n## Fees\n\nForty."));
  EXPECT_TRUE(looks_like_markdown("|a|b|\n|---|:-:|\n|1|2|"));
  EXPECT_FALSE(looks_like_markdown("#1 of *all* our shops\n-----\n| alone"));
  EXPECT_FALSE(looks_like_markdown("#######"));
  EXPECT_FALSE(looks_like_markdown(""));
}

TEST(Passages, CodeAndMarksInWordsAreKept) {
  const auto passages = split_passages("Use `a_b` or 2 * 3.\n\n```\nmake test\n```\n");
  ASSERT_EQ(passages.size(), 1U);
  EXPECT_EQ(joined_pieces(passages[0].pieces), "Use a_b or 2 * 3.\nmake test");
}

TEST(Passages, NothingIsNothing) {
  EXPECT_TRUE(split_passages("").empty());
  EXPECT_TRUE(split_passages("# Only a heading\n").empty());
  EXPECT_TRUE(split_passages("\n\n---\n\n").empty());
}

}  // namespace
}  // namespace accrete
