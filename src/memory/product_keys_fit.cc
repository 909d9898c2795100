#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/threads.h"
#include "memory/csr.h"
#include "memory/kernels/cpu.h"
#include "memory/kernels/search.h"
#include "memory/product_keys_internal.h"

namespace accrete {
namespace {

constexpr const char* kStage = "fit keys";
constexpr int64_t kChunk = 1024;            // rows of one matrix product
constexpr int64_t kTemperatureRows = 4000;  // rows that the spread is measured on
constexpr int64_t kSpreadRank = 8;          // spread: 8th nearest minus nearest centroid
constexpr double kSmallestVariance = 1e-6;

// Streams of the generator.
constexpr uint64_t kRotationStream = 0;
constexpr uint64_t kClusterStream = 1;

// Runs f where libtorch's matrix products take one thread: BLAS and LAPACK round differently with
// another number of threads, and the fit has to be the same on every machine of one kind.
template <class F>
void sequentially(const F& f) {
  at::parallel_for(0, 2, 1, [&](int64_t begin, int64_t) {
    const at::NoGradGuard no_grad;
    const OneBlasThread one;
    if (begin == 0) f();
  });
}

// f(first, count) for fixed chunks of rows, in parallel, each on one thread.
template <class F>
void over_chunks(int64_t rows, const F& f) {
  at::parallel_for(0, (rows + kChunk - 1) / kChunk, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    const OneBlasThread one;
    for (int64_t c = begin; c < end; ++c) f(c * kChunk, std::min(kChunk, rows - c * kChunk));
  });
}

struct Moments {
  at::Tensor mean;        // [d] float32
  at::Tensor covariance;  // [d, d] float64
};

Moments moments(const at::Tensor& x, const Reporter& reporter) {
  const int64_t T = x.size(0), d = x.size(1);
  Moments m;
  auto sum = at::zeros({d}, at::kDouble);
  for (int64_t t = 0; t < T; t += kChunk)
    sum += x.narrow(0, t, std::min(kChunk, T - t)).sum({0}, false, at::kDouble);
  m.mean = (sum / static_cast<double>(T)).to(at::kFloat);
  m.covariance = at::zeros({d, d}, at::kDouble);
  // A few chunks at a time, added in their order.
  constexpr int64_t kWave = 8;
  std::vector<at::Tensor> parts(kWave);
  for (int64_t t = 0; t < T; t += kWave * kChunk) {
    reporter.check_cancelled();
    const int64_t rows = std::min(kWave * kChunk, T - t);
    over_chunks(rows, [&](int64_t first, int64_t count) {
      const auto centred = x.narrow(0, t + first, count) - m.mean;
      parts[static_cast<size_t>(first / kChunk)] = at::mm(centred.t(), centred);
    });
    for (int64_t i = 0; i * kChunk < rows; ++i) m.covariance += parts[static_cast<size_t>(i)];
  }
  m.covariance /= static_cast<double>(T);
  return m;
}

// The first `width` principal components, each over its standard deviation to the power
// `whitening`: [d, width] float64. The sign of a component is free: its largest entry is made
// positive.
at::Tensor whitened_components(const at::Tensor& covariance, int64_t width, double whitening) {
  at::Tensor values, vectors;
  sequentially([&] { std::tie(values, vectors) = at::linalg_eigh(covariance); });
  values = values.flip(0).narrow(0, 0, width);
  vectors = vectors.flip(1).narrow(1, 0, width);
  const auto largest = vectors.abs().argmax(0, /*keepdim=*/true);
  const auto sign = at::where(vectors.gather(0, largest) < 0, -1.0, 1.0);
  return vectors * sign / values.clamp_min(kSmallestVariance).pow(whitening / 2);
}

// A random rotation (Haar: Q of a normal matrix, with the signs of R's diagonal). float64.
at::Tensor random_rotation(int64_t width, Rng rng) {
  auto normal = at::empty({width, width}, at::kDouble);
  double* at = normal.mutable_data_ptr<double>();
  for (int64_t i = 0; i < width * width; ++i) at[i] = rng.normal();
  at::Tensor q, r;
  sequentially([&] { std::tie(q, r) = at::linalg_qr(normal); });
  return q * at::where(r.diagonal() < 0, -1.0, 1.0);
}

// -|c|^2 / 2 for every centroid: q . c + this orders centroids by their distance to q.
at::Tensor half_norms(const at::Tensor& centroids) {
  return centroids.square().sum(1).mul(-0.5).unsqueeze(0);
}

struct KMeans {
  const at::Tensor& x;  // [T, w] float32, contiguous
  int64_t n;
  int64_t steps;
  const Reporter& reporter;
  const std::function<void()>& on_step;

