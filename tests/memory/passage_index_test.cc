#include "memory/passage_index.h"

#include <gtest/gtest.h>

#include <cmath>

#include "memory/fact_store.h"

namespace accrete {
namespace {

constexpr int64_t kPassageWidth = 8;

// A passage of these pieces; piece k has the k-th unit vector turned by `turn`.
TaughtItem passage(const std::string& document, std::vector<std::string> pieces,
                   const std::string& section = "") {
  TaughtItem item;
  item.document = document;
  item.document_digest = "d";
  item.section = section;
  item.prompts = std::move(pieces);
  return item;
}

std::vector<float> unit(int64_t axis) {
  std::vector<float> out(kPassageWidth, 0);
  out[static_cast<size_t>(axis)] = 1;
  return out;
}

Update update_of(std::vector<TaughtItem> items) {
  Update update;
  update.facts.key_width = kPassageWidth;
  int64_t axis = 0;
  std::vector<int8_t> key(kPassageWidth);
  for (TaughtItem& item : items) {
    update.facts.answer_scales.push_back(
        quantize_key(unit(axis % kPassageWidth).data(), kPassageWidth, key.data()));
    update.facts.answers.insert(update.facts.answers.end(), key.begin(), key.end());
    for (size_t k = 0; k < item.prompts.size(); ++k) {
      const float scale =
          quantize_key(unit(axis++ % kPassageWidth).data(), kPassageWidth, key.data());
      update.facts.scales.insert(update.facts.scales.end(), {scale, scale});
      update.facts.whole.insert(update.facts.whole.end(), key.begin(), key.end());
      update.facts.masked.insert(update.facts.masked.end(), key.begin(), key.end());
    }
    update.facts.vectors.push_back(0);
    update.taught.items.push_back(std::move(item));
  }
  return update;
}

FactStore store_of(std::vector<TaughtItem> items) {
  Update update = update_of(std::move(items));
  EXPECT_EQ(fault(update.facts, update.taught.items), "");
  return FactStore().with("u", std::make_shared<const Update>(std::move(update)));
}

TEST(PassageIndex, WordsAndNumbersFindThePassageThatHoldsThem) {
  const FactStore store = store_of({passage("a", {"The fee of 2023 was 40 euros."}, "Fees"),
                                    passage("b", {"The fee of 2024 was 45 euros."}, "Fees"),
                                    passage("c", {"Bring a towel.", "\nAnd soap."}, "Pool")});
  ASSERT_EQ(store.passages().size(), 3U);
  const auto nowhere = std::vector<float>(kPassageWidth, 0);
  const auto found = store.passage_index().search("What was the fee in 2024?", nowhere.data(), 3);
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].passage, 1);
  EXPECT_EQ(found[1].passage, 0);
  EXPECT_NEAR(found[0].covered, 1, 1e-6);
  EXPECT_GT(found[0].words, found[1].words);
  EXPECT_EQ(store.passage_index().search("towels", nowhere.data(), 1)[0].passage, 2);
}

TEST(PassageIndex, TheNearestPieceIsTheOneWhoseKeyIsNearest) {
  const FactStore store = store_of({passage("a", {"one.", "two.", "three."})});
  const auto found = store.passage_index().search("x", unit(2).data(), 1);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].piece, 2);
  EXPECT_NEAR(found[0].nearest, 1, 0.01);
}

TEST(PassageIndex, OrderIsTheSameWhereverTheTiesAre) {
  std::vector<TaughtItem> items;
  for (int i = 0; i < 100; ++i) items.push_back(passage(std::to_string(i), {"the same words"}));
  const FactStore store = store_of(std::move(items));
  const auto nowhere = std::vector<float>(kPassageWidth, 0);
  const auto found = store.passage_index().search("same words", nowhere.data(), 5);
  for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i].passage, static_cast<int64_t>(i));
}

