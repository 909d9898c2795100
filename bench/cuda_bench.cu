// The CUDA kernels of the memory layer: right against plain loops on the CPU, the same bits when
// run again, and how fast against a copy on the same device. Needs a GPU, no libtorch:
//
//   nvcc -O3 -std=c++20 -arch=native -Isrc bench/cuda_bench.cu src/memory/kernels/cuda.cu -o
//   cuda_bench
//   ./cuda_bench [--out FILE]
//
// Bandwidth counts bytes read and bytes written, for the copy as well. Exit status 1: a kernel is
// wrong.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "memory/kernels/cuda.h"

namespace {

namespace cuda = accrete::kernels::cuda;
using accrete::kernels::ProductShape;

void check(int status, const char* what) {
  if (status == 0) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(static_cast<cudaError_t>(status)));
  std::exit(2);
}

template <class T>
class Device {
 public:
  explicit Device(size_t count) : count_(count) {
    check(cudaMalloc(&data_, std::max<size_t>(count, 1) * sizeof(T)), "cudaMalloc");
  }
  explicit Device(const std::vector<T>& from) : Device(from.size()) {
    check(cudaMemcpy(data_, from.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), "copy in");
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() { cudaFree(data_); }
  T* get() const { return static_cast<T*>(data_); }
  std::vector<T> host() const {
    std::vector<T> out(count_);
    check(cudaMemcpy(out.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost), "copy out");
    return out;
  }

 private:
  void* data_ = nullptr;
  size_t count_;
};

// Seconds of one call: the best of several, each of several calls in a row.
double best_time(const std::function<void()>& f) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  f();
  double best = 1e30;
  for (int run = 0; run < 7; ++run) {
    constexpr int kCalls = 10;
    check(cudaEventRecord(begin), "event");
    for (int i = 0; i < kCalls; ++i) f();
    check(cudaEventRecord(end), "event");
    check(cudaEventSynchronize(end), "run");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "event");
    best = std::min(best, static_cast<double>(ms) * 1e-3 / kCalls);
  }
  return best;
}

std::mt19937 random_bits(1);

std::vector<float> normals(size_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> out(count);
  for (float& v : out) v = normal(random_bits);
  return out;
}

std::vector<int32_t> rows_below(size_t count, int64_t R) {
  std::uniform_int_distribution<int32_t> any(0, static_cast<int32_t>(R) - 1);
  std::vector<int32_t> out(count);
  for (int32_t& r : out) r = any(random_bits);
  return out;
}

int wrong = 0;

void compare(const char* what, const std::vector<float>& got, const std::vector<float>& expected,
             double tolerance) {
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i)
    worst =
        std::max(worst, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])) /
                            (1 + std::abs(static_cast<double>(expected[i]))));
  const bool ok = worst <= tolerance;
  wrong += ok ? 0 : 1;
  std::printf("  %-44s largest error %.2g %s\n", what, worst, ok ? "" : "WRONG");
}

void same_bits(const char* what, const std::vector<float>& a, const std::vector<float>& b) {
  const bool ok = std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  wrong += ok ? 0 : 1;
  std::printf("  %-44s %s\n", what, ok ? "the same bits again" : "OTHER BITS AGAIN: WRONG");
}

// ---- right ----

void check_lookup() {
  const ProductShape s{97, 4, 256, 8};
  const auto scores = normals(static_cast<size_t>(s.tokens * s.heads * 2 * s.n));
  const auto K = static_cast<size_t>(s.heads * s.top_k);
  Device<float> d_scores(scores), d_weights(static_cast<size_t>(s.tokens) * K);
  Device<int32_t> d_slots(static_cast<size_t>(s.tokens) * K), d_bad(std::vector<int32_t>{0});
  check(cuda::product_top_k(d_scores.get(), s, nullptr, d_slots.get(), d_weights.get(), d_bad.get(),
                            nullptr),
        "product_top_k");
  const auto slots = d_slots.host();
  const auto weights = d_weights.host();
  // Every pair of every head, sorted.
  std::vector<float> expected(weights.size());
  int64_t differ = 0;
  for (int64_t t = 0; t < s.tokens; ++t)
    for (int64_t h = 0; h < s.heads; ++h) {
      const auto at = [&](int64_t half, int64_t i) {
        return scores[static_cast<size_t>((((h * 2 + half) * s.tokens) + t) * s.n + i)];
      };
      std::vector<std::pair<float, int32_t>> all;
      for (int64_t i = 0; i < s.n; ++i)
        for (int64_t j = 0; j < s.n; ++j)
          all.emplace_back(-(at(0, i) + at(1, j)), static_cast<int32_t>((h * s.n + i) * s.n + j));
      std::partial_sort(all.begin(), all.begin() + s.top_k, all.end());
      double sum = 0;
      for (int64_t k = 0; k < s.top_k; ++k)
        sum += std::exp(static_cast<double>(all[0].first - all[static_cast<size_t>(k)].first));
      for (int64_t k = 0; k < s.top_k; ++k) {
        const auto place = static_cast<size_t>((t * s.heads + h) * s.top_k + k);
        const double share =
            std::exp(static_cast<double>(all[0].first - all[static_cast<size_t>(k)].first)) / sum;
        expected[place] = static_cast<float>(share / std::sqrt(static_cast<double>(s.heads)));
        differ += slots[place] != all[static_cast<size_t>(k)].second;
      }
    }
  std::printf("  %-44s %lld of %zu slots differ\n", "product_top_k", static_cast<long long>(differ),
              slots.size());
  wrong += differ != 0 || d_bad.host()[0] != 0;
  compare("product_top_k, weights", weights, expected, 1e-5);
}

