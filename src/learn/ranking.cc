#include "learn/ranking.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/format.h"
#include "memory/sparse_rows.h"

namespace accrete {
namespace {

struct Name {
  Ranking ranking;
  const char* name;
};
constexpr Name kNames[] = {{Ranking::kInterference, "interference"},
                           {Ranking::kTfidf, "tfidf"},
                           {Ranking::kGradient, "gradient"},
                           {Ranking::kFisher, "fisher"},
                           {Ranking::kKl, "kl"},
                           {Ranking::kTf, "tf"},
                           {Ranking::kRandom, "random"},
                           {Ranking::kAll, "all"}};

// Batches of this many tokens make the background's document frequency.
constexpr int64_t kDocumentTokens = 127;

std::vector<int64_t> distinct_slots(const at::Tensor& slots, const at::Tensor& where) {
  std::vector<int64_t> out;
  const int64_t T = slots.size(0), K = slots.size(1);
  const auto* s = slots.data_ptr<int32_t>();
  const float* w = where.defined() ? where.data_ptr<float>() : nullptr;
  for (int64_t t = 0; t < T; ++t) {
    if (w != nullptr && w[t] == 0) continue;
    for (int64_t k = 0; k < K; ++k)
      if (s[t * K + k] >= 0) out.push_back(s[t * K + k]);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace

Ranking parse_ranking(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& entry : kNames) {
    if (name == entry.name) return entry.ranking;
    names.emplace_back(entry.name);
  }
  throw Error(ErrorCode::kInvalidArgument, accrete::format("there is no ranking \"{}\"", name),
              accrete::format("use one of: {}", accrete::joined(names, ", ")));
}

std::string ranking_name(Ranking ranking) {
  for (const auto& entry : kNames)
    if (entry.ranking == ranking) return entry.name;
  return "";
}

void SlotStatistics::add(const Accesses& accesses, const at::Tensor& output_gradient,
                         const at::Tensor& where) {
  const auto fresh = distinct_slots(accesses.slots, where);
  std::vector<int64_t> merged;
  std::set_union(slots_.begin(), slots_.end(), fresh.begin(), fresh.end(),
                 std::back_inserter(merged));
  const auto n = static_cast<int64_t>(merged.size());
  const SlotIndex index(merged);
  // Carry what is known over to the merged numbering.
  if (merged.size() != slots_.size()) {
    std::vector<double> counts(merged.size(), 0), squared(merged.size(), 0);
    std::vector<int64_t> place;
    for (size_t i = 0; i < slots_.size(); ++i) {
      const auto to = static_cast<size_t>(index.find(static_cast<int32_t>(slots_[i])));
      counts[to] = counts_[i];
      squared[to] = squared_[i];
      place.push_back(static_cast<int64_t>(to));
    }
    counts_ = std::move(counts);
    squared_ = std::move(squared);
    if (output_gradient.defined()) {
      auto grown = at::zeros({n, output_gradient.size(1)}, at::kFloat);
      if (gradient_.defined() && !place.empty()) grown.index_copy_(0, at::tensor(place), gradient_);
      gradient_ = grown;
    }
    slots_ = std::move(merged);
  }
  const auto rows = index.rows(accesses.slots);
  auto weights = accesses.weights;
  if (where.defined()) weights = weights * where.unsqueeze(1);
  const auto* r = rows.data_ptr<int32_t>();
  const auto flat = weights.contiguous();
  const float* w = flat.data_ptr<float>();
  for (int64_t i = 0; i < rows.numel(); ++i)
    if (r[i] >= 0 && w[i] > 0) counts_[static_cast<size_t>(r[i])] += 1;
  if (!output_gradient.defined()) return;
  const auto g = scatter_rows(output_gradient.to(at::kCPU, at::kFloat), rows, weights, n);
  gradient_ += g;
  const auto norms = g.square().sum(1).to(at::kDouble);
  for (int64_t i = 0; i < n; ++i) squared_[static_cast<size_t>(i)] += norms.data_ptr<double>()[i];
}

std::vector<double> SlotStatistics::gradient_norms() const {
  if (!gradient_.defined()) return std::vector<double>(slots_.size(), 0);
  const auto norms = gradient_.norm(2, {1}).to(at::kDouble).contiguous();
  return {norms.data_ptr<double>(), norms.data_ptr<double>() + norms.numel()};
}

std::vector<int64_t> select_slots(const SlotStatistics& statistics, const AccessLog& log,
                                  Ranking ranking, int64_t t, double lambda, Rng rng) {
  const auto& slots = statistics.slots();
  std::vector<double> score(slots.size(), 0);
  switch (ranking) {
    case Ranking::kInterference: {
      score = statistics.gradient_norms();
      const auto diagonal = log.diagonal();
      for (size_t i = 0; i < slots.size(); ++i) {
        const auto at = std::lower_bound(diagonal.slots.begin(), diagonal.slots.end(), slots[i]);
        double g = 0;
        if (at != diagonal.slots.end() && *at == slots[i])
          g = diagonal.values[static_cast<size_t>(at - diagonal.slots.begin())];
        score[i] /= std::sqrt(g + lambda);
      }
      break;
    }
    case Ranking::kTfidf: {
      const auto df = log.document_frequency(slots, kDocumentTokens);
      const auto batches = static_cast<double>(log.batches(kDocumentTokens));
      const auto& c = statistics.counts();
      const double total = std::accumulate(c.begin(), c.end(), 0.0);
      for (size_t i = 0; i < slots.size(); ++i)
        score[i] = c[i] / total * std::log((batches + 1) / (static_cast<double>(df[i]) + 1));
      break;
    }
    case Ranking::kGradient:
      score = statistics.gradient_norms();
      break;
    case Ranking::kFisher:
      score = statistics.squared_gradients();
      break;
    case Ranking::kKl: {
      // Tokens of one token each: how many background tokens read a slot.
      const auto read = log.document_frequency(slots, 1);
      const auto& c = statistics.counts();
      const double total = std::accumulate(c.begin(), c.end(), 0.0);
      const double K =
          log.parts().empty() ? 1.0 : static_cast<double>(log.parts().front().accesses.per_token());
      const double accesses = std::max(1.0, static_cast<double>(log.batches(1)) * K);
      for (size_t i = 0; i < slots.size(); ++i) {
        const double p = c[i] / total, q = (static_cast<double>(read[i]) + 0.5) / accesses;
        score[i] = p > 0 ? p * std::log(p / q) : 0;
      }
      break;
    }
    case Ranking::kTf:
      score = statistics.counts();
      break;
    case Ranking::kRandom:
      for (auto& s : score) s = rng.uniform();
      break;
    case Ranking::kAll:
      return slots;
  }
  std::vector<size_t> order(slots.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto n = std::min<size_t>(order.size(), static_cast<size_t>(t));
  std::partial_sort(
      order.begin(), order.begin() + static_cast<ptrdiff_t>(n), order.end(),
      [&](size_t a, size_t b) { return score[a] > score[b] || (score[a] == score[b] && a < b); });
  std::vector<int64_t> selected;
  for (size_t i = 0; i < n; ++i) selected.push_back(slots[order[i]]);
  std::sort(selected.begin(), selected.end());
  return selected;
}

}  // namespace accrete
