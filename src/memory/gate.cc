#include "memory/gate.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "memory/kernels/cpu.h"

namespace accrete {
namespace {

// A step of decoding asks for a token or a few: a product of matrices this small costs more to
// prepare than to compute.
constexpr int64_t kFewTokens = 8;

// Calls see(t, m, |q_t - anchor_m|^2) for those below `limit`, of each token its anchors in order;
// tokens may be on different threads. q [T, w], anchors [M, w], contiguous on the CPU.
template <class See>
void each_near(const float* q, int64_t T, const float* anchors, int64_t M, int64_t w, float limit,
               const See& see) {
  if (T <= kFewTokens) {
    std::vector<float> squares(static_cast<size_t>(M));
    for (int64_t t = 0; t < T; ++t) {
      at::parallel_for(0, M, 2048, [&](int64_t begin, int64_t end) {
        kernels::squared_distances(q + t * w, anchors + begin * w, w, end - begin, limit,
                                   squares.data() + begin);
      });
      for (int64_t m = 0; m < M; ++m)
        if (squares[static_cast<size_t>(m)] < limit) see(t, m, squares[static_cast<size_t>(m)]);
    }
    return;
  }
  constexpr int64_t kRows = 16;
  at::parallel_for(0, T, 32, [&](int64_t begin, int64_t end) {
    std::vector<uint16_t> maybe(static_cast<size_t>(end - begin));
    for (int64_t m = 0; m < M; m += kRows) {
      const int64_t rows = std::min(kRows, M - m);
      kernels::maybe_near(q + begin * w, end - begin, anchors + m * w, w, rows, limit,
                          maybe.data());
      for (int64_t t = begin; t < end; ++t)
        for (uint32_t bits = maybe[static_cast<size_t>(t - begin)]; bits != 0; bits &= bits - 1) {
          const int64_t row = m + std::countr_zero(bits);
          float square = 0;
          kernels::squared_distances(q + t * w, anchors + row * w, w, 1, limit, &square);
          if (square < limit) see(t, row, square);
        }
    }
  });
}

}  // namespace

Gates Gates::none(int64_t T) {
  return {at::empty({T, 0}, at::kLong), at::empty({T, 0}, at::kFloat)};
}

Gates Gates::narrow(int64_t begin, int64_t n) const {
  return {part.narrow(0, begin, n), weight.narrow(0, begin, n)};
}

Gates concat(std::span<const Gates> parts) {
  if (parts.empty()) return {};
  int64_t tokens = 0, widest = 0;
  for (const Gates& g : parts) {
    tokens += g.part.size(0);
    widest = std::max(widest, g.part.size(1));
  }
  Gates out{at::full({tokens, widest}, -1, at::kLong), at::zeros({tokens, widest}, at::kFloat)};
  int64_t at = 0;
  for (const Gates& g : parts) {
    const int64_t n = g.part.size(0), width = g.part.size(1);
    out.part.narrow(0, at, n).narrow(1, 0, width).copy_(g.part);
    out.weight.narrow(0, at, n).narrow(1, 0, width).copy_(g.weight);
    at += n;
  }
  return out;
}

at::Tensor nearest_distance(const at::Tensor& q, const at::Tensor& anchors) {
  const at::NoGradGuard no_grad;
  // |q - a|^2 = |q|^2 - 2 q.a + |a|^2; the smallest over a needs only the last two terms.
  const auto cross = at::addmm(anchors.square().sum(1).unsqueeze(0), q, anchors.t(), 1, -2);
  return (cross.amin(1) + q.square().sum(1)).clamp_min(0).sqrt();
}

at::Tensor Gate::first(const at::Tensor& q) const {
  if (!first_at.defined()) return at::zeros({q.size(0)}, q.options().dtype(at::kBool));
  return nearest_distance(q, first_at.to(q.device()).unsqueeze(0)) < first_radius;
}

at::Tensor Gate::distance(const at::Tensor& q, const at::Tensor& anchors) const {
  constexpr float kFar = std::numeric_limits<float>::infinity();
  auto out = at::full({q.size(0)}, kFar, at::kFloat);
  if (!anchors.defined() || anchors.size(0) == 0) return out;
  if (!first_at.defined()) return nearest_distance(q, anchors);
  const auto inside = first(q), anchors_inside = first(anchors);
  for (const bool in : {false, true}) {
    const auto here = (inside == in).nonzero().view({-1});
    const auto heard = (anchors_inside == in).nonzero().view({-1});
    if (here.size(0) == 0 || heard.size(0) == 0) continue;
    const auto d = nearest_distance(q.index_select(0, here), anchors.index_select(0, heard));
    out.index_copy_(0, here, in ? d * stretch() : d);
  }
  return out;
}

at::Tensor Gate::operator()(const at::Tensor& q, const at::Tensor& anchors) const {
  return ((radius - distance(q, anchors)) / softness).clamp(0, 1);
}

std::vector<std::vector<Gate::Near>> Gate::near_on_device(const at::Tensor& q,
                                                          const at::Tensor& anchors,
                                                          const at::Tensor& squares) const {
  constexpr int64_t kPairs = 1 << 26;  // of a token and an anchor at once
  const int64_t T = q.size(0), M = anchors.size(0);
  const auto inside = first(q), anchors_inside = first(anchors);
  const auto reach = at::where(inside, first_at.defined() ? radius / stretch() : radius, radius)
                         .square()
                         .unsqueeze(1);
  std::vector<std::vector<Near>> out(static_cast<size_t>(T));
  const int64_t some = std::clamp<int64_t>(kPairs / M, 1, std::max<int64_t>(T, 1));
  for (int64_t begin = 0; begin < T; begin += some) {
    const int64_t n = std::min(some, T - begin);
    const auto tokens = q.narrow(0, begin, n), in = inside.narrow(0, begin, n);
    const auto square = at::addmm(squares.unsqueeze(0), tokens, anchors.t(), 1, -2)
                            .add_(tokens.square().sum(1, true));
    const auto near = (square < reach.narrow(0, begin, n))
                          .logical_and_(in.unsqueeze(1) == anchors_inside.unsqueeze(0));
    const auto pairs = near.nonzero().to(at::kCPU).contiguous();  // by token, then anchor
    if (pairs.size(0) == 0) continue;
    const auto squares_near = square.masked_select(near).to(at::kCPU);
    const auto is_first = in.to(at::kCPU);
    const int64_t* pair = pairs.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < pairs.size(0); ++i) {
      const int64_t t = pair[2 * i];
      const double s = std::max(0.0F, squares_near.const_data_ptr<float>()[i]);
      const double factor = is_first.const_data_ptr<bool>()[t] ? stretch() : 1;
      out[static_cast<size_t>(begin + t)].push_back({pair[2 * i + 1], std::sqrt(s) * factor});
    }
  }
  return out;
}

