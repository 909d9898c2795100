#include "memory/learned_lookup.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <atomic>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/format.h"
#include "memory/cuda_tensors.h"
#include "memory/kernels/search.h"

namespace accrete {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void check_lookup(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& bias,
                  int64_t top_k) {
  const bool fits = q.dim() == 2 && keys.dim() == 4 && keys.size(1) == 2 &&
                    q.size(1) == keys.size(0) * 2 * keys.size(3) && top_k >= 1 &&
                    top_k <= std::min(keys.size(2), kernels::kMaxTopK) &&
                    (!bias.defined() || bias.sizes() == keys.sizes().slice(0, 3));
  if (!fits)
    throw Error(
        ErrorCode::kInvalidArgument,
        accrete::format("lookup of the {} best: queries [{}] and keys [{}] do not fit", top_k,
                        accrete::joined(q.sizes(), ", "), accrete::joined(keys.sizes(), ", ")));
}

// [2 heads, T, n]: the scores of every half-query against the half-keys of its half.
at::Tensor half_scores(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& bias) {
  const int64_t H = keys.size(0), n = keys.size(2), half = keys.size(3);
  const auto halves = q.view({q.size(0), 2 * H, half}).transpose(0, 1);
  const auto by_half = keys.view({2 * H, n, half}).transpose(1, 2);
  return bias.defined() ? at::baddbmm(bias.view({2 * H, 1, n}), halves, by_half)
                        : at::bmm(halves, by_half);
}

void refuse_queries(int64_t bad) {
  if (bad > 0)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} queries hold NaN or infinity", bad), "lower the rate");
}

// Scores [2 heads, T, n] to slots and weights, [T, heads * k]: a head's scores are in one place, so
// heads are what is shared out to the threads.
std::pair<at::Tensor, at::Tensor> top_k_cpu(const at::Tensor& scores, int64_t k) {
  const int64_t H = scores.size(0) / 2, T = scores.size(1), n = scores.size(2), K = H * k;
  auto slots = at::empty({T, K}, at::kInt);
  auto weights = at::empty({T, K}, at::kFloat);
  const float* from = scores.const_data_ptr<float>();
  int32_t* slot = slots.mutable_data_ptr<int32_t>();
  float* weight = weights.mutable_data_ptr<float>();
  const float share = 1 / std::sqrt(static_cast<float>(H));
  std::atomic<int64_t> bad = 0;
  at::parallel_for(0, H, 1, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> head_slots(static_cast<size_t>(T * k));
    std::vector<float> head_weights(static_cast<size_t>(T * k));
    for (int64_t h = begin; h < end; ++h) {
      bad += kernels::product_top_k(from + 2 * h * T * n, {T, 1, n, k}, nullptr, head_slots.data(),
                                    head_weights.data());
      for (int64_t t = 0; t < T; ++t)
        for (int64_t c = 0; c < k; ++c) {
          const auto i = static_cast<size_t>(t * k + c);
          slot[t * K + h * k + c] = head_slots[i] + static_cast<int32_t>(h * n * n);
          weight[t * K + h * k + c] = head_weights[i] * share;
        }
    }
  });
  refuse_queries(bad);
  return {slots, weights};
}

at::Tensor top_k_backward_cpu(const at::Tensor& slots, const at::Tensor& weights,
                              const at::Tensor& gradient, int64_t n, int64_t k) {
  const int64_t T = slots.size(0), K = slots.size(1), H = K / k;
  auto out = at::zeros({2 * H, T, n}, at::kFloat);
  const int32_t* slot = slots.const_data_ptr<int32_t>();
  const float *w = weights.const_data_ptr<float>(), *g = gradient.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  const float root = std::sqrt(static_cast<float>(H));
  at::parallel_for(0, H, 1, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h) {
      float *first = to + 2 * h * T * n, *second = first + T * n;
      for (int64_t t = 0; t < T; ++t) {
        const int64_t at = t * K + h * k;
        // w = p / sqrt(H), p a softmax: ds_c = w_c (g_c - sum_j p_j g_j).
        float mean = 0;
        for (int64_t c = 0; c < k; ++c) mean += w[at + c] * g[at + c];
        mean *= root;
        for (int64_t c = 0; c < k; ++c) {
          const float ds = w[at + c] * (g[at + c] - mean);
          const int64_t pair = slot[at + c] - h * n * n;
          first[t * n + pair / n] += ds;
          second[t * n + pair % n] += ds;
        }
      }
    }
  });
  return out;
}

