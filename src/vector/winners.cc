#include "vector/winners.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/format.h"
#include "base/rng.h"
#include "base/threads.h"
#include "ledger/vectors.h"

namespace accrete {
namespace {

constexpr double kProjectionSteps = 32;
constexpr int64_t kRowsAtOnce = 512;

// The constant input, in the steps of the others.
constexpr auto kOne = static_cast<int16_t>(kInputSteps);

// Writes the k largest of h [n] that make a weight, by slot. `order` is room for n numbers.
void pick(const double* h, int64_t n, int64_t k, int64_t step, std::vector<int16_t>& order,
          int16_t* slots, int16_t* weights) {
  std::iota(order.begin(), order.end(), int16_t{0});
  const auto before = [h](int16_t a, int16_t b) { return h[a] != h[b] ? h[a] > h[b] : a < b; };
  if (k < n) std::nth_element(order.begin(), order.begin() + k, order.end(), before);
  std::sort(order.begin(), order.begin() + k);
  int64_t at = 0;
  for (int64_t i = 0; i < k; ++i) {
    const int16_t slot = order[static_cast<size_t>(i)];
    // A weight has 15 bits, which h fills only far away from everything.
    const int64_t weight = std::min<int64_t>(static_cast<int64_t>(h[slot]) / step, 32767);
    if (weight < 1) continue;
    slots[at] = slot;
    weights[at++] = static_cast<int16_t>(weight);
  }
  for (; at < k; ++at) {
    slots[at] = -1;
    weights[at] = 0;
  }
}

VectorAccesses room_for(int64_t rows, int64_t winners) {
  VectorAccesses out;
  out.per_row = winners;
  out.slots.resize(static_cast<size_t>(rows * winners));
  out.weights.resize(out.slots.size());
  return out;
}

}  // namespace

std::vector<int16_t> standardised(std::span<const float> x, std::span<const float> mean,
                                  std::span<const float> scale) {
  std::vector<int16_t> z(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % mean.size();
    const float v = std::clamp((x[i] - mean[c]) / scale[c], -kInputLimit, kInputLimit);
    z[i] = static_cast<int16_t>(std::floor(v * kInputSteps + 0.5F));
  }
  return z;
}

Winners::Winners(int64_t inputs, int64_t columns, int64_t winners, uint64_t seed, WinnersGate gate)
    : inputs_(inputs), columns_(columns), winners_(winners), gate_(gate) {
  if (inputs < 1 || winners < 1 || winners > columns || columns > kMostColumns)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} winners of {} columns cannot be", winners, columns),
                accrete::format("1 <= winners <= columns <= {}", kMostColumns));
  // So that h has the size of a standard normal number where z has.
  const double length = std::sqrt(static_cast<double>(inputs + 1));
  step_ = std::max<int64_t>(1, std::llround(kInputSteps * kProjectionSteps * length * kWeightStep));
  projection_ = at::empty({inputs + 1, columns}, at::kDouble);
  auto* r = projection_.data_ptr<double>();
  Rng rng(seed);
  const auto draw = [&rng] {
    return std::clamp(std::floor(kProjectionSteps * double{rng.normal()} + 0.5), -127.0, 127.0);
  };
  for (int64_t i = 0; i < projection_.numel(); ++i) r[i] = draw();
  open_ = columns;
  if (gate_.inputs == 0) return;
  open_ = std::clamp<int64_t>(std::llround(gate_.share * static_cast<double>(columns)), 1, columns);
  openers_.resize(static_cast<size_t>(gate_.inputs * columns));
  for (int32_t& q : openers_) q = static_cast<int32_t>(draw());
}

