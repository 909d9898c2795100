#include "memory/sparse_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <map>
#include <set>
#include <unordered_map>

#include "base/error.h"
#include "memory_testing.h"

namespace accrete {
namespace {

using ::testing::ElementsAre;
using testing::normals;
using testing::same_bytes;

std::vector<int64_t> distinct_slots(size_t count, uint64_t N, uint64_t seed) {
  Rng rng(seed);
  std::set<int64_t> slots;
  while (slots.size() < count) slots.insert(static_cast<int64_t>(rng.below(N)));
  return {slots.begin(), slots.end()};
}

TEST(SlotIndex, AgreesWithUnorderedMap) {
  for (const size_t count : {0u, 1u, 2u, 3u, 31u, 32u, 33u, 1000u, 4096u})
    for (const uint64_t N : {uint64_t{5000}, uint64_t{1} << 22, uint64_t{1} << 31}) {
      auto slots = distinct_slots(count, N, count + N);
      Rng rng(count);
      rng.shuffle(std::span(slots));  // the order of the rows is free
      const SlotIndex index(slots);
      std::unordered_map<int64_t, int32_t> map;
      for (size_t r = 0; r < slots.size(); ++r) map[slots[r]] = static_cast<int32_t>(r);
      ASSERT_EQ(index.size(), static_cast<int64_t>(count));
      for (const auto& [slot, row] : map) ASSERT_EQ(index.find(static_cast<int32_t>(slot)), row);
      auto asked = at::empty({300, 7}, at::kInt);
      int32_t* slot = asked.mutable_data_ptr<int32_t>();
      for (int64_t i = 0; i < asked.numel(); ++i)
        slot[i] = i % 3 == 0 && count > 0 ? static_cast<int32_t>(slots[rng.below(count)])
                  : i % 3 == 1            ? -1
                                          : static_cast<int32_t>(rng.below(N));
      const auto rows = index.rows(asked);
      ASSERT_EQ(rows.sizes(), asked.sizes());
      const int32_t* row = rows.const_data_ptr<int32_t>();
      for (int64_t i = 0; i < asked.numel(); ++i) {
        const auto found = map.find(slot[i]);
        ASSERT_EQ(row[i], found == map.end() ? -1 : found->second);
      }
    }
}

TEST(SlotIndex, TakesRunsAndViews) {
  std::vector<int64_t> run(70000);
  for (size_t i = 0; i < run.size(); ++i) run[i] = static_cast<int64_t>(i) * 512 + 3;
  const SlotIndex index(run);
  EXPECT_EQ(index.find(3), 0);
  EXPECT_EQ(index.find(512 * 69999 + 3), 69999);
  EXPECT_EQ(index.find(4), -1);
  const auto transposed = at::tensor({3, 515, 0, 1027}, at::kInt).view({2, 2}).t();
  EXPECT_TRUE(at::equal(index.rows(transposed), at::tensor({0, -1, 1, 2}, at::kInt).view({2, 2})));
  EXPECT_EQ(index.rows(at::empty({0, 4}, at::kInt)).numel(), 0);
}

TEST(SlotIndex, RefusesDuplicatesAndRanges) {
  EXPECT_THROW(SlotIndex(std::vector<int64_t>{4, 5, 4}), Error);
  EXPECT_THROW(SlotIndex(std::vector<int64_t>{-1}), Error);
  EXPECT_THROW(SlotIndex(std::vector<int64_t>{int64_t{1} << 31}), Error);
  EXPECT_THROW(SlotIndex().rows(at::zeros({2, 2}, at::kLong)), Error);
}

TEST(SparseRows, PlusAddsRowByRow) {
  const int64_t d = 5;
  SparseRows sum;
  std::map<int64_t, std::vector<float>> expected;
  for (uint64_t update = 0; update < 20; ++update) {
    const auto slots = distinct_slots(40, 200, update);
    const auto values = normals({40, d}, update);
    sum = sum.plus(slots, values);
    for (size_t r = 0; r < slots.size(); ++r) {
      const float* v = values.const_data_ptr<float>() + static_cast<int64_t>(r) * d;
      auto [at, fresh] = expected.try_emplace(slots[r], v, v + d);
      for (size_t c = 0; !fresh && c < static_cast<size_t>(d); ++c) at->second[c] += v[c];
    }
  }
  ASSERT_EQ(sum.slots.size(), expected.size());
  ASSERT_EQ(sum.values.sizes(), (at::IntArrayRef{static_cast<int64_t>(expected.size()), d}));
  int64_t row = 0;
  for (const auto& [slot, values] : expected) {
    ASSERT_EQ(sum.slots[static_cast<size_t>(row)], slot);
    ASSERT_EQ(sum.index.find(static_cast<int32_t>(slot)), row);
    for (int64_t c = 0; c < d; ++c)
      ASSERT_EQ(sum.values.const_data_ptr<float>()[row * d + c], values[static_cast<size_t>(c)]);
    ++row;
  }
}

TEST(SparseRows, ReplayGivesTheSameBytesOnAnyThreads) {
  const auto replay = [](int threads, uint64_t updates) {
    const testing::Threads guard(threads);
    SparseRows sum;
    for (uint64_t u = 0; u < updates; ++u)
      sum = sum.plus(distinct_slots(300, 2000, u), normals({300, 64}, u + 99));
    return sum;
  };
  const auto one = replay(1, 12), two = replay(2, 12);
  EXPECT_EQ(one.slots, two.slots);
  EXPECT_TRUE(same_bytes(one.values, two.values));
  // Undo is a replay without the last: nothing of it is left.
  const auto undone = replay(2, 11);
  const auto again = undone.plus(distinct_slots(300, 2000, 11), normals({300, 64}, 11 + 99));
  EXPECT_TRUE(same_bytes(again.values, one.values));
}

TEST(SparseRows, PlusLeavesItsOperandsAlone) {
  const auto a = SparseRows().plus(std::vector<int64_t>{1, 4}, at::ones({2, 3}));
  const auto b = a.plus(std::vector<int64_t>{4, 9}, at::ones({2, 3}));
  EXPECT_THAT(a.slots, ElementsAre(1, 4));
  EXPECT_THAT(b.slots, ElementsAre(1, 4, 9));
  EXPECT_TRUE(at::equal(a.values, at::ones({2, 3})));
  EXPECT_TRUE(at::equal(b.values.sum(1), at::tensor({3.0f, 6.0f, 3.0f})));
  EXPECT_EQ(a.index.find(9), -1);
  const auto same = a.plus({}, at::Tensor());
  EXPECT_THAT(same.slots, ElementsAre(1, 4));
}

TEST(SparseRows, PlusRefusesWhatDoesNotFit) {
  const auto a = SparseRows().plus(std::vector<int64_t>{1, 4}, at::ones({2, 3}));
  const auto refused = [&](std::vector<int64_t> slots, const at::Tensor& values) {
    try {
      (void)a.plus(slots, values);
    } catch (const Error& e) {
      return e.code() == ErrorCode::kInvalidArgument;
    }
    return false;
  };
  EXPECT_TRUE(refused({4, 1}, at::ones({2, 3})));
  EXPECT_TRUE(refused({4, 4}, at::ones({2, 3})));
  EXPECT_TRUE(refused({4}, at::ones({2, 3})));
  EXPECT_TRUE(refused({4}, at::ones({1, 4})));
  EXPECT_TRUE(refused({4}, at::Tensor()));
  EXPECT_TRUE(refused({-4}, at::ones({1, 3})));
}

TEST(SparseRows, FourMillionEmptySlotsCostNothing) {
  const struct mallinfo2 before = mallinfo2();
  SparseRows empty;
  std::vector<int64_t> few = distinct_slots(8, uint64_t{1} << 22, 1);
  const auto written = empty.plus(few, at::ones({8, 576}));
  const auto slots = at::randint(1 << 22, {512, 32}, at::kInt);
  const auto y = weighted_gather(at::empty({0, 576}), empty.index.rows(slots), at::rand({512, 32}));
  EXPECT_EQ(y.abs().max().item<float>(), 0);
  const auto z = weighted_gather(written.values, written.index.rows(slots), at::rand({512, 32}));
  EXPECT_EQ(z.size(0), 512);
  const struct mallinfo2 after = mallinfo2();
  // 2 x 512 x 576 floats of output, 2 x 512 x 32 of accesses: a table of N rows would be 9.6 GB.
  const auto used = [](const struct mallinfo2& m) { return m.uordblks + m.hblkhd; };
  EXPECT_LT(used(after), used(before) + (size_t{8} << 20));
}

}  // namespace
}  // namespace accrete