std::pair<at::Tensor, at::Tensor> top_k(const at::Tensor& scores, int64_t k) {
#ifdef ACCRETE_CUDA
  if (scores.is_cuda()) {
    const CudaLookup found = product_top_k_cuda(scores, k);
    refuse_queries(found.bad);
    return {found.slots, found.weights};
  }
#endif
  return top_k_cpu(scores, k);
}

at::Tensor top_k_backward(const at::Tensor& slots, const at::Tensor& weights,
                          const at::Tensor& gradient, int64_t n, int64_t k) {
#ifdef ACCRETE_CUDA
  if (slots.is_cuda()) return product_top_k_backward_cuda(slots, weights, gradient, n, k);
#endif
  return top_k_backward_cpu(slots, weights, gradient, n, k);
}

struct ProductTopK : torch::autograd::Function<ProductTopK> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& scores, int64_t k) {
    const auto [slots, weights] = top_k(scores, k);
    ctx->save_for_backward({slots, weights});
    ctx->saved_data["n"] = scores.size(2);
    ctx->saved_data["k"] = k;
    ctx->mark_non_differentiable({slots});
    return {slots, weights};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    if (!gradients[1].defined()) return {at::Tensor(), at::Tensor()};
    const auto saved = ctx->get_saved_variables();
    return {top_k_backward(saved[0], saved[1], gradients[1].contiguous(),
                           ctx->saved_data["n"].toInt(), ctx->saved_data["k"].toInt()),
            at::Tensor()};
  }
};

}  // namespace

Accesses learned_lookup(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& bias,
                        int64_t top_k) {
  check_lookup(q, keys, bias, top_k);
  const bool here = q.device().is_cpu() || cuda_kernels_apply(q);
  if (!here || q.scalar_type() != at::kFloat || keys.scalar_type() != at::kFloat)
    return learned_lookup_reference(q, keys, bias, top_k);
  const auto found = ProductTopK::apply(half_scores(q, keys, bias).contiguous(), top_k);
  return {found[0], found[1]};
}

Accesses learned_lookup_reference(const at::Tensor& q, const at::Tensor& keys,
                                  const at::Tensor& bias, int64_t top_k) {
  check_lookup(q, keys, bias, top_k);
  const int64_t H = keys.size(0), n = keys.size(2), T = q.size(0);
  const auto scores = half_scores(q, keys, bias).view({H, 2, T, n});
  // Of each half its best, of their sums the best again; stable sorts: equal scores by position.
  const auto [sorted, order] = at::sort(scores.detach(), /*stable=*/true, -1, /*descending=*/true);
  const auto index = order.narrow(-1, 0, top_k);  // [H, 2, T, k]
  const auto best = scores.gather(-1, index);     // differentiable
  const auto sums = (best.select(1, 0).unsqueeze(-1) + best.select(1, 1).unsqueeze(-2)).flatten(2);
  const auto ids =
      (index.select(1, 0).unsqueeze(-1) * n + index.select(1, 1).unsqueeze(-2)).flatten(2);
  const auto [by_id, id_order] = ids.sort(-1);
  const auto in_order = sums.gather(-1, id_order);
  const auto [top, top_order] =
      at::sort(in_order.detach(), /*stable=*/true, -1, /*descending=*/true);
  const auto chosen = top_order.narrow(-1, 0, top_k);
  const auto weights =
      in_order.gather(-1, chosen).softmax(-1) / std::sqrt(static_cast<double>(H));  // [H, T, k]
  const auto slots =
      by_id.gather(-1, chosen) + at::arange(H, ids.options()).view({H, 1, 1}) * (n * n);
  return {slots.transpose(0, 1).reshape({T, H * top_k}).to(at::kInt),
          weights.transpose(0, 1).reshape({T, H * top_k})};
}

}  // namespace accrete