void check_rows() {
  const int64_t R = 1000, T = 61, K = 32;
  for (const int64_t d : {int64_t{576}, int64_t{1024}, int64_t{33}}) {
    const auto table = normals(static_cast<size_t>(R * d));
    const auto grad = normals(static_cast<size_t>(T * d));
    auto rows = rows_below(static_cast<size_t>(T * K), R);
    for (size_t i = 0; i < rows.size(); i += 7) rows[i] = -1;
    const auto weights = normals(static_cast<size_t>(T * K));
    std::vector<float> sums(static_cast<size_t>(T * d), 0), dots(static_cast<size_t>(T * K), 0);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t k = 0; k < K; ++k) {
        const auto at = static_cast<size_t>(t * K + k);
        if (rows[at] < 0) continue;
        double dot = 0;
        for (int64_t c = 0; c < d; ++c) {
          const float v = table[static_cast<size_t>(rows[at] * d + c)];
          sums[static_cast<size_t>(t * d + c)] += weights[at] * v;
          dot += static_cast<double>(v) * static_cast<double>(grad[static_cast<size_t>(t * d + c)]);
        }
        dots[at] = static_cast<float>(dot);
      }
    Device<float> d_table(table), d_grad(grad), d_weights(weights), d_out(sums.size()),
        d_dots(dots.size());
    Device<int32_t> d_rows(rows);
    const auto gather = [&] {
      check(cuda::weighted_sums(cuda::Type::kFloat, d_table.get(), d, d_rows.get(), d_weights.get(),
                                T, K, d_out.get(), nullptr),
            "weighted_sums");
      return d_out.host();
    };
    const auto first = gather();
    compare(("weighted_sums, d = " + std::to_string(d)).c_str(), first, sums, 1e-4);
    same_bits("", first, gather());
    check(cuda::row_dots(cuda::Type::kFloat, d_table.get(), d, d_rows.get(), d_grad.get(), T, K,
                         d_dots.get(), nullptr),
          "row_dots");
    compare("row_dots", d_dots.host(), dots, 1e-4);
  }
}

// ---- fast ----

struct Line {
  std::string what;
  double seconds, bytes;
};