  at::Tensor run(Rng rng) const {
    const int64_t T = x.size(0);
    // n distinct rows: the first of a shuffle.
    std::vector<int64_t> order(static_cast<size_t>(T));
    std::iota(order.begin(), order.end(), 0);
    for (int64_t i = 0; i < n; ++i)
      std::swap(order[static_cast<size_t>(i)],
                order[static_cast<size_t>(i) + rng.below(static_cast<uint64_t>(T - i))]);
    order.resize(static_cast<size_t>(n));
    auto centroids = x.index_select(0, at::tensor(order, at::kLong));
    for (int64_t step = 0; step < steps; ++step) {
      reporter.check_cancelled();
      centroids = means(assign(centroids), rng);
      on_step();
    }
    return centroids;
  }

  // The nearest centroid of every row.
  std::vector<int32_t> assign(const at::Tensor& centroids) const {
    std::vector<int32_t> nearest(static_cast<size_t>(x.size(0)));
    const auto bias = half_norms(centroids);
    const auto keys = centroids.t();
    over_chunks(x.size(0), [&](int64_t first, int64_t count) {
      const auto scores = at::addmm(bias, x.narrow(0, first, count), keys);
      const float* row = scores.const_data_ptr<float>();
      float best = 0;
      for (int64_t i = 0; i < count; ++i)
        kernels::top_k(row + i * n, n, 1, &best, &nearest[static_cast<size_t>(first + i)]);
    });
    return nearest;
  }

  // The mean of every cluster; a cluster that lost all its rows restarts at a random row.
  at::Tensor means(const std::vector<int32_t>& nearest, Rng& rng) const {
    const RowGroups groups = group_by_row(nearest, n);
    const int64_t w = x.size(1);
    auto centroids = at::empty({n, w}, at::kFloat);
    const float* from = x.const_data_ptr<float>();
    float* to = centroids.mutable_data_ptr<float>();
    const std::vector<float> ones(groups.order.size(), 1.0f);
    parallel_over_rows(groups.offsets, [&](int64_t begin, int64_t end) {
      kernels::weighted_sums_csr(from, w, groups.offsets.data(), groups.order.data(), ones.data(),
                                 begin, end, to);
    });
    for (int64_t c = 0; c < n; ++c) {
      const int64_t size =
          groups.offsets[static_cast<size_t>(c) + 1] - groups.offsets[static_cast<size_t>(c)];
      if (size > 0) {
        for (int64_t i = 0; i < w; ++i) to[c * w + i] /= static_cast<float>(size);
      } else {
        const auto row = static_cast<int64_t>(rng.below(static_cast<uint64_t>(x.size(0))));
        std::copy_n(from + row * w, w, to + c * w);
      }
    }
    return centroids;
  }
};

// The mean, over rows spread evenly, of the squared distance to the 8th nearest centroid minus that
// to the nearest: the scale on which the scores of the winners differ.
double spread(const at::Tensor& x, const at::Tensor& centroids) {
  const int64_t rows = std::min(x.size(0), kTemperatureRows), n = centroids.size(0);
  const int64_t rank = std::min(kSpreadRank, n);
  const auto sample =
      x.index_select(0, at::arange(rows, at::kLong).mul(x.size(0)).div(rows, "floor")).contiguous();
  const auto bias = half_norms(centroids);
  std::vector<double> gap(static_cast<size_t>(rows));
  over_chunks(rows, [&](int64_t first, int64_t count) {
    const auto scores = at::addmm(bias, sample.narrow(0, first, count), centroids.t());
    const float* row = scores.const_data_ptr<float>();
    float best[kSpreadRank];
    int32_t position[kSpreadRank];
    for (int64_t i = 0; i < count; ++i) {
      kernels::top_k(row + i * n, n, rank, best, position);
      // The score is half of (|q|^2 - distance^2).
      gap[static_cast<size_t>(first + i)] = 2.0 * (best[0] - best[rank - 1]);
    }
  });
  return std::accumulate(gap.begin(), gap.end(), 0.0) / static_cast<double>(rows);
}

void check_fit_input(const at::Tensor& x, const ProductKeyOptions& options) {
  check_options(options, ErrorCode::kInvalidArgument);
  if (x.dim() != 2 || !at::isFloatingType(x.scalar_type()))
    throw Error(ErrorCode::kInvalidArgument, "keys are fitted to floats [tokens, d]");
  if (x.size(1) < options.query_width)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("query width {} is more than the hidden states' {}",
                            options.query_width, x.size(1)),
                "lower the query width");
  if (x.size(0) < options.half_keys)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} tokens cannot make {} half-keys", x.size(0), options.half_keys),
                "give a longer corpus, or fewer half-keys");
}

}  // namespace

