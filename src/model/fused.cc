#include "model/fused.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <vector>

#include "model/kernels/rows.h"

namespace accrete {
namespace {

constexpr int64_t kFusedGrain = 1 << 14;  // elements: a task of a few microseconds

}  // namespace

bool fused_applies(const at::Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == at::kFloat &&
         !(at::GradMode::is_enabled() && x.requires_grad());
}

at::Tensor fused_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const auto input = x.contiguous(), w = weight.contiguous();
  auto out = at::empty_like(input);
  const int64_t d = x.size(-1);
  const float *from = input.const_data_ptr<float>(), *scale = w.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(0, input.numel() / d, std::max<int64_t>(1, kFusedGrain / d),
                   [&](int64_t begin, int64_t end) {
                     kernels::rms_norm_rows(from + begin * d, scale, end - begin, d,
                                            static_cast<float>(eps), to + begin * d, nullptr);
                   });
  return out;
}

at::Tensor fused_swiglu(at::Tensor gate, const at::Tensor& up) {
  float* to = gate.mutable_data_ptr<float>();
  const float* other = up.const_data_ptr<float>();
  at::parallel_for(0, gate.numel(), kFusedGrain / 2, [&](int64_t begin, int64_t end) {
    kernels::swiglu(to + begin, other + begin, end - begin, to + begin);
  });
  return gate;
}

void fused_rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t B = x.size(0), H = x.size(1), T = x.size(2), D = x.size(3);
  const int64_t of_batch = x.stride(0), of_head = x.stride(1), of_token = x.stride(2);
  float* rows = x.mutable_data_ptr<float>();
  const float *c = cos.const_data_ptr<float>(), *s = sin.const_data_ptr<float>();
  const bool own = cos.dim() == 4;
  at::parallel_for(0, B * T, std::max<int64_t>(1, kFusedGrain / (H * D)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) {
                       const int64_t b = i / T, t = i % T, at = (own ? i : t) * (D / 2);
                       float* row = rows + b * of_batch + t * of_token;
                       if (of_head == D)
                         kernels::rotate_row(row, H, D, c + at, s + at, 1);
                       else
                         for (int64_t h = 0; h < H; ++h)
                           kernels::rotate_row(row + h * of_head, 1, D, c + at, s + at, 1);
                     }
                   });
}

at::Tensor fused_decode_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  const at::Tensor& key_mask) {
  const int64_t B = q.size(0), H = q.size(1), D = q.size(3), KV = k.size(1), S = k.size(2);
  const auto queries = q.reshape({B, H * D}).contiguous();
  const auto mask = key_mask.defined() ? key_mask.contiguous() : at::Tensor();
  auto out = at::empty({B, 1, H * D}, q.options());
  auto probabilities = at::empty({B, H, S}, q.options());
  const float *from = queries.const_data_ptr<float>(), *keys = k.const_data_ptr<float>();
  const float* values = v.const_data_ptr<float>();
  const bool* keep = mask.defined() ? mask.const_data_ptr<bool>() : nullptr;
  float *to = out.mutable_data_ptr<float>(), *p = probabilities.mutable_data_ptr<float>();
  const int64_t group = H / KV;
  at::parallel_for(0, B * KV, std::max<int64_t>(1, kFusedGrain / (S * D * group)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) {
                       const int64_t b = i / KV, h = i % KV, at = (b * H + h * group) * D;
                       const kernels::KeySegment segment{keys + b * k.stride(0) + h * k.stride(1),
                                                         values + b * v.stride(0) + h * v.stride(1),
                                                         S, k.stride(2)};
                       kernels::attend({1, group, D, 1, H * D, H * D}, from + at, &segment,
                                       keep == nullptr ? nullptr : keep + b * S,
                                       p + (b * H + h * group) * S, to + at);
                     }
                   });
  return out;
}

}  // namespace accrete