void measure(std::vector<Line>& lines, double& copy) {
  constexpr int64_t kSlots = 1 << 20, d = 1024, T = 16384, K = 32;
  const size_t table_bytes = static_cast<size_t>(kSlots * d) * 2;
  Device<uint8_t> table(table_bytes), target(table_bytes);
  check(cudaMemset(table.get(), 1, table_bytes), "memset");
  copy = 2.0 * static_cast<double>(table_bytes) / best_time([&] {
           check(cudaMemcpyAsync(target.get(), table.get(), table_bytes, cudaMemcpyDeviceToDevice),
                 "copy");
         });
  Device<int32_t> rows(rows_below(static_cast<size_t>(T * K), kSlots));
  Device<float> weights(normals(static_cast<size_t>(T * K))), dots(static_cast<size_t>(T * K));
  Device<uint8_t> out(static_cast<size_t>(T * d) * 2);
  const double row_bytes = static_cast<double>(T * K * d) * 2;
  lines.push_back({"weighted gather, bf16, N = 2^20, d = 1024", best_time([&] {
                     check(cuda::weighted_sums(cuda::Type::kBfloat16, table.get(), d, rows.get(),
                                               weights.get(), T, K, out.get(), nullptr),
                           "weighted_sums");
                   }),
                   row_bytes + static_cast<double>(T * d) * 2 + static_cast<double>(T * K) * 8});
  lines.push_back({"gradient of the weights (row dots)", best_time([&] {
                     check(cuda::row_dots(cuda::Type::kBfloat16, table.get(), d, rows.get(),
                                          out.get(), T, K, dots.get(), nullptr),
                           "row_dots");
                   }),
                   row_bytes + static_cast<double>(T * d) * 2 + static_cast<double>(T * K) * 8});
  // The row-sparse backward: each written row sums the gradients of 8 tokens.
  constexpr int64_t kRows = 65536, kEach = 8;
  std::vector<int64_t> offsets(kRows + 1);
  for (int64_t i = 0; i <= kRows; ++i) offsets[static_cast<size_t>(i)] = i * kEach;
  Device<int64_t> d_offsets(offsets);
  Device<int32_t> tokens(rows_below(static_cast<size_t>(kRows * kEach), T));
  Device<uint8_t> gradient(static_cast<size_t>(kRows * d) * 2);
  lines.push_back({"row-sparse backward, 65,536 rows of 8 tokens", best_time([&] {
                     check(cuda::weighted_sums_csr(cuda::Type::kBfloat16, out.get(), d,
                                                   d_offsets.get(), tokens.get(), weights.get(),
                                                   kRows, gradient.get(), nullptr),
                           "weighted_sums_csr");
                   }),
                   static_cast<double>(kRows * (kEach + 1) * d) * 2});
  std::vector<int32_t> distinct(kRows);
  for (int64_t i = 0; i < kRows; ++i)
    distinct[static_cast<size_t>(i)] = static_cast<int32_t>(i * 16);
  Device<int32_t> written(distinct);
  Device<float> delta(static_cast<size_t>(kRows * d));
  check(cudaMemset(delta.get(), 0, static_cast<size_t>(kRows * d) * 4), "memset");
  lines.push_back({"row update, 65,536 rows", best_time([&] {
                     check(cuda::add_rows(cuda::Type::kBfloat16, table.get(), d, written.get(),
                                          delta.get(), kRows, nullptr),
                           "add_rows");
                   }),
                   static_cast<double>(kRows * d) * (2 + 2 + 4)});
  for (const int64_t n : {64, 256, 1024}) {
    const ProductShape s{16384, 4, n, 8};
    Device<float> scores(normals(static_cast<size_t>(s.tokens * s.heads * 2 * n)));
    Device<float> found(static_cast<size_t>(s.tokens * 32));
    Device<int32_t> slots(static_cast<size_t>(s.tokens * 32)), bad(std::vector<int32_t>{0});
    lines.push_back({"top-k of 16,384 tokens, n = " + std::to_string(n), best_time([&] {
                       check(cuda::product_top_k(scores.get(), s, nullptr, slots.get(), found.get(),
                                                 bad.get(), nullptr),
                             "product_top_k");
                     }),
                     static_cast<double>(s.tokens * s.heads * 2 * n) * 4 +
                         static_cast<double>(s.tokens) * 32 * 8});
  }
}

}  // namespace

int main(int argc, char** argv) {
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0), "no GPU");
  std::printf("%s\nright:\n", device.name);
  check_lookup();
  check_rows();
  std::vector<Line> lines;
  double copy = 0;
  measure(lines, copy);
  std::printf("fast: a copy on the device moves %.0f GB/s\n", copy / 1e9);
  std::string json = "{\"benchmark\": \"cuda\", \"device\": \"" + std::string(device.name) +
                     "\", \"copy_gb_per_second\": " + std::to_string(copy / 1e9) +
                     ", \"wrong\": " + std::to_string(wrong) + ", \"of_a_copy\": {";
  for (size_t i = 0; i < lines.size(); ++i) {
    const double share = lines[i].bytes / lines[i].seconds / copy;
    std::printf("  %-46s %8.3f ms %7.0f GB/s  %5.2f of a copy\n", lines[i].what.c_str(),
                lines[i].seconds * 1e3, lines[i].bytes / lines[i].seconds / 1e9, share);
    json += (i > 0 ? ", \"" : "\"") + lines[i].what + "\": " + std::to_string(share);
  }
  json += "}}\n";
  for (int i = 1; i + 1 < argc; ++i)
    if (std::string(argv[i]) == "--out")
      if (FILE* f = std::fopen(argv[i + 1], "w")) {
        std::fputs(json.c_str(), f);
        std::fclose(f);
      }
  return wrong == 0 ? 0 : 1;
}