ProductKeys ProductKeys::fit(const at::Tensor& x, const ProductKeyOptions& options, const Rng& rng,
                             const Reporter& reporter) {
  check_fit_input(x, options);
  const at::NoGradGuard no_grad;
  const int64_t T = x.size(0), H = options.heads, n = options.half_keys;
  const int64_t width = options.query_width, half = width / 2;
  const int64_t total = 1 + H * 2 * options.kmeans_steps;
  int64_t done = 0;
  const auto step = [&] { reporter.report(kStage, ++done, total); };
  reporter.report(kStage, 0, total);
  reporter.check_cancelled();

  const auto input = x.detach().to(at::kCPU, at::kFloat).contiguous();
  const Moments m = moments(input, reporter);
  if (!at::isfinite(m.covariance).all().item<bool>())
    throw Error(ErrorCode::kInvalidArgument, "the hidden states hold NaN or infinity",
                "is the model damaged, or its number type too narrow?");
  const auto components = whitened_components(m.covariance, width, options.whitening);
  // All heads see the same components, each in its own rotation.
  const auto basis = components.to(at::kFloat);
  auto z = at::empty({T, width}, at::kFloat);
  over_chunks(T, [&](int64_t first, int64_t count) {
    z.narrow(0, first, count).copy_(at::mm(input.narrow(0, first, count) - m.mean, basis));
  });
  step();

  auto projection = at::empty({input.size(1), H * width}, at::kFloat);
  auto keys = at::empty({H, 2, n, half}, at::kFloat);
  auto bias = at::empty({H, 2, n}, at::kFloat);
  const std::function<void()> on_step = step;
  for (int64_t h = 0; h < H; ++h) {
    const auto rotation =
        random_rotation(width, rng.split(kRotationStream).split(static_cast<uint64_t>(h)));
    sequentially(
        [&] { projection.narrow(1, h * width, width).copy_(at::mm(components, rotation)); });
    const auto turn = rotation.to(at::kFloat);
    at::Tensor halves[2], centroids[2];
    double tau = 0;
    for (int64_t s = 0; s < 2; ++s) {
      halves[s] = at::empty({T, half}, at::kFloat);
      const auto part = turn.narrow(1, s * half, half);
      over_chunks(T, [&](int64_t first, int64_t count) {
        halves[s].narrow(0, first, count).copy_(at::mm(z.narrow(0, first, count), part));
      });
      const KMeans kmeans{halves[s], n, options.kmeans_steps, reporter, on_step};
      centroids[s] = kmeans.run(rng.split(kClusterStream).split(static_cast<uint64_t>(h * 2 + s)));
      tau += options.temperature * spread(halves[s], centroids[s]) / 2;
    }
    if (!(tau > 0))
      throw Error(ErrorCode::kInvalidArgument,
                  "the hidden states are all alike: their clusters have no distance",
                  "give a more varied corpus, or fewer half-keys");
    for (int64_t s = 0; s < 2; ++s) {
      keys[h][s].copy_(centroids[s] * (2 / tau));
      bias[h][s].copy_(centroids[s].square().sum(1) * (-1 / tau));
    }
  }
  return from_tensors(Kind::kFitted, options, m.mean, projection, keys, bias);
}

}  // namespace accrete
