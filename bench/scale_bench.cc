// Lookup, and what teaching does with slots (read, rank, Gram matrix, deposit), for tables of 2^14
// to 2^22 slots: the seconds must not grow with the table. One JSON object on standard output.
// Usage: scale_bench [THREADS]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>

#include "learn/deposit.h"
#include "learn/ranking.h"
#include "memory/access_log.h"
#include "memory/product_keys.h"

namespace accrete {
namespace {

constexpr int64_t kWidth = 576, kHeads = 4, kSites = 200, kBackground = 20000;

double seconds_of(const std::function<void()>& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

ProductKeys random_keys(int64_t n) {
  ProductKeyOptions options;
  options.heads = kHeads;
  options.half_keys = n;
  const int64_t w = options.query_width;
  return ProductKeys::from_tensors(options, at::zeros({kWidth}),
                                   at::randn({kWidth, kHeads * w}) / 24,
                                   at::randn({kHeads, 2, n, w / 2}), at::zeros({kHeads, 2, n}));
}

// One table: its log and sites, made once; the timed parts are run in turns with the other tables.
struct Table {
  ProductKeys keys;
  AccessLog log;
  at::Tensor tokens = at::randn({4096, kWidth}), sites = at::randn({kSites, kWidth});
  at::Tensor targets = at::randn({kSites, 3 * kWidth});
  double lookup = 1e30, teach = 1e30;

  explicit Table(int64_t n) : keys(random_keys(n)) {
    log.append(keys.lookup(at::randn({kBackground, kWidth})), 1, true);
  }
  void run() {
    lookup = std::min(lookup, seconds_of([&] { (void)keys.lookup(tokens); }));
    teach = std::min(teach, seconds_of([&] {
                       const auto accesses = keys.lookup(sites);
                       SlotStatistics statistics;
                       statistics.add(accesses, targets);
                       const auto selected = select_slots(statistics, log, Ranking::kInterference,
                                                          4000, 1e-5, Rng(1));
                       const SlotIndex index(selected);
                       (void)deposit(accesses, Targets::each(targets), index, log.gram(index), {});
                     }));
  }
};

}  // namespace
}  // namespace accrete

int main(int argc, char** argv) {
  if (argc > 1) at::set_num_threads(std::atoi(argv[1]));
  at::manual_seed(0);
  std::vector<accrete::Table> tables;
  for (const int64_t n : {64, 128, 256, 512, 1024}) tables.emplace_back(n);
  for (int round = 0; round < 5; ++round)
    for (auto& table : tables) table.run();
  nlohmann::ordered_json out = {{"benchmark", "scale"},
                                {"threads", at::get_num_threads()},
                                {"sites", accrete::kSites},
                                {"tables", nlohmann::ordered_json::array()}};
  for (const auto& table : tables)
    out["tables"].push_back({{"slots", table.keys.slots()},
                             {"lookup_seconds_of_4096_tokens", table.lookup},
                             {"lookup_ratio", table.lookup / tables.front().lookup},
                             {"teach_seconds", table.teach},
                             {"teach_ratio", table.teach / tables.front().teach}});
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}
