// The memory layer against what the machine can do: ratios measured in one run.
//
// Bandwidth counts bytes read and bytes written, for the copies as well: a copy of B bytes moves
// 2 B. Usage: memory_bench [threads]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "memory/access_log.h"
#include "memory/gate.h"
#include "memory/kernels/cpu.h"
#include "memory/kernels/search.h"
#include "memory/product_keys.h"
#include "memory/sparse_rows.h"

namespace accrete {
namespace {

constexpr int64_t kWidth = 576;
constexpr int64_t kPerToken = 32;

// The best of several runs in seconds: what the machine can do, undisturbed.
double best_time(const std::function<void()>& f, int runs = 9) {
  f();
  double best = 1e30;
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    best = std::min(best, spent.count());
  }
  return best;
}

// Bytes per second of copying `bytes` with all threads.
double copy_bandwidth(int64_t bytes) {
  const auto from = at::ones({bytes / 4}, at::kFloat);
  auto to = at::zeros_like(from);
  const auto* source = static_cast<const char*>(from.const_data_ptr());
  auto* target = static_cast<char*>(to.mutable_data_ptr());
  const int64_t block = 1 << 20;
  const double time = best_time([&] {
    at::parallel_for(0, (bytes + block - 1) / block, 1, [&](int64_t begin, int64_t end) {
      const int64_t last = std::min(bytes, end * block);
      std::memcpy(target + begin * block, source + begin * block,
                  static_cast<size_t>(last - begin * block));
    });
  });
  return 2.0 * static_cast<double>(bytes) / time;
}

// The same into memory that the process has not touched yet, as every new tensor of this size is.
double fresh_copy_bandwidth(int64_t bytes) {
  const auto from = at::ones({bytes / 4}, at::kFloat);
  return 2.0 * static_cast<double>(bytes) / best_time([&] { (void)from.clone(); });
}

void print(const char* what, double time, double bytes, double copy) {
  std::printf("  %-46s %8.2f ms %7.2f GB/s  %5.2f of a copy\n", what, time * 1e3,
              bytes / time / 1e9, bytes / time / copy);
}

void kernels_dots(const at::Tensor& table, const at::Tensor& rows, const at::Tensor& grad) {
  const int64_t T = rows.size(0), K = rows.size(1), d = table.size(1);
  auto out = at::empty({T, K}, at::kFloat);
  at::parallel_for(0, T, 8, [&](int64_t begin, int64_t end) {
    kernels::row_dots(table.const_data_ptr<float>(), d, rows.const_data_ptr<int32_t>() + begin * K,
                      grad.const_data_ptr<float>() + begin * d, end - begin, K,
                      out.mutable_data_ptr<float>() + begin * K);
  });
}

void rows_against_copies(const char* where, int64_t R, int64_t T) {
  const auto table = at::rand({R, kWidth});
  const auto grad = at::rand({T, kWidth});
  const auto rows = at::randint(R, {T, kPerToken}, at::kInt);
  const auto weights = at::rand({T, kPerToken});
  const double row = 4.0 * kWidth;
  const double entries = static_cast<double>(T * kPerToken);
  const double copy = copy_bandwidth(static_cast<int64_t>(entries * row));
  const double fresh = fresh_copy_bandwidth(static_cast<int64_t>(static_cast<double>(R) * row));
  std::printf(
      "%s: table %lld x %lld, %lld tokens x %lld accesses\n"
      "  a copy of the bytes accessed moves %.2f GB/s, a copy of the table to a new one %.2f\n",
      where, static_cast<long long>(R), static_cast<long long>(kWidth), static_cast<long long>(T),
      static_cast<long long>(kPerToken), copy / 1e9, fresh / 1e9);
  const auto t = static_cast<double>(T), r = static_cast<double>(R);
  print("weighted gather", best_time([&] { (void)weighted_gather(table, rows, weights); }),
        (entries + t) * row, copy);
  print("row gradient (scatter)", best_time([&] { (void)scatter_rows(grad, rows, weights, R); }),
        (entries + r) * row, copy);
  auto leaf = at::rand({T, kPerToken}).requires_grad_(true);
  print("weight gradient", best_time([&] { kernels_dots(table, rows, grad); }), (entries + t) * row,
        copy);
  const double both = best_time([&] { weighted_gather(table, rows, leaf).backward(grad); });
  print("gather and weight gradient", both, (2 * entries + 2 * t) * row, copy);
  // A step on every row: rows -= rate * gradient, in place.
  auto values = at::rand({R, kWidth});
  const auto gradient = at::rand({R, kWidth});
  print("row update (values -= rate * gradient)", best_time([&] { values.sub_(gradient, 1e-3); }),
        3 * r * row, copy);
  std::vector<int64_t> slots(static_cast<size_t>(R));
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int64_t>(i) * 7;
  const auto base = SparseRows().plus(slots, values);
  print("row update (SparseRows::plus on every row)",
        best_time([&] { (void)base.plus(slots, gradient); }), 3 * r * row, copy);
}

ProductKeys random_keys(int64_t heads, int64_t n) {
  ProductKeyOptions options;
  options.heads = heads;
  options.half_keys = n;
  const int64_t w = options.query_width;
  return ProductKeys::from_tensors(options, at::zeros({kWidth}),
                                   at::randn({kWidth, heads * w}) / 24,
                                   at::randn({heads, 2, n, w / 2}), at::zeros({heads, 2, n}));
}

void lookups() {
  const int64_t T = 4096;
  const auto x = at::randn({T, kWidth});
  const auto one = at::randn({1, kWidth});
  std::printf("Lookup (4 heads, top 8, width %lld), microseconds a token:\n",
              static_cast<long long>(kWidth));
  double first = 0;
  for (const int64_t n : {64, 128, 256, 512, 1024}) {
    const auto keys = random_keys(4, n);
    const double time = best_time([&] { (void)keys.lookup(x); }, 5) / T * 1e6;
    const double single = best_time([&] { (void)keys.lookup(one); }, 50) * 1e6;
    const auto scores = at::randn({8, 64, n});
    std::vector<int32_t> slots(64 * kPerToken);
    std::vector<float> weights(slots.size());
    const double search =
        best_time([&] {
          (void)kernels::product_top_k(scores.const_data_ptr<float>(), {64, 4, n, 8}, nullptr,
                                       slots.data(), weights.data());
        }) /
        64 * 1e6;
    if (first == 0) first = time;
    std::printf(
        "  N = %7lld: %6.2f in a batch of %lld (%.2f of N = 2^14), %7.1f alone; "
        "search on one thread %.2f\n",
        static_cast<long long>(keys.slots()), time, static_cast<long long>(T), time / first, single,
        search);
  }
  const auto keys = random_keys(4, 256);
  const double fused = best_time([&] { (void)keys.lookup(x); }, 5);
  const double plain = best_time([&] { (void)keys.lookup_reference(x); }, 2);
  std::printf("  against plain tensor operations: %.1f times as fast\n", plain / fused);
}

// What a step of decoding asks of the anchors of a thousand updates: which are near one token. One
// is; the others lie as names do, 15 apart.
void anchors() {
  constexpr int64_t kAnchors = 15000, kQueryWidth = 128;
  const auto table = at::randn({kAnchors, kQueryWidth}) * 0.94;
  const auto q = table[7] + 0.2 * at::randn({kQueryWidth});
  std::vector<float> out(kAnchors);
  const auto time = [&](float limit) {
    return best_time([&] {
      kernels::squared_distances(q.const_data_ptr<float>(), table.const_data_ptr<float>(),
                                 kQueryWidth, kAnchors, limit, out.data());
    });
  };
  const double whole = time(std::numeric_limits<float>::infinity()), near = time(36);
  std::printf("Distances of a token to %lld anchors: %.0f us; those below 6 only: %.0f us (%.2f)\n",
              static_cast<long long>(kAnchors), whole * 1e6, near * 1e6, near / whole);

  // A pass of many tokens: those near any anchor, against the matrix of all distances.
  constexpr int64_t kTokens = 512;
  const auto tokens = at::randn({kTokens, kQueryWidth}) * 0.94;
  tokens.narrow(0, 0, 8).copy_(table.narrow(0, 0, 8));
  Gate gate;
  gate.radius = 6;
  const auto squares = table.square().sum(1);
  const double all = best_time([&] {
    (void)at::addmm(squares.unsqueeze(0), tokens, table.t(), 1, -2)
        .add_(tokens.square().sum(1, true))
        .amin(1);
  });
  const double pairs = best_time([&] { (void)gate.near(tokens, table, squares); });
  std::printf("Anchors near %lld tokens: %.1f ms; by the matrix of all distances: %.1f ms (%.2f)\n",
              static_cast<long long>(kTokens), pairs * 1e3, all * 1e3, pairs / all);
}

void gram() {
  AccessLog log;
  const int64_t T = 60000;
  const auto keys = random_keys(4, 256);
  log.append(keys.lookup(at::randn({T, kWidth})), 1, true);
  const auto touched = log.diagonal();
  std::printf("Access log of %lld tokens: diagonal of %zu slots %.0f ms\n",
              static_cast<long long>(T), touched.slots.size(),
              best_time([&] { (void)log.diagonal(); }, 2) * 1e3);
  // The slots in use most: the worst case.
  std::vector<size_t> order(touched.slots.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return touched.values[a] > touched.values[b]; });
  for (const size_t t : {1000u, 4000u, 10000u}) {
    std::vector<int64_t> slots;
    for (size_t i = 0; i < std::min(t, order.size()); ++i) slots.push_back(touched.slots[order[i]]);
    const SlotIndex index(slots);
    std::printf("  gram of %zu slots %.0f ms\n", slots.size(),
                best_time([&] { (void)log.gram(index); }, 2) * 1e3);
  }
}

}  // namespace
}  // namespace accrete

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  if (argc > 1) at::set_num_threads(std::atoi(argv[1]));
  std::printf("%d threads, %s\n", at::get_num_threads(),
              accrete::kernels::targets().front().c_str());
  accrete::rows_against_copies("Rows in memory", 131072, 2048);
  accrete::rows_against_copies("Rows of a large update", 10000, 8192);
  accrete::rows_against_copies("Rows in the cache", 2048, 2048);
  accrete::lookups();
  accrete::anchors();
  accrete::gram();
}