std::vector<std::vector<Gate::Near>> Gate::near(const at::Tensor& q, const at::Tensor& anchors,
                                                const at::Tensor& squares) const {
  const at::NoGradGuard no_grad;
  const int64_t T = q.size(0);
  std::vector<std::vector<Near>> out(static_cast<size_t>(T));
  if (!anchors.defined() || anchors.size(0) == 0) return out;
  if (!q.is_cpu()) {
    const auto there = anchors.to(q.device());
    return near_on_device(q, there,
                          squares.defined() ? squares.to(q.device()) : there.square().sum(1));
  }
  const auto tokens = q.contiguous(), rows = anchors.to(at::kCPU).contiguous();
  const int64_t M = rows.size(0), w = rows.size(1);
  const auto* from = tokens.const_data_ptr<float>();
  const auto* to = rows.const_data_ptr<float>();
  const auto centre = first_at.defined() ? first_at.to(at::kCPU).contiguous() : at::Tensor();
  const auto is_first = [&](const float* row) {
    if (!centre.defined()) return false;
    float square = 0;
    kernels::squared_distances(centre.const_data_ptr<float>(), row, w, 1,
                               std::numeric_limits<float>::infinity(), &square);
    return square < first_radius * first_radius;
  };
  std::vector<char> in(static_cast<size_t>(T));
  for (int64_t t = 0; t < T; ++t) in[static_cast<size_t>(t)] = is_first(from + t * w) ? 1 : 0;
  each_near(from, T, to, M, w, static_cast<float>(radius * radius),
            [&](int64_t t, int64_t m, float square) {
              const bool first_token = in[static_cast<size_t>(t)] != 0;
              const double reach = first_token ? radius / stretch() : radius;
              if (square >= reach * reach || is_first(to + m * w) != first_token) return;
              out[static_cast<size_t>(t)].push_back(
                  {m, std::sqrt(square) * (first_token ? stretch() : 1)});
            });
  return out;
}

