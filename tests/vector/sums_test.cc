// Addresses and sums: the kernels against their references, and what exact sums promise.
#include "vector/sums.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <map>
#include <set>

#include "../base/testing.h"
#include "base/rng.h"
#include "vector/winners.h"

namespace accrete {
namespace {

using testing::expect_error;

std::vector<int16_t> random_rows(int64_t rows, int64_t width, uint64_t seed) {
  Rng rng(seed);
  std::vector<int16_t> z;
  for (int64_t i = 0; i < rows * width; ++i)
    z.push_back(static_cast<int16_t>(std::clamp(256.0F * rng.normal(), -2048.0F, 2048.0F)));
  return z;
}

// Rows of values [n, outputs] as an update.
UpdateVectors update_of(const Winners& winners, int64_t rows, uint64_t seed, int64_t outputs) {
  const VectorAccesses a = winners.of(random_rows(rows, winners.inputs(), seed));
  UpdateVectors v;
  v.columns = winners.columns();
  v.rows = rows;
  v.per_row = a.per_row;
  v.slots = a.slots;
  v.weights = a.weights;
  for (int64_t c = 0; c < outputs; ++c) v.outputs.push_back(std::to_string(c));
  Rng rng(seed + 1000);
  for (int64_t i = 0; i < rows * outputs; ++i)
    v.values.push_back(static_cast<int32_t>(65536 * rng.normal()));
  return v;
}

at::Tensor dense(const UpdateVectors& v) {
  auto a = at::zeros({v.rows, v.columns}, at::kDouble);
  auto* p = a.data_ptr<double>();
  for (size_t i = 0; i < v.slots.size(); ++i)
    if (v.slots[i] >= 0)
      p[static_cast<int64_t>(i) / v.per_row * v.columns + v.slots[i]] = v.weights[i] * kWeightStep;
  return a;
}

at::Tensor targets(const UpdateVectors& v) {
  auto y = at::empty({v.rows, static_cast<int64_t>(v.outputs.size())}, at::kDouble);
  for (size_t i = 0; i < v.values.size(); ++i) y.data_ptr<double>()[i] = v.values[i] * kTargetStep;
  return y;
}

double furthest(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

TEST(Winners, AGateOpensAShareOfTheColumns) {
  const Winners plain(5, 200, 200, 3);
  const Winners gated(5, 200, 200, 3, {2, .125});
  const auto z = random_rows(300, 5, 1);
  auto g = random_rows(300, 2, 2);
  // Some rows follow one of the same task, one says nothing.
  for (size_t i = 100; i < 200; ++i) g[i] = g[i % 2];
  g[400] = g[401] = 0;
  const auto a = gated.of(z, g), all = plain.of(z), reference = gated.reference(z, g);
  EXPECT_EQ(a.slots, reference.slots);
  EXPECT_EQ(a.weights, reference.weights);
  const auto slots_of = [](const VectorAccesses& of, size_t row) {
    std::map<int16_t, int16_t> out;
    for (size_t i = row * 200; i < (row + 1) * 200 && of.slots[i] >= 0; ++i)
      out[of.slots[i]] = of.weights[i];
    return out;
  };
  std::set<int16_t> of_one_task;
  for (size_t row = 0; row < 300; ++row) {
    const auto own = slots_of(a, row);
    EXPECT_LE(own.size(), 25);
    for (const auto& [slot, weight] : own) {
      EXPECT_EQ(slots_of(all, row).at(slot), weight);
      if (row >= 50 && row < 100) of_one_task.insert(slot);
    }
  }
  EXPECT_LE(of_one_task.size(), 25);
  EXPECT_GT(of_one_task.size(), 12);
}

TEST(Winners, AreThoseOfTheReference) {
  for (const auto& [columns, k] : {std::pair<int64_t, int64_t>{64, 64}, {200, 7}, {33, 1}}) {
    const Winners winners(5, columns, k, 3);
    const auto z = random_rows(10000, 5, 1);
    const VectorAccesses fast = winners.of(z), plain = winners.reference(z);
    EXPECT_EQ(fast.slots, plain.slots);
    EXPECT_EQ(fast.weights, plain.weights);
    EXPECT_EQ(fast.rows(), 10000);
  }
}

TEST(Winners, AreTheSameForAnyNumberOfThreadsAndByTheSeed) {
  const auto z = random_rows(700, 9, 2);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const VectorAccesses one = Winners(9, 128, 16, 7).of(z);
  at::set_num_threads(4);
  const VectorAccesses four = Winners(9, 128, 16, 7).of(z);
  at::set_num_threads(before);
  EXPECT_EQ(one.weights, four.weights);
  EXPECT_EQ(one.slots, four.slots);
  EXPECT_NE(Winners(9, 128, 16, 8).of(z).slots, one.slots);
}

TEST(Winners, ImpossibleOnesAreRefused) {
  expect_error(ErrorCode::kInvalidArgument, [] { Winners(2, 4, 5, 0); });
  expect_error(ErrorCode::kInvalidArgument, [] { Winners(2, 4, 0, 0); });
  expect_error(ErrorCode::kInvalidArgument, [] { Winners(2, kMostColumns + 1, 5, 0); });
}

TEST(Sums, OfTheKernelAreThoseOfTheReference) {
  const Winners winners(6, 90, 20, 1);
  const UpdateVectors v = update_of(winners, 333, 4, 2);
  std::vector<double> fast(half_row(90, 90), 0.0), plain = fast;
  add_gram(v.slots, v.weights, v.per_row, 90, fast);
  add_gram_reference(v.slots, v.weights, v.per_row, 90, plain);
  EXPECT_EQ(fast, plain);
  const at::Tensor full = dense(v).t().mm(dense(v)) / (kWeightStep * kWeightStep);
  for (int64_t i = 0; i < 90; ++i)
    for (int64_t j = i; j < 90; ++j)
      ASSERT_EQ(fast[half_row(90, i) + static_cast<size_t>(j - i)], full[i][j].item<double>());
}

TEST(Sums, SetAfterSetIsOneRidgeOverAllOfThem) {
  const Winners winners(4, 48, 12, 5);
  std::vector<UpdateVectors> sets;
  for (uint64_t s = 0; s < 4; ++s) sets.push_back(update_of(winners, 40, s, 3));
  constexpr double kRidge = .5;
  // At once, from the matrices.
  std::vector<at::Tensor> a, y;
  for (const auto& v : sets) {
    a.push_back(dense(v));
    y.push_back(targets(v));
  }
  const at::Tensor all_a = at::cat(a), all_y = at::cat(y);
  const at::Tensor ridge = at::linalg_solve(all_a.t().mm(all_a) + kRidge * at::eye(48, at::kDouble),
                                            all_a.t().mm(all_y));
  // By the recursion, in two orders.
  for (const std::vector<size_t>& order : {std::vector<size_t>{0, 1, 2, 3}, {2, 0, 3, 1}}) {
    at::Tensor m = at::zeros({48, 3}, at::kDouble), gram = at::zeros({48, 48}, at::kDouble);
    VectorSums sums(48, {});
    for (const size_t s : order) {
      m = ridge_step(m, gram, a[s], y[s], 1, kRidge);
      sums.add(sets[s]);
    }
    EXPECT_LT(furthest(m, ridge), 1e-9);
    EXPECT_LT(furthest(sums.solve(kRidge), ridge), 1e-5);
  }
}

TEST(Sums, AreTheSameToTheBitInAnyOrderAndAfterAnythingWasTakenAway) {
  const Winners winners(4, 48, 12, 5);
  std::vector<UpdateVectors> sets;
  for (uint64_t s = 0; s < 3; ++s) sets.push_back(update_of(winners, 50, s, 2));
  VectorSums forth(48, {}), back(48, {}), without(48, {});
  for (const size_t s : {0, 1, 2}) forth.add(sets[s]);
  for (const size_t s : {2, 0, 1}) back.add(sets[s]);
  EXPECT_EQ(forth.gram(), back.gram());
  EXPECT_EQ(forth.cross("1"), back.cross("1"));
  without.add(sets[0]);
  without.add(sets[2]);
  forth.take_away(sets[1]);
  EXPECT_EQ(forth.gram(), without.gram());
  EXPECT_EQ(forth.cross("0"), without.cross("0"));
  EXPECT_EQ(forth.rows(), 100);
  // As sums an update adds the same.
  UpdateVectors as_sums = sets[1];
  as_sums.gram.assign(half_row(48, 48), 0.0);
  add_gram(sets[1].slots, sets[1].weights, sets[1].per_row, 48, as_sums.gram);
  as_sums.cross = cross_of(sets[1]);
  forth.add(as_sums);
  EXPECT_EQ(forth.gram(), back.gram());
  EXPECT_EQ(forth.cross("0"), back.cross("0"));
}

TEST(Sums, NewOutputsLeaveTheOldOnesAsTheyAre) {
  const Winners winners(4, 48, 12, 5);
  UpdateVectors a = update_of(winners, 50, 0, 2), b = update_of(winners, 50, 1, 1);
  b.outputs = {"new"};
  VectorSums sums(48, {});
  sums.add(a);
  const auto old = sums.cross("0");
  sums.add(b);
  EXPECT_EQ(sums.cross("0"), old);
  EXPECT_THAT(sums.outputs(), ::testing::ElementsAre("0", "1", "new"));
  sums.take_away(b);
  EXPECT_THAT(sums.outputs(), ::testing::ElementsAre("0", "1"));
  EXPECT_EQ(VectorSums(48, {"z", "a"}).outputs(), (std::vector<std::string>{"z", "a"}));
  EXPECT_EQ(VectorSums(48, {}).solve(1).size(1), 0);
}

TEST(Sums, OfAnotherMemoryAndBeyondExactNumbersAreRefused) {
  VectorSums sums(2, {});
  UpdateVectors v;
  v.columns = 3;
  expect_error(ErrorCode::kFormat, [&] { sums.add(v); });
  v.columns = 2;
  v.outputs = {"a"};
  v.rows = 1;
  v.gram = {5e15, 0, 1};
  v.cross = {0, 0};
  sums.add(v);
  expect_error(ErrorCode::kUnsupported, [&] { sums.add(v); });
}

}  // namespace
}  // namespace accrete
