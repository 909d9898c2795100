#include "learn/soft_label.h"

#include <algorithm>
#include <cmath>

#include "memory/kernels/search.h"
#include "model/kernels/rows.h"

namespace accrete {

double SoftLabel::rest() const {
  double sum = 0;
  for (const float x : p) sum += static_cast<double>(x);
  return std::max(0.0, 1 - sum);
}

SoftLabel soft_label(const float* logits, int64_t n, int64_t kept) {
  SoftLabel out;
  const int64_t k = std::min({kept, n, kernels::kMaxTopK});
  out.tokens.resize(static_cast<size_t>(k));
  out.p.resize(static_cast<size_t>(k));
  const auto found =
      static_cast<size_t>(kernels::top_k(logits, n, k, out.p.data(), out.tokens.data()));
  out.tokens.resize(found);
  out.p.resize(found);
  if (found == 0) return out;
  const auto top = static_cast<double>(out.p[0]);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(logits[i]) - top);
  for (float& p : out.p) p = static_cast<float>(std::exp(static_cast<double>(p) - top) / sum);
  return out;
}

double overlap(const SoftLabel& a, const SoftLabel& b) {
  double sum = 0;
  for (size_t i = 0; i < a.tokens.size(); ++i)
    for (size_t j = 0; j < b.tokens.size(); ++j)
      if (a.tokens[i] == b.tokens[j]) sum += static_cast<double>(std::min(a.p[i], b.p[j]));
  return sum;
}

float divergence(float* logits, int64_t n, const SoftLabel& label, float share) {
  constexpr double kLeast = 1e-6;
  // softmax, but for the one at the first named token.
  kernels::cross_entropy(logits, n, label.tokens[0], 1);
  logits[label.tokens[0]] += 1;
  double named = 0, out = 0;
  std::vector<float> p;
  for (const int32_t t : label.tokens) {
    p.push_back(std::max(logits[t], 0.0F));
    named += static_cast<double>(p.back());
  }
  for (size_t i = 0; i < p.size(); ++i) {
    const auto q = static_cast<double>(label.p[i]);
    if (q > 0) out += q * std::log(q / std::max(static_cast<double>(p[i]), 1e-30));
  }
  const double rest = std::max(1 - named, kLeast), q_rest = std::max(label.rest(), kLeast);
  out += q_rest * std::log(q_rest / rest);
  // d KL / d logit: p - q where named, p (1 - q_rest / rest) elsewhere.
  const auto factor = static_cast<float>(1 - q_rest / rest) * share;
  for (int64_t i = 0; i < n; ++i) logits[i] *= factor;
  for (size_t i = 0; i < p.size(); ++i) logits[label.tokens[i]] = (p[i] - label.p[i]) * share;
  return static_cast<float>(out);
}

}  // namespace accrete
