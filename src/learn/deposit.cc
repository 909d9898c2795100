#include "learn/deposit.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "memory/denormals.h"

namespace accrete {
namespace {

// Tokens with equal accesses and the same value: the first of each kind, and how many there are.
struct Distinct {
  std::vector<int64_t> first;
  std::vector<float> count;
};

Distinct distinct_tokens(const at::Tensor& slots, const at::Tensor& weights,
                         const std::vector<int64_t>& value_of) {
  const auto bytes = [](const at::Tensor& rows, int64_t j) {
    const size_t n = static_cast<size_t>(rows.nbytes()) / static_cast<size_t>(rows.size(0));
    return std::string_view(
        static_cast<const char*>(rows.const_data_ptr()) + static_cast<size_t>(j) * n, n);
  };
  Distinct out;
  std::unordered_map<std::string_view, std::vector<size_t>> seen;  // by weights
  for (int64_t j = 0; j < slots.size(0); ++j) {
    auto& alike = seen[bytes(weights, j)];
    const auto same = std::find_if(alike.begin(), alike.end(), [&](size_t k) {
      const int64_t other = out.first[k];
      return value_of[static_cast<size_t>(other)] == value_of[static_cast<size_t>(j)] &&
             bytes(slots, j) == bytes(slots, other);
    });
    if (same != alike.end()) {
      ++out.count[*same];
      continue;
    }
    alike.push_back(out.first.size());
    out.first.push_back(j);
    out.count.push_back(1);
  }
  return out;
}

// A^T [t, n] for tokens `which` of n: tokens touch a few slots each, and n is small.
at::Tensor transposed_accesses(const Accesses& accesses, const at::Tensor& which,
                               const SlotIndex& slots) {
  const int64_t n = which.size(0);
  auto out = at::zeros({slots.size(), n}, at::kFloat);
  const auto rows = slots.rows(accesses.slots.index_select(0, which)).contiguous();
  const auto weights = accesses.weights.index_select(0, which).contiguous();
  const int64_t K = rows.size(1);
  for (int64_t j = 0; j < n; ++j)
    for (int64_t k = 0; k < K; ++k)
      if (const int32_t r = rows.data_ptr<int32_t>()[j * K + k]; r >= 0)
        out.data_ptr<float>()[r * n + j] += weights.data_ptr<float>()[j * K + k];
  return out;
}

// The deposit in slots that the log reads, whose Gram matrix is `gram` (used up), and in slots that
// it never reads, for which G_SS is 0 and P is 1 / lambda.
struct Parts {
  at::Tensor read, unread;
};

Parts solve(const Accesses& accesses, const Targets& targets, const SlotIndex& read,
            const SlotIndex& unread, BlockSymmetric gram, const DepositOptions& options) {
  const at::NoGradGuard no_grad;
  if (!targets.values.isfinite().all().item<bool>())
    throw Error(ErrorCode::kInvalidArgument, "a value to write is not finite", "lower --rate");
  if (!(options.lambda > 0))
    throw Error(ErrorCode::kInvalidArgument, "lambda must be positive", "raise --lambda");
  const auto distinct =
      distinct_tokens(accesses.slots.contiguous(), accesses.weights.contiguous(), targets.of);
  const auto which = at::tensor(distinct.first, at::kLong);
  const auto value = at::tensor(targets.of, at::kLong).index_select(0, which).to(options.device);
  const auto values = targets.values.to(options.device);
  const auto count = at::tensor(distinct.count, at::kFloat);
  auto y = transposed_accesses(accesses, which, read).to(options.device);
  const auto free = transposed_accesses(accesses, which, unread).to(options.device);
  gram = gram.to(options.device);

  const FlushDenormals flush;
  // With G + lambda I = L L^T and Y = L^-1 A^T: A P A^T = Y^T Y, and P A^T = L^-T Y.
  for (at::Tensor& row : gram.rows) row.diagonal().add_(options.lambda);
  factorise(gram, "G_SS + lambda I");
  solve_lower(gram, y);
  BlockSymmetric k = BlockSymmetric::products(y);
  k.add_products(free, 1 / options.lambda);
  // In proportion to each token's own share: one that reads what the log reads all the time is
  // written as well as any other.
  const auto diagonal = k.diagonal();
  const auto own = diagonal.clamp_min(1e-6 * diagonal.mean().item<double>());
  k.add_to_diagonal(options.epsilon * own / count.to(options.device));
  factorise(k, "A P A^T + epsilon I");
  // V = E values, with E [n, v] telling who has which: the few columns of E are solved for, and
  // multiplied by the values at the end.
  const bool few = values.size(0) < values.size(1);
  auto alpha =
      few ? at::one_hot(value, values.size(0)).to(at::kFloat) : values.index_select(0, value);
  solve_lower(k, alpha);
  solve_upper(k, alpha);
  Parts out{at::mm(y, alpha), at::mm(free, alpha).div_(options.lambda)};
  y.reset();
  solve_upper(gram, out.read);
  if (few) out = {at::mm(out.read, values), at::mm(out.unread, values)};
  return {out.read.to(at::kCPU), out.unread.to(at::kCPU)};
}

}  // namespace

Targets Targets::each(at::Tensor values) {
  Targets out{std::move(values), {}};
  out.of.resize(static_cast<size_t>(out.values.size(0)));
  std::iota(out.of.begin(), out.of.end(), int64_t{0});
  return out;
}

at::Tensor deposit(const Accesses& accesses, const Targets& targets, const SlotIndex& selected,
                   const at::Tensor& gram, const DepositOptions& options) {
  return solve(accesses, targets, selected, SlotIndex(), BlockSymmetric::of(gram), options).read;
}

at::Tensor deposit(const Accesses& accesses, const Targets& targets,
                   std::span<const int64_t> selected, const AccessLog& log,
                   const DepositOptions& options) {
  const auto diagonal = log.diagonal();
  std::vector<int64_t> slots[2], places[2];  // read by the log, and not
  for (size_t i = 0; i < selected.size(); ++i) {
    const auto at = std::lower_bound(diagonal.slots.begin(), diagonal.slots.end(), selected[i]);
    const bool read = at != diagonal.slots.end() && *at == selected[i] &&
                      diagonal.values[static_cast<size_t>(at - diagonal.slots.begin())] > 0;
    slots[read ? 0 : 1].push_back(selected[i]);
    places[read ? 0 : 1].push_back(static_cast<int64_t>(i));
  }
  const SlotIndex read(slots[0]), unread(slots[1]);
  const Parts parts = solve(accesses, targets, read, unread,
                            seen_gram(log.block_gram(read), options.plasticity), options);
  auto out = at::empty({static_cast<int64_t>(selected.size()), targets.values.size(1)}, at::kFloat);
  out.index_copy_(0, at::tensor(places[0], at::kLong), parts.read);
  out.index_copy_(0, at::tensor(places[1], at::kLong), parts.unread);
  return out;
}

}  // namespace accrete
