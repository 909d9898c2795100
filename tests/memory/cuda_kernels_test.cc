// The CUDA device code (memory/kernels/cuda_device.h), run on the CPU, against the CPU kernels.
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "base/rng.h"
#include "cuda_on_cpu.h"
#include "memory/kernels/cpu.h"
#include "memory/kernels/cuda_device.h"
#include "memory/kernels/search.h"
#include "random_floats.h"

namespace accrete::kernels {
namespace {

using cuda_on_cpu::launch;

using testing::normal_floats;

std::vector<int32_t> random_rows(int64_t count, int64_t R, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> out(static_cast<size_t>(count));
  for (int32_t& r : out) {
    r = static_cast<int32_t>(rng.below(static_cast<uint64_t>(R) + 1)) - 1;
  }
  return out;
}

struct Found {
  std::vector<int32_t> slots;
  std::vector<float> weights;
  int64_t bad = 0;
};

Found on_cpu(const std::vector<float>& scores, const ProductShape& s, const bool* keep) {
  const auto size = static_cast<size_t>(s.tokens * s.heads * s.top_k);
  Found out{std::vector<int32_t>(size), std::vector<float>(size)};
  out.bad = product_top_k(scores.data(), s, keep, out.slots.data(), out.weights.data());
  return out;
}

Found on_cuda(const std::vector<float>& scores, const ProductShape& s, const bool* keep) {
  const auto size = static_cast<size_t>(s.tokens * s.heads * s.top_k);
  Found out{std::vector<int32_t>(size, -7), std::vector<float>(size, -7)};
  int32_t bad_tokens = 0;
  std::vector<cuda::HalfLists> lists(cuda::kMaxHeads);
  int bad = 0;
  const auto warps = static_cast<unsigned>(std::min<int64_t>(s.heads, cuda::kMaxHeads));
  launch({static_cast<unsigned>(s.tokens)}, warps * cuda::kWarp, [&] {
    cuda::product_top_k_block(scores.data(), s.tokens, static_cast<int>(s.heads),
                              static_cast<int>(s.n), static_cast<int>(s.top_k), keep,
                              out.slots.data(), out.weights.data(), &bad_tokens, lists.data(),
                              &bad);
  });
  out.bad = bad_tokens;
  return out;
}

void expect_equal(const Found& a, const Found& b) {
  EXPECT_EQ(a.bad, b.bad);
  ASSERT_EQ(a.slots, b.slots);
  for (size_t i = 0; i < a.weights.size(); ++i)
    ASSERT_NEAR(a.weights[i], b.weights[i], 2e-6f) << "at " << i;
}

TEST(CudaKernels, ProductTopKIsTheCpus) {
  for (const int64_t heads : {1, 10})  // 10: more heads than a block has warps
    for (const int64_t n : {8, 33, 100})
      for (const int64_t k : {1, 5, 33}) {
        if (k > n) continue;
        const ProductShape s{2, heads, n, k};
        auto scores = normal_floats(s.tokens * heads * 2 * n, static_cast<uint64_t>(n * 100 + k));
        expect_equal(on_cuda(scores, s, nullptr), on_cpu(scores, s, nullptr));
        for (float& v : scores) v = std::round(v);  // ties
        expect_equal(on_cuda(scores, s, nullptr), on_cpu(scores, s, nullptr));
      }
}

TEST(CudaKernels, ProductTopKKeepsPaddingAndBadTokensOut) {
  const ProductShape s{5, 2, 40, 4};
  auto scores = normal_floats(s.tokens * s.heads * 2 * s.n, 3);
  const bool keep[] = {true, false, true, true, true};
  const auto at = [&](int64_t h, int64_t half, int64_t t) {
    return scores.begin() + ((h * 2 + half) * s.tokens + t) * s.n;
  };
  std::fill_n(at(1, 0, 2), s.n, std::nanf(""));
  *at(0, 1, 3) = std::numeric_limits<float>::infinity();
  std::fill_n(at(0, 0, 1), s.n, std::nanf(""));  // padding: not counted
  const auto found = on_cuda(scores, s, keep);
  EXPECT_EQ(found.bad, 2);
  expect_equal(found, on_cpu(scores, s, keep));
}

// The scores' gradient, against differences of sum_i c_i w_i.
TEST(CudaKernels, ProductTopKBackwardIsTheDerivative) {
  const ProductShape s{3, 2, 20, 4};
  auto scores = normal_floats(s.tokens * s.heads * 2 * s.n, 11);
  const auto found = on_cuda(scores, s, nullptr);
  const auto by = normal_floats(static_cast<int64_t>(found.weights.size()), 12);
  std::vector<float> gradient(scores.size(), 0);
  for (int64_t t = 0; t < s.tokens; ++t)
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t at = (t * s.heads + h) * s.top_k;
      float* first = gradient.data() + (2 * h * s.tokens + t) * s.n;
      cuda::product_top_k_backward_one(found.slots.data() + at, found.weights.data() + at,
                                       by.data() + at, static_cast<int>(s.heads),
                                       static_cast<int>(h), static_cast<int>(s.n),
                                       static_cast<int>(s.top_k), first, first + s.tokens * s.n);
    }
  const auto value = [&] {
    const auto now = on_cpu(scores, s, nullptr);
    double sum = 0;
    for (size_t i = 0; i < by.size(); ++i)
      sum += now.slots[i] == found.slots[i]
                 ? static_cast<double>(by[i]) * static_cast<double>(now.weights[i])
                 : NAN;
    return sum;
  };
  int compared = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const float before = scores[i];
    scores[i] = before + 1e-3f;
    const double up = value();
    scores[i] = before - 1e-3f;
    const double down = value();
    scores[i] = before;
    if (std::isnan(up) || std::isnan(down)) continue;  // other slots
    EXPECT_NEAR((up - down) / 2e-3, static_cast<double>(gradient[i]), 2e-3);
    compared += gradient[i] != 0;
  }
  EXPECT_GT(compared, 20);
}

