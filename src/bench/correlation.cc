#include "bench/correlation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/error.h"

namespace accrete {
namespace {

std::vector<double> ranks(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t i, size_t j) { return values[i] < values[j]; });
  std::vector<double> out(values.size());
  for (size_t i = 0; i < order.size();) {
    size_t n = 1;
    while (i + n < order.size() && values[order[i + n]] == values[order[i]]) ++n;
    for (size_t k = 0; k < n; ++k)
      out[order[i + k]] = static_cast<double>(i) + static_cast<double>(n - 1) / 2;
    i += n;
  }
  return out;
}

}  // namespace

double spearman(std::span<const double> a, std::span<const double> b) {
  if (a.size() != b.size())
    throw Error(ErrorCode::kInvalidArgument, "rank correlation needs as many values on both sides");
  if (a.size() < 2) return 0;
  const auto x = ranks(a), y = ranks(b);
  const double mean = static_cast<double>(a.size() - 1) / 2;
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0;
}

}  // namespace accrete
