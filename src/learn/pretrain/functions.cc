#include "learn/pretrain/functions.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "model/kernels/rows.h"

namespace accrete::pretraining {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows per task, so that a task moves about 256 KiB.
int64_t grain(int64_t width) {
  return std::max<int64_t>(1, (1 << 16) / width);
}

struct Multiply : torch::autograd::Function<Multiply> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& /*w*/,
                            const at::Tensor& by) {
    const auto from = x.to(by.scalar_type());
    ctx->save_for_backward({from, by});
    return at::mm(from, by.t()).to(at::kFloat);
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto g = gradients[0].to(saved[0].scalar_type());
    at::Tensor dx;
    if (ctx->needs_input_grad(0)) dx = at::mm(g, saved[1]).to(at::kFloat);
    return {dx, at::mm(g.t(), saved[0]).to(at::kFloat), at::Tensor()};
  }
};

struct Norm : torch::autograd::Function<Norm> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            double eps) {
    const int64_t T = x.size(0), d = x.size(1);
    auto out = at::empty_like(x), inverse = at::empty({T}, x.options());
    const float *from = x.const_data_ptr<float>(), *w = weight.const_data_ptr<float>();
    float *to = out.mutable_data_ptr<float>(), *scale = inverse.mutable_data_ptr<float>();
    at::parallel_for(0, T, grain(d), [&](int64_t begin, int64_t end) {
      kernels::rms_norm_rows(from + begin * d, w, end - begin, d, static_cast<float>(eps),
                             to + begin * d, scale + begin);
    });
    ctx->save_for_backward({x, weight, inverse});
    return out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &inverse = saved[2];
    const auto gradient = gradients[0].contiguous();
    const int64_t T = x.size(0), d = x.size(1);
    auto dx = at::zeros_like(x);
    const float *from = x.const_data_ptr<float>(), *w = weight.const_data_ptr<float>();
    const float *scale = inverse.const_data_ptr<float>(), *g = gradient.const_data_ptr<float>();
    float* to = dx.mutable_data_ptr<float>();
    at::parallel_for(0, T, grain(d), [&](int64_t begin, int64_t end) {
      kernels::rms_norm_rows_backward(from + begin * d, w, scale + begin, g + begin * d,
                                      end - begin, d, to + begin * d);
    });
    return {dx, at::mv((gradient * x).t(), inverse), at::Tensor()};
  }
};

struct Swiglu : torch::autograd::Function<Swiglu> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate_up) {
    const int64_t T = gate_up.size(0), f = gate_up.size(1) / 2;
    auto out = at::empty({T, f}, gate_up.options());
    const float* from = gate_up.const_data_ptr<float>();
    float* to = out.mutable_data_ptr<float>();
    at::parallel_for(0, T, grain(3 * f), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t)
        kernels::swiglu(from + 2 * t * f, from + (2 * t + 1) * f, f, to + t * f);
    });
    ctx->save_for_backward({gate_up});
    return out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto gradient = gradients[0].contiguous();
    auto out = ctx->get_saved_variables()[0].clone();
    const int64_t T = gradient.size(0), f = gradient.size(1);
    const float* g = gradient.const_data_ptr<float>();
    float* to = out.mutable_data_ptr<float>();
    at::parallel_for(0, T, grain(3 * f), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t)
        kernels::swiglu_backward(g + t * f, f, to + 2 * t * f, to + (2 * t + 1) * f);
    });
    return {out};
  }
};

// Rotates the heads in a row of every sequence of `positions` rows.
void rotate_rows(float* rows, int64_t count, int64_t stride, int64_t heads, const at::Tensor& cos,
                 const at::Tensor& sin, float direction) {
  const int64_t positions = cos.size(0), half = cos.size(1);
  const float *c = cos.const_data_ptr<float>(), *s = sin.const_data_ptr<float>();
  at::parallel_for(0, count, grain(stride), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t at = (r % positions) * half;
      kernels::rotate_row(rows + r * stride, heads, 2 * half, c + at, s + at, direction);
    }
  });
}

struct RotateSplit : torch::autograd::Function<RotateSplit> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& qkv, const at::Tensor& cos,
                               const at::Tensor& sin, int64_t heads, int64_t kv_heads) {
    const int64_t D = 2 * cos.size(1), rows = qkv.size(0);
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["kv_heads"] = kv_heads;
    const auto part = [&](int64_t first, int64_t count) {
      return qkv.narrow(1, first * D, count * D).clone(at::MemoryFormat::Contiguous);
    };
    auto q = part(0, heads), k = part(heads, kv_heads), v = part(heads + kv_heads, kv_heads);
    rotate_rows(q.mutable_data_ptr<float>(), rows, heads * D, heads, cos, sin, 1);
    rotate_rows(k.mutable_data_ptr<float>(), rows, kv_heads * D, kv_heads, cos, sin, 1);
    return {q, k, v};
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const int64_t heads = ctx->saved_data["heads"].toInt();
    const int64_t kv_heads = ctx->saved_data["kv_heads"].toInt();
    auto out = at::cat(gradients, 1);
    // Queries and keys stand together, and rotate alike.
    rotate_rows(out.mutable_data_ptr<float>(), out.size(0), out.size(1), heads + kv_heads, saved[0],
                saved[1], -1);
    return {out, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor multiply(const at::Tensor& x, const at::Tensor& w, const at::Tensor& half) {
  // A function takes no undefined tensors.
  return Multiply::apply(x, w, half.defined() ? half : w.detach());
}

at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return Norm::apply(x.contiguous(), weight, eps);
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  return Swiglu::apply(gate_up.contiguous());
}

Attended rotate_split(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                      int64_t heads, int64_t kv_heads) {
  const auto out = RotateSplit::apply(qkv.contiguous(), cos, sin, heads, kv_heads);
  return {out[0], out[1], out[2]};
}

}  // namespace accrete::pretraining