Gates Gate::by_part(const at::Tensor& q, const at::Tensor& anchors, const at::Tensor& part,
                    const at::Tensor& squares) const {
  return by_part(near(q, anchors, squares), part);
}

Gates Gate::by_part(std::span<const std::vector<Near>> around, const at::Tensor& part) const {
  const auto T = static_cast<int64_t>(around.size());
  struct Open {
    int64_t part;
    double distance;
    float weight;
  };
  std::vector<std::vector<Open>> open(static_cast<size_t>(T));
  size_t widest = 0;
  const auto owner = part.defined() ? part.to(at::kCPU).contiguous() : part;
  for (size_t t = 0; t < around.size(); ++t) {
    auto& here = open[t];
    double least = radius;
    for (const Near& a : around[t]) {
      const int64_t p = owner.const_data_ptr<int64_t>()[a.anchor];
      if (here.empty() || here.back().part != p)
        here.push_back({p, a.distance, 0});
      else
        here.back().distance = std::min(here.back().distance, a.distance);
      least = std::min(least, a.distance);
    }
    for (Open& o : here)
      o.weight = static_cast<float>(
          std::clamp((radius - o.distance) / softness, 0.0, 1.0) *
          std::clamp((least + heard_within() - o.distance) / (softness / 2), 0.0, 1.0));
    std::erase_if(here, [](const Open& o) { return o.weight <= 0; });
    widest = std::max(widest, here.size());
  }
  if (widest == 0) return Gates::none(T);
  const auto P = static_cast<int64_t>(widest);
  Gates out{at::full({T, P}, -1, at::kLong), at::zeros({T, P}, at::kFloat)};
  for (int64_t t = 0; t < T; ++t)
    for (size_t k = 0; k < open[static_cast<size_t>(t)].size(); ++k) {
      const Open& o = open[static_cast<size_t>(t)][k];
      out.part.mutable_data_ptr<int64_t>()[t * P + static_cast<int64_t>(k)] = o.part;
      out.weight.mutable_data_ptr<float>()[t * P + static_cast<int64_t>(k)] = o.weight;
    }
  return out;
}

void find_first(Gate& gate, const at::Tensor& first) {
  const auto centre = first.mean(0);
  // The median, since a few tokens are unlike the others; all but half a percent lie within 2.5 of
  // it (measured on SmolLM2). It must be well inside the reach of an anchor.
  const double reach = 2.5 * nearest_distance(first, centre.unsqueeze(0)).median().item<double>();
  // Nor are they told where all are the same: every text then begins with one token, like Llama's
  // "<|begin_of_text|>", which is no subject.
  if (reach >= 0.5 * gate.radius || reach <= 1e-3 * gate.radius) return;
  gate.first_at = centre;
  gate.first_radius = reach;
}

at::Tensor thin_anchors(const Gate& gate, const at::Tensor& q, double spacing) {
  std::vector<int64_t> kept;
  at::Tensor anchors;
  for (int64_t i = 0; i < q.size(0); ++i) {
    const auto row = q.narrow(0, i, 1);
    if (anchors.defined() && gate.distance(row, anchors).item<float>() <= spacing) continue;
    kept.push_back(i);
    anchors = q.index_select(0, at::tensor(kept, at::kLong));
  }
  return anchors.defined() ? anchors : q;
}

}  // namespace accrete