TEST(PassageIndex, AnotherVersionTakesThePlaceOfADocument) {
  Update first = update_of({passage("a", {"The fee is 40."}), passage("b", {"A towel."})});
  const std::string old = fact_id(first.taught.items[0]);
  FactStore store = FactStore().with("u", std::make_shared<const Update>(std::move(first)));
  Update second = update_of({passage("a", {"The fee is 45."})});
  second.taught.items[0].replaces = {old};
  store = store.with("v", std::make_shared<const Update>(std::move(second)));
  ASSERT_EQ(store.passages().size(), 2U);
  EXPECT_EQ(store.find(old), -1);

  // What only takes away has no passage of its own.
  TaughtItem forget;
  forget.document = "a";
  forget.replaces = {store.fact(store.passages()[1]).id};
  Update third;
  third.facts.key_width = kPassageWidth;
  third.facts.vectors = {0};
  third.facts.answers.assign(kPassageWidth, 0);
  third.facts.answer_scales = {1};
  third.taught.items = {forget};
  EXPECT_EQ(fault(third.facts, third.taught.items), "");
  store = store.with("w", std::make_shared<const Update>(std::move(third)));
  ASSERT_EQ(store.size(), 1);
  EXPECT_EQ(store.fact(0).text().document, "b");
}

TEST(PassageIndex, FactsComeBeforePassagesAndALeftQuestionHasNeither) {
  const FactStore store = store_of({passage("a", {"The fee is 40 euros."})});
  const Vocabulary none = [](std::string_view) { return -1; };
  const auto asked = store.read({"What is the fee?", {}, false}, none);
  ASSERT_EQ(asked.passage_texts.size(), 1U);
  const auto evidence = store.weigh_passages(asked, unit(0).data());
  Choice choice;
  store.decide_passages(evidence, /*caution=*/-50, choice);
  ASSERT_EQ(choice.passages.size(), 1U);
  EXPECT_TRUE(choice.taught());
  Choice by_fact;
  by_fact.fact = 0;
  store.decide_passages(evidence, -50, by_fact);
  EXPECT_TRUE(by_fact.passages.empty());
  EXPECT_TRUE(by_fact.best_passage.has_value());
  Choice left;
  left.left = true;
  store.decide_passages(evidence, -50, left);
  EXPECT_TRUE(left.passages.empty());
  Choice careful;
  store.decide_passages(evidence, 50, careful);
  EXPECT_FALSE(careful.taught());
  // A text to go on with is never answered from documents.
  EXPECT_TRUE(store.read({"What is the fee?", {}, true}, none).passage_texts.empty());
}

TEST(PassageIndex, WhatIsReadTogetherDecidesAmongTheNearest) {
  const auto found = [](double cosine, std::optional<double> read) {
    PassageEvidence e;
    e.nearest = e.whole = cosine;
    e.covered = e.words = 0.5;
    e.read = read;
    return e;
  };
  std::vector<PassageEvidence> apart = {found(0.5, {}), found(0.6, {})};
  rank_passages(apart, 2);
  EXPECT_EQ(apart.front().nearest, 0.6);
  // Those that were not read are out, and what reading says outweighs a little nearness.
  std::vector<PassageEvidence> read = {found(0.62, {}), found(0.6, -4), found(0.55, 4)};
  rank_passages(read, 3);
  ASSERT_EQ(read.size(), 2U);
  EXPECT_EQ(read.front().nearest, 0.55);
  // The more passages there are, the more is asked for.
  std::vector<PassageEvidence> among_few = {found(0.6, 1)}, among_many = among_few;
  rank_passages(among_few, 1);
  rank_passages(among_many, 2000);
  EXPECT_GT(among_few.front().log_odds, among_many.front().log_odds);
}

TEST(PassageIndex, TheAnsweringPieceHasTheWordThatTellsItFromTheOthers) {
  const std::vector<std::string> rows = {"Code: E12; Meaning: too hot",
                                         "Code: E15; Meaning: blocked", "Call us."};
  const std::vector<double> read = {-1.5, -1, -2};
  EXPECT_EQ(answering_piece("What does code E12 mean?", rows, read), 0);
  EXPECT_EQ(answering_piece("What does that code mean?", rows, read), 1);
  EXPECT_EQ(answering_piece("Why?", rows, {}), 0);
  EXPECT_EQ(answering_piece("Why?", {}, {}), -1);
}

TEST(PassageIndex, OnlyWhatLiesNearEnoughIsRead) {
  std::vector<PassageEvidence> evidence(6);
  for (PassageEvidence& e : evidence) e.log_odds = -2;
  EXPECT_EQ(passages_to_read(evidence), 3U);
  evidence[1].log_odds = evidence[2].log_odds = -20;
  EXPECT_EQ(passages_to_read(evidence), 2U);  // the second is what the first is compared with
  evidence[0].log_odds = -20;
  EXPECT_EQ(passages_to_read(evidence), 0U);
  EXPECT_EQ(passages_to_read({}), 0U);
}

}  // namespace
}  // namespace accrete