template <class T>
struct Rounded {
  static std::vector<T> of(const std::vector<float>& v) {
    std::vector<T> out(v.size());
    for (size_t i = 0; i < v.size(); ++i) cuda::from_float(v[i], &out[i]);
    return out;
  }
  static std::vector<float> back(const std::vector<T>& v) {
    std::vector<float> out(v.size());
    for (size_t i = 0; i < v.size(); ++i) out[i] = cuda::to_float(v[i]);
    return out;
  }
};

// The sums of lists [begin, end) that f gives, each by a grid of its own shape.
template <class T, int kVec>
std::vector<float> sums_on_cuda(const std::vector<float>& table, int64_t d,
                                const std::vector<int64_t>& offsets,
                                const std::vector<int32_t>& rows, const std::vector<float>& weights,
                                unsigned threads) {
  const auto from = Rounded<T>::of(table);
  const auto count = static_cast<int64_t>(offsets.size()) - 1;
  std::vector<T> out(static_cast<size_t>(count * d));
  std::vector<int32_t> kept_rows(threads);
  std::vector<float> kept_weights(threads);
  const auto blocks = static_cast<unsigned>((d + threads * kVec - 1) / (threads * kVec));
  launch({static_cast<unsigned>(count), blocks}, threads, [&] {
    const auto t = static_cast<size_t>(blockIdx.x);
    cuda::weighted_sum_block<T, kVec, 8>(from.data(), d, rows.data(), weights.data(), offsets[t],
                                         offsets[t + 1], out.data() + static_cast<int64_t>(t) * d,
                                         kept_rows.data(), kept_weights.data());
  });
  return Rounded<T>::back(out);
}

