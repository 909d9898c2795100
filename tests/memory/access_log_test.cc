#include "memory/access_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/error.h"
#include "memory_testing.h"

namespace accrete {
namespace {

using ::testing::ElementsAre;
using testing::random_accesses;
using testing::same_bytes;

constexpr int64_t kSlots = 400;

AccessLog some_log() {
  AccessLog log;
  log.append(random_accesses(500, 8, kSlots, 1), 1, true);
  log.append(random_accesses(100, 8, kSlots, 2, 0.4), 0.25, false);
  log.append(random_accesses(300, 8, kSlots, 3, 0.1), 1, true);
  return log;
}

// E[a a^T] over all slots, in double.
at::Tensor dense_gram(const AccessLog& log, int64_t N) {
  auto sum = at::zeros({N, N}, at::kDouble);
  double tokens = 0;
  for (const auto& part : log.parts()) {
    const int64_t T = part.accesses.tokens();
    const auto slots = part.accesses.slots.to(at::kLong);
    const auto a =
        at::zeros({T, N}, at::kDouble)
            .scatter_add(1, slots.clamp_min(0),
                         at::where(slots >= 0, part.accesses.weights, 0.0f).to(at::kDouble));
    sum += part.weight * at::mm(a.t(), a);
    if (part.background) tokens += part.weight * static_cast<double>(T);
  }
  return sum / tokens;
}

TEST(AccessLog, GramIsTheDenseOne) {
  const AccessLog log = some_log();
  const auto dense = dense_gram(log, kSlots);
  for (const int64_t t : {1, 2, 63, 64, 65, 130, 400}) {
    std::vector<int64_t> slots(kSlots);
    for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int64_t>(i);
    Rng rng(static_cast<uint64_t>(t));
    rng.shuffle(std::span(slots));
    slots.resize(static_cast<size_t>(t));
    const auto gram = log.gram(SlotIndex(slots));
    const auto index = at::tensor(slots, at::kLong);
    const auto expected = dense.index_select(0, index).index_select(1, index);
    ASSERT_EQ(gram.sizes(), (at::IntArrayRef{t, t}));
    EXPECT_TRUE(at::allclose(gram.to(at::kDouble), expected, 1e-6, 1e-9)) << t;
    EXPECT_TRUE(at::equal(gram, gram.t())) << t;
    const BlockSymmetric blocks = log.block_gram(SlotIndex(slots)), same = BlockSymmetric::of(gram);
    ASSERT_EQ(blocks.rows.size(), same.rows.size());
    for (size_t p = 0; p < same.rows.size(); ++p)
      EXPECT_TRUE(at::equal(blocks.rows[p], same.rows[p])) << t;
  }
}

TEST(AccessLog, GramDoesNotDependOnTheThreads) {
  const AccessLog log = some_log();
  std::vector<int64_t> slots;
  for (int64_t i = 0; i < kSlots; i += 2) slots.push_back(i);
  const SlotIndex selected(slots);
  const auto with = [&](int threads) {
    const testing::Threads guard(threads);
    return log.gram(selected);
  };
  EXPECT_TRUE(same_bytes(with(1), with(2)));
  EXPECT_TRUE(same_bytes(with(1), with(3)));
}

TEST(AccessLog, DiagonalIsTheGrams) {
  const AccessLog log = some_log();
  const auto diagonal = log.diagonal();
  ASSERT_EQ(diagonal.slots.size(), diagonal.values.size());
  EXPECT_TRUE(std::is_sorted(diagonal.slots.begin(), diagonal.slots.end()));
  const auto gram = log.gram(SlotIndex(diagonal.slots));
  for (size_t i = 0; i < diagonal.slots.size(); ++i)
    ASSERT_EQ(diagonal.values[i],
              gram[static_cast<int64_t>(i)][static_cast<int64_t>(i)].item<float>());
  std::set<int32_t> touched;
  for (const auto& part : log.parts()) {
    const int32_t* slot = part.accesses.slots.const_data_ptr<int32_t>();
    for (int64_t i = 0; i < part.accesses.slots.numel(); ++i)
      if (slot[i] >= 0) touched.insert(slot[i]);
  }
  EXPECT_EQ(diagonal.slots.size(), touched.size());
}

TEST(AccessLog, DiagonalOfHighSlots) {
  AccessLog log;
  const int32_t top = std::numeric_limits<int32_t>::max();
  log.append({at::tensor({top, 5, top - 1, -1}, at::kInt).view({2, 2}),
              at::tensor({1.0f, 2.0f, 3.0f, 0.0f}).view({2, 2})},
             1, true);
  const auto diagonal = log.diagonal();
  EXPECT_THAT(diagonal.slots, ElementsAre(5, top - 1, top));
  EXPECT_THAT(diagonal.values, ElementsAre(2.0f, 4.5f, 0.5f));
}

TEST(AccessLog, JoiningTokensAddsToG) {
  AccessLog log;
  log.append(random_accesses(500, 8, kSlots, 1), 1, true);
  const SlotIndex selected(std::vector<int64_t>{3, 9, 27, 81});
  const auto before = log.gram(selected);
  const auto joined = random_accesses(50, 8, kSlots, 2);
  log.append(joined, 0.5, false);
  EXPECT_EQ(log.background_tokens(), 500);
  EXPECT_EQ(log.tokens(), 550);
  AccessLog alone;
  alone.append(joined, 1, true);
  EXPECT_TRUE(at::allclose(log.gram(selected), before + alone.gram(selected) * (0.5 * 50 / 500)));
}

TEST(AccessLog, PaddingIsNoToken) {
  auto accesses = random_accesses(40, 8, kSlots, 1);
  AccessLog plain, padded;
  plain.append(accesses, 1, true);
  padded.append({at::cat({accesses.slots.narrow(0, 0, 20), at::full({7, 8}, -1, at::kInt),
                          accesses.slots.narrow(0, 20, 20)}),
                 at::cat({accesses.weights.narrow(0, 0, 20), at::zeros({7, 8}),
                          accesses.weights.narrow(0, 20, 20)})},
                1, true);
  padded.append({at::full({7, 8}, -1, at::kInt), at::zeros({7, 8})}, 1, true);
  EXPECT_EQ(padded.tokens(), 40);
  EXPECT_EQ(padded.background_tokens(), 40);
  EXPECT_EQ(padded.batches(10), 4);
  const auto slots = plain.diagonal().slots;
  EXPECT_TRUE(same_bytes(plain.gram(SlotIndex(slots)), padded.gram(SlotIndex(slots))));
  EXPECT_EQ(plain.document_frequency(slots, 10), padded.document_frequency(slots, 10));
}

TEST(AccessLog, DocumentFrequencyCountsBatches) {
  const AccessLog log = some_log();
  std::vector<int64_t> slots;
  for (int64_t i = kSlots - 1; i >= 0; i -= 3) slots.push_back(i);
  for (const int64_t batch : {1, 7, 64, 1000}) {
    std::map<int64_t, std::set<int64_t>> batches;
    int64_t token = 0;
    for (const auto& part : log.parts()) {
      if (!part.background) continue;
      const int32_t* slot = part.accesses.slots.const_data_ptr<int32_t>();
      for (int64_t t = 0; t < part.accesses.tokens(); ++t, ++token)
        for (int64_t k = 0; k < 8; ++k) batches[slot[t * 8 + k]].insert(token / batch);
    }
    const auto frequency = log.document_frequency(slots, batch);
    ASSERT_EQ(frequency.size(), slots.size());
    for (size_t i = 0; i < slots.size(); ++i)
      ASSERT_EQ(frequency[i], static_cast<int64_t>(batches[slots[i]].size())) << slots[i];
    EXPECT_EQ(log.batches(batch), (token + batch - 1) / batch);
  }
}

TEST(AccessLog, EmptyLog) {
  const AccessLog log;
  EXPECT_EQ(log.tokens(), 0);
  EXPECT_TRUE(log.diagonal().slots.empty());
  EXPECT_EQ(log.batches(8), 0);
  EXPECT_THAT(log.document_frequency(std::vector<int64_t>{1, 2}, 8), ElementsAre(0, 0));
  EXPECT_TRUE(at::equal(log.gram(SlotIndex(std::vector<int64_t>{1, 2})), at::zeros({2, 2})));
  EXPECT_EQ(log.gram(SlotIndex()).numel(), 0);
}

TEST(AccessLog, RefusesWhatDoesNotFit) {
  AccessLog log;
  const auto accesses = random_accesses(4, 8, kSlots, 1);
  EXPECT_THROW(log.append(accesses, -1, true), Error);
  EXPECT_THROW(log.append(accesses, std::nan(""), true), Error);
  EXPECT_THROW(log.append({}, 1, true), Error);
  EXPECT_THROW(log.append({accesses.slots, accesses.weights.narrow(1, 0, 3)}, 1, true), Error);
  EXPECT_THROW(log.batches(0), Error);
  EXPECT_TRUE(log.parts().empty());
}

TEST(Accesses, Concat) {
  const auto a = random_accesses(4, 8, kSlots, 1), b = random_accesses(3, 8, kSlots, 2);
  const auto both = concat({a, Accesses{}, b});
  EXPECT_EQ(both.tokens(), 7);
  EXPECT_TRUE(at::equal(both.slots.narrow(0, 4, 3), b.slots));
  EXPECT_TRUE(at::equal(both.weights.narrow(0, 0, 4), a.weights));
  EXPECT_FALSE(concat({}).defined());
  EXPECT_THROW(concat({a, random_accesses(3, 7, kSlots, 2)}), Error);
}

}  // namespace
}  // namespace accrete
