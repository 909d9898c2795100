#include "learn/pretrain/functions.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "learn/pretrain/row_ops.h"

namespace accrete::pretraining {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Multiply : torch::autograd::Function<Multiply> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& /*w*/,
                            const at::Tensor& by, bool half_out) {
    const auto from = x.to(by.scalar_type());
    ctx->save_for_backward({from, by});
    ctx->saved_data["float"] = x.scalar_type() == at::kFloat;
    return half_out ? at::mm(from, by.t()) : product(from, by.t());
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto g = gradients[0].to(saved[0].scalar_type());
    at::Tensor dx;
    if (ctx->needs_input_grad(0))
      dx = ctx->saved_data["float"].toBool() ? product(g, saved[1]) : at::mm(g, saved[1]);
    return {dx, product(g.t(), saved[0]), at::Tensor(), at::Tensor()};
  }
};

struct Norm : torch::autograd::Function<Norm> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            double eps, bool half) {
    const Normed y = rms_norm(x, weight, eps, half);
    ctx->save_for_backward({x, weight, y.inverse});
    return y.out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &inverse = saved[2];
    const auto gradient = gradients[0].contiguous();
    return {rms_norm_backward(x, weight, inverse, gradient), at::mv((gradient * x).t(), inverse),
            at::Tensor(), at::Tensor()};
  }
};

struct Swiglu : torch::autograd::Function<Swiglu> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate_up) {
    ctx->save_for_backward({gate_up});
    return swiglu_rows(gate_up);
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    return {swiglu_rows_backward(ctx->get_saved_variables()[0], gradients[0].contiguous())};
  }
};

struct RotateSplit : torch::autograd::Function<RotateSplit> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& qkv, const at::Tensor& cos,
                               const at::Tensor& sin, int64_t heads, int64_t kv_heads) {
    const int64_t D = 2 * cos.size(1);
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["kv_heads"] = kv_heads;
    const auto part = [&](int64_t first, int64_t count) {
      return qkv.narrow(1, first * D, count * D);
    };
    const auto rotated = [&](const at::Tensor& x) {
      auto out = at::empty(x.sizes(), x.options());
      rotate_rows(x, cos, sin, 1, out);
      return out;
    };
    return {rotated(part(0, heads)), rotated(part(heads, kv_heads)),
            part(heads + kv_heads, kv_heads).clone(at::MemoryFormat::Contiguous)};
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const int64_t D = 2 * saved[0].size(1);
    const int64_t heads = ctx->saved_data["heads"].toInt();
    const int64_t kv_heads = ctx->saved_data["kv_heads"].toInt();
    auto out =
        at::empty({gradients[0].size(0), (heads + 2 * kv_heads) * D}, gradients[0].options());
    const auto part = [&](int64_t first, int64_t count) {
      return out.narrow(1, first * D, count * D);
    };
    rotate_rows(gradients[0].contiguous(), saved[0], saved[1], -1, part(0, heads));
    rotate_rows(gradients[1].contiguous(), saved[0], saved[1], -1, part(heads, kv_heads));
    part(heads + kv_heads, kv_heads).copy_(gradients[2]);
    return {out, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor multiply(const at::Tensor& x, const at::Tensor& w, const at::Tensor& half,
                    bool half_out) {
  // A function takes no undefined tensors.
  return Multiply::apply(x, w, half.defined() ? half : w.detach(), half_out);
}

at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool half) {
  return Norm::apply(x.contiguous(), weight, eps, half);
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