template <class T, int kVec>
void check_sums(int64_t d, float tolerance) {
  const int64_t R = 20;
  const auto table = Rounded<T>::back(Rounded<T>::of(normal_floats(R * d, 1)));
  // Lists of no entry, of one, and of more than a block has threads.
  std::vector<int64_t> offsets = {0};
  for (const int64_t length : {5, 0, 1, 200, 32}) offsets.push_back(offsets.back() + length);
  const auto rows = random_rows(offsets.back(), R, 2);
  const auto weights = normal_floats(offsets.back(), 3);
  const auto count = static_cast<int64_t>(offsets.size()) - 1;
  std::vector<float> expected(static_cast<size_t>(count * d));
  // The CPU's csr lists have no absent rows.
  for (int64_t t = 0; t < count; ++t)
    weighted_sums(table.data(), d, rows.data() + offsets[static_cast<size_t>(t)],
                  weights.data() + offsets[static_cast<size_t>(t)], 1,
                  offsets[static_cast<size_t>(t) + 1] - offsets[static_cast<size_t>(t)],
                  expected.data() + t * d);
  for (const unsigned threads : {32u, 64u, 128u}) {
    const auto got = sums_on_cuda<T, kVec>(table, d, offsets, rows, weights, threads);
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], expected[i], tolerance * (1 + std::abs(expected[i])))
          << "d " << d << " threads " << threads << " at " << i;
  }
}

TEST(CudaKernels, WeightedSumsAreTheCpus) {
  check_sums<float, 1>(7, 1e-5f);
  check_sums<float, 1>(150, 1e-5f);
  check_sums<float, 4>(576, 1e-5f);
  check_sums<float, 4>(1024, 1e-5f);
  check_sums<cuda::Bfloat16, 8>(576, 8e-3f);
  check_sums<cuda::Bfloat16, 1>(33, 8e-3f);
}

TEST(CudaKernels, RowDotsAreTheCpus) {
  const int64_t R = 30, T = 4, K = 13;
  for (const int64_t d : {int64_t{4}, int64_t{36}, int64_t{576}}) {
    const auto table = normal_floats(R * d, 4), grad = normal_floats(T * d, 5);
    const auto rows = random_rows(T * K, R, 6);
    std::vector<float> expected(static_cast<size_t>(T * K)), got(expected.size(), -1);
    row_dots(table.data(), d, rows.data(), grad.data(), T, K, expected.data());
    launch({static_cast<unsigned>(T)}, 64, [&] {
      cuda::row_dots_block<float, 4>(table.data(), d, rows.data(), grad.data(), K, got.data());
    });
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 2e-4f) << "d " << d;
  }
}

TEST(CudaKernels, AddRowsChangesTheNamedRowsOnly) {
  const int64_t R = 9, d = 300;
  const auto before = normal_floats(R * d, 7);
  const std::vector<int32_t> rows = {4, -1, 0, 8};
  const auto delta = normal_floats(4 * d, 8);
  auto table = before;
  launch({4, 3}, 32,
         [&] { cuda::add_rows_block<float, 4>(table.data(), d, rows.data(), delta.data()); });
  auto expected = before;
  for (size_t i = 0; i < rows.size(); ++i)
    for (int64_t c = 0; rows[i] >= 0 && c < d; ++c)
      expected[static_cast<size_t>(rows[i] * d + c)] += delta[i * 300 + static_cast<size_t>(c)];
  EXPECT_EQ(table, expected);
}

TEST(CudaKernels, Bfloat16RoundsToNearestEven) {
  const auto round = [](float v) {
    cuda::Bfloat16 out;
    cuda::from_float(v, &out);
    return cuda::to_float(out);
  };
  EXPECT_EQ(round(1.0f), 1.0f);
  EXPECT_EQ(round(1.0f + 1.0f / 256), 1.0f);              // half way: to the even one
  EXPECT_EQ(round(1.0f + 3.0f / 256), 1.0f + 1.0f / 64);  // half way: to the even one
  EXPECT_EQ(round(1.0f + 1.5f / 256), 1.0f + 1.0f / 128);
  EXPECT_TRUE(std::isnan(round(std::nanf(""))));
  EXPECT_TRUE(std::isinf(round(std::numeric_limits<float>::max())));
}

TEST(CudaOnCpu, ThreadsThatMissEachOtherAreFound) {
  EXPECT_THROW(launch({1}, 64,
                      [] {
                        if (threadIdx.x < 32) __syncthreads();
                        if (threadIdx.x >= 32) __syncwarp();
                        if (threadIdx.x == 40) __syncthreads();
                        if (threadIdx.x == 41) __syncwarp();
                      }),
               std::runtime_error);
}

}  // namespace
}  // namespace accrete::kernels
