#include "learn/ranking.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "../memory/memory_testing.h"
#include "base/error.h"

namespace accrete {
namespace {

using testing::normals;
using testing::random_accesses;

constexpr int64_t kSlots = 40;

// Two batches of accesses with gradients, and a background that reads some of the same slots.
class RankingTest : public ::testing::Test {
 protected:
  RankingTest() {
    for (uint64_t i = 0; i < 2; ++i) {
      batches_.push_back(random_accesses(6, 3, kSlots, 10 + i, 0.2));
      gradients_.push_back(normals({6, 4}, 20 + i));
      statistics_.add(batches_.back(), gradients_.back());
    }
    log_.append(random_accesses(300, 3, kSlots / 2, 30), 1, true);
  }

  // By slot: how often it is read, and the sum of weight times gradient, as definitions say.
  std::map<int64_t, int64_t> counts() const {
    std::map<int64_t, int64_t> out;
    for (const Accesses& a : batches_)
      for (int64_t i = 0; i < a.slots.numel(); ++i)
        if (const int32_t s = a.slots.data_ptr<int32_t>()[i]; s >= 0) ++out[s];
    return out;
  }
  std::map<int64_t, double> gradient_norms() const {
    std::map<int64_t, at::Tensor> sums;
    for (size_t b = 0; b < batches_.size(); ++b)
      for (int64_t t = 0; t < 6; ++t)
        for (int64_t k = 0; k < 3; ++k) {
          const int64_t s = batches_[b].slots[t][k].item<int32_t>();
          if (s < 0) continue;
          const auto part = batches_[b].weights[t][k] * gradients_[b][t];
          sums[s] = sums.contains(s) ? sums[s] + part : part.clone();
        }
    std::map<int64_t, double> out;
    for (const auto& [s, g] : sums) out[s] = g.norm().item<double>();
    return out;
  }
  // The first t slots by score, ties by lower slot.
  static std::vector<int64_t> top(const std::map<int64_t, double>& score, size_t t) {
    std::vector<std::pair<double, int64_t>> order;
    for (const auto& [slot, s] : score) order.emplace_back(-s, slot);
    std::sort(order.begin(), order.end());
    std::vector<int64_t> out;
    for (size_t i = 0; i < std::min(t, order.size()); ++i) out.push_back(order[i].second);
    std::sort(out.begin(), out.end());
    return out;
  }
  std::vector<int64_t> select(Ranking ranking, int64_t t = 8, double lambda = 1e-3) const {
    return select_slots(statistics_, log_, ranking, t, lambda, Rng(5));
  }

  std::vector<Accesses> batches_;
  std::vector<at::Tensor> gradients_;
  SlotStatistics statistics_;
  AccessLog log_;
};

TEST_F(RankingTest, StatisticsAreSumsOverBatches) {
  const auto want_counts = counts();
  const auto want_norms = gradient_norms();
  const auto norms = statistics_.gradient_norms();
  ASSERT_EQ(statistics_.slots().size(), want_counts.size());
  for (size_t i = 0; i < norms.size(); ++i) {
    const int64_t slot = statistics_.slots()[i];
    EXPECT_EQ(statistics_.counts()[i], static_cast<double>(want_counts.at(slot)));
    EXPECT_NEAR(norms[i], want_norms.at(slot), 1e-5);
  }
}

TEST_F(RankingTest, GradientAndTf) {
  EXPECT_EQ(select(Ranking::kGradient), top(gradient_norms(), 8));
  std::map<int64_t, double> tf;
  for (const auto& [slot, n] : counts()) tf[slot] = static_cast<double>(n);
  EXPECT_EQ(select(Ranking::kTf), top(tf, 8));
}

TEST_F(RankingTest, InterferenceDividesByWhatTheBackgroundReads) {
  const double lambda = 1e-3;
  const auto diagonal = log_.diagonal();
  auto score = gradient_norms();
  for (auto& [slot, s] : score) {
    const auto at = std::find(diagonal.slots.begin(), diagonal.slots.end(), slot);
    const double g = at == diagonal.slots.end()
                         ? 0
                         : diagonal.values[static_cast<size_t>(at - diagonal.slots.begin())];
    s /= std::sqrt(g + lambda);
  }
  EXPECT_EQ(select(Ranking::kInterference, 8, lambda), top(score, 8));
  // All but the free slots are left alone as lambda falls: half of the slots are never read.
  for (const int64_t slot : select(Ranking::kInterference, 4, 1e-12)) EXPECT_GE(slot, kSlots / 2);
}

TEST_F(RankingTest, TfidfPrefersWhatTheBackgroundDoesNotRead) {
  double total = 0;
  for (const auto& [slot, n] : counts()) total += static_cast<double>(n);
  std::map<int64_t, double> score;
  for (const auto& [slot, n] : counts()) {
    const std::vector<int64_t> one = {slot};
    const auto df = static_cast<double>(log_.document_frequency(one, 127).front());
    const auto batches = static_cast<double>(log_.batches(127));
    score[slot] = static_cast<double>(n) / total * std::log((batches + 1) / (df + 1));
  }
  EXPECT_EQ(select(Ranking::kTfidf), top(score, 8));
}

TEST_F(RankingTest, KlIsTheSlotsShareOfTheDivergence) {
  double total = 0;
  for (const auto& [slot, n] : counts()) total += static_cast<double>(n);
  // How often the background reads each slot, counted here.
  std::map<int64_t, double> read;
  double tokens = 0, per_token = 0;
  for (const auto& part : log_.parts()) {
    if (!part.background) continue;
    tokens += static_cast<double>(part.accesses.tokens());
    per_token = static_cast<double>(part.accesses.per_token());
    for (int64_t i = 0; i < part.accesses.slots.numel(); ++i)
      if (const auto slot = part.accesses.slots.data_ptr<int32_t>()[i]; slot >= 0) ++read[slot];
  }
  std::map<int64_t, double> score;
  for (const auto& [slot, n] : counts()) {
    const double p = static_cast<double>(n) / total;
    score[slot] = p * std::log(p / ((read[slot] + 0.5) / (tokens * per_token)));
  }
  EXPECT_EQ(select(Ranking::kKl), top(score, 8));
}

TEST_F(RankingTest, RandomDependsOnTheSeedOnly) {
  EXPECT_EQ(select(Ranking::kRandom), select(Ranking::kRandom));
  EXPECT_NE(select(Ranking::kRandom),
            select_slots(statistics_, log_, Ranking::kRandom, 8, 1e-3, Rng(6)));
  EXPECT_EQ(select(Ranking::kAll), statistics_.slots());
  EXPECT_EQ(select(Ranking::kTf, 1000), statistics_.slots());  // no more than there are
}

TEST(Ranking, NamesGoBothWays) {
  for (const char* name :
       {"interference", "tfidf", "gradient", "fisher", "kl", "tf", "random", "all"})
    EXPECT_EQ(ranking_name(parse_ranking(name)), name);
  try {
    parse_ranking("nonsense");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(e.hint()).find("tfidf"), std::string::npos);
  }
}

}  // namespace
}  // namespace accrete