void Winners::close(const int16_t* g, std::vector<int16_t>& order,
                    std::vector<uint8_t>& closed) const {
  std::vector<int64_t> q(static_cast<size_t>(columns_), 0);
  for (int64_t i = 0; i < gate_.inputs; ++i)
    for (int64_t c = 0; c < columns_; ++c)
      q[static_cast<size_t>(c)] += int64_t{g[i]} * openers_[static_cast<size_t>(i * columns_ + c)];
  std::iota(order.begin(), order.end(), int16_t{0});
  const auto before = [&q](int16_t a, int16_t b) {
    const int64_t x = q[static_cast<size_t>(a)], y = q[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  if (open_ < columns_) std::nth_element(order.begin(), order.begin() + open_, order.end(), before);
  closed.assign(static_cast<size_t>(columns_), 1);
  for (int64_t i = 0; i < open_; ++i)
    closed[static_cast<size_t>(order[static_cast<size_t>(i)])] = 0;
}

VectorAccesses Winners::of(std::span<const int16_t> z, std::span<const int16_t> g) const {
  const c10::InferenceMode inference;
  const int64_t n = static_cast<int64_t>(z.size()) / inputs_;
  VectorAccesses out = room_for(n, winners_);
  for (int64_t begin = 0; begin < n; begin += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, n - begin);
    auto block = at::empty({rows, inputs_ + 1}, at::kDouble);
    auto* to = block.data_ptr<double>();
    const int16_t* from = z.data() + begin * inputs_;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < inputs_; ++i) *to++ = *from++;
      *to++ = kOne;
    }
    // Below 2^53 whatever the order of the sums: exact.
    const at::Tensor h = block.mm(projection_);
    auto* all = h.data_ptr<double>();
    share_out(static_cast<size_t>(rows), 16, 64, [&](size_t first, size_t last) {
      std::vector<int16_t> order(static_cast<size_t>(columns_));
      std::vector<uint8_t> closed;
      for (auto row = static_cast<int64_t>(first); row < static_cast<int64_t>(last); ++row) {
        if (gate_.inputs > 0) {
          const int16_t* own = g.data() + (begin + row) * gate_.inputs;
          // Rows of one task follow each other.
          if (closed.empty() || !std::equal(own, own + gate_.inputs, own - gate_.inputs))
            close(own, order, closed);
          for (int64_t c = 0; c < columns_; ++c)
            if (closed[static_cast<size_t>(c)] != 0) all[row * columns_ + c] = 0;
        }
        pick(all + row * columns_, columns_, winners_, step_, order,
             out.slots.data() + (begin + row) * winners_,
             out.weights.data() + (begin + row) * winners_);
      }
    });
  }
  return out;
}

VectorAccesses Winners::reference(std::span<const int16_t> z, std::span<const int16_t> g) const {
  const int64_t n = static_cast<int64_t>(z.size()) / inputs_;
  VectorAccesses out = room_for(n, winners_);
  const auto* r = projection_.data_ptr<double>();
  for (int64_t row = 0; row < n; ++row) {
    std::vector<std::pair<int64_t, int64_t>> h;  // minus the number, and its slot
    std::vector<std::pair<int64_t, int64_t>> q;
    for (int64_t c = 0; c < columns_; ++c) {
      int64_t sum = 0;
      for (int64_t i = 0; i < gate_.inputs; ++i)
        sum += int64_t{g[static_cast<size_t>(row * gate_.inputs + i)]} *
               openers_[static_cast<size_t>(i * columns_ + c)];
      q.emplace_back(-sum, c);
    }
    std::sort(q.begin(), q.end());
    std::vector<bool> open(static_cast<size_t>(columns_), false);
    for (int64_t i = 0; i < open_; ++i)
      open[static_cast<size_t>(q[static_cast<size_t>(i)].second)] = true;
    for (int64_t c = 0; c < columns_; ++c) {
      auto sum = static_cast<int64_t>(kInputSteps * r[inputs_ * columns_ + c]);
      for (int64_t i = 0; i < inputs_; ++i)
        sum +=
            z[static_cast<size_t>(row * inputs_ + i)] * static_cast<int64_t>(r[i * columns_ + c]);
      h.emplace_back(open[static_cast<size_t>(c)] ? -sum : 0, c);
    }
    std::sort(h.begin(), h.end());
    h.resize(static_cast<size_t>(winners_));
    std::sort(h.begin(), h.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    int64_t at = row * winners_;
    std::fill_n(out.slots.begin() + at, winners_, int16_t{-1});
    for (const auto& [minus, slot] : h)
      if (const int64_t weight = std::min<int64_t>(-minus / step_, 32767); weight > 0) {
        out.slots[static_cast<size_t>(at)] = static_cast<int16_t>(slot);
        out.weights[static_cast<size_t>(at++)] = static_cast<int16_t>(weight);
      }
  }
  return out;
}

}  // namespace accrete
