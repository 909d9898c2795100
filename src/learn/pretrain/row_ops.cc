#include "learn/pretrain/row_ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "memory/cuda_tensors.h"
#include "model/kernels/rows.h"
#ifdef ACCRETE_CUDA
#include "model/kernels/cuda_rows.h"
#endif

namespace accrete::pretraining {
namespace {

// Rows per task, so that a task moves about 256 KiB.
int64_t rows_a_task(int64_t width) {
  return std::max<int64_t>(1, (1 << 16) / width);
}

const float* in(const at::Tensor& t) {
  return t.const_data_ptr<float>();
}
float* out_of(const at::Tensor& t) {
  return t.mutable_data_ptr<float>();
}

}  // namespace

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (a.is_cuda() && a.scalar_type() != at::kFloat) return at::mm(a, b, at::kFloat);
  return at::mm(a, b).to(at::kFloat);
}

Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool half) {
  const int64_t T = x.size(0), d = x.size(1);
  Normed y{at::empty({T, d}, x.options().dtype(half ? at::kBFloat16 : at::kFloat)),
           at::empty({T}, x.options())};
  const float *from = in(x), *w = in(weight);
  float* scale = out_of(y.inverse);
#ifdef ACCRETE_CUDA
  if (x.is_cuda()) {
    check_cuda(
        kernels::cuda::rms_norm_rows(cuda_type(y.out), from, w, T, d, static_cast<float>(eps),
                                     y.out.mutable_data_ptr(), scale, cuda_stream(x)),
        "norm");
    return y;
  }
#endif
  float* to = out_of(y.out);
  at::parallel_for(0, T, rows_a_task(d), [&](int64_t begin, int64_t end) {
    kernels::rms_norm_rows(from + begin * d, w, end - begin, d, static_cast<float>(eps),
                           to + begin * d, scale + begin);
  });
  return y;
}

at::Tensor rms_norm_backward(const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& inverse, const at::Tensor& gradient) {
  const int64_t T = x.size(0), d = x.size(1);
  const float *from = in(x), *w = in(weight), *scale = in(inverse);
#ifdef ACCRETE_CUDA
  if (x.is_cuda()) {
    auto dx = at::empty_like(x);
    check_cuda(kernels::cuda::rms_norm_rows_backward(cuda_type(gradient), from, w, scale,
                                                     gradient.const_data_ptr(), T, d, out_of(dx),
                                                     cuda_stream(x)),
               "gradient of a norm");
    return dx;
  }
#endif
  auto dx = at::zeros_like(x);
  const float* g = in(gradient);
  float* to = out_of(dx);
  at::parallel_for(0, T, rows_a_task(d), [&](int64_t begin, int64_t end) {
    kernels::rms_norm_rows_backward(from + begin * d, w, scale + begin, g + begin * d, end - begin,
                                    d, to + begin * d);
  });
  return dx;
}

at::Tensor swiglu_rows(const at::Tensor& gate_up) {
  const int64_t T = gate_up.size(0), f = gate_up.size(1) / 2;
  auto y = at::empty({T, f}, gate_up.options());
#ifdef ACCRETE_CUDA
  if (gate_up.is_cuda()) {
    check_cuda(kernels::cuda::swiglu_rows(cuda_type(y), gate_up.const_data_ptr(), T, f,
                                          y.mutable_data_ptr(), cuda_stream(y)),
               "swiglu");
    return y;
  }
#endif
  const float* from = in(gate_up);
  float* to = out_of(y);
  at::parallel_for(0, T, rows_a_task(3 * f), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      kernels::swiglu(from + 2 * t * f, from + (2 * t + 1) * f, f, to + t * f);
  });
  return y;
}

at::Tensor swiglu_rows_backward(const at::Tensor& gate_up, const at::Tensor& gradient) {
  const int64_t T = gradient.size(0), f = gradient.size(1);
#ifdef ACCRETE_CUDA
  if (gate_up.is_cuda()) {
    auto y = at::empty_like(gate_up);
    check_cuda(kernels::cuda::swiglu_rows_backward(cuda_type(y), gate_up.const_data_ptr(),
                                                   gradient.const_data_ptr(), T, f,
                                                   y.mutable_data_ptr(), cuda_stream(y)),
               "gradient of swiglu");
    return y;
  }
#endif
  auto y = gate_up.clone();
  const float* g = in(gradient);
  float* to = out_of(y);
  at::parallel_for(0, T, rows_a_task(3 * f), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      kernels::swiglu_backward(g + t * f, f, to + 2 * t * f, to + (2 * t + 1) * f);
  });
  return y;
}

void rotate_rows(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, float direction,
                 const at::Tensor& out) {
  const int64_t count = x.size(0), positions = cos.size(0), half = cos.size(1);
  const int64_t heads = x.size(1) / (2 * half);
  const float *c = in(cos), *s = in(sin);
#ifdef ACCRETE_CUDA
  if (x.is_cuda()) {
    check_cuda(kernels::cuda::rotate_rows(cuda_type(x), x.const_data_ptr(), x.stride(0), count,
                                          heads, 2 * half, c, s, positions, direction,
                                          out.mutable_data_ptr(), out.stride(0), cuda_stream(x)),
               "rotation");
    return;
  }
#endif
  out.copy_(x);
  const int64_t stride = out.stride(0);
  float* row = out_of(out);
  at::parallel_for(0, count, rows_a_task(stride), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t at = (r % positions) * half;
      kernels::rotate_row(row + r * stride, heads, 2 * half, c + at, s + at, direction);
    }
  });
}

at::Tensor cross_entropy_rows(const at::Tensor& logits, const at::Tensor& labels, float share) {
  const int64_t T = logits.size(0), V = logits.size(1);
  auto losses = at::empty({T}, logits.options().dtype(at::kFloat));
  const int64_t* label = labels.const_data_ptr<int64_t>();
  float* loss = out_of(losses);
#ifdef ACCRETE_CUDA
  if (logits.is_cuda()) {
    check_cuda(kernels::cuda::cross_entropy_rows(cuda_type(logits), logits.mutable_data_ptr(), T, V,
                                                 label, share, loss, cuda_stream(logits)),
               "loss");
    return losses;
  }
#endif
  float* row = out_of(logits);
  at::parallel_for(0, T, 8, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      loss[t] = kernels::cross_entropy(row + t * V, V, label[t], share);
  });
  return losses;
}

void row_adam(const at::Tensor& gradients, const at::Tensor& slots, const RowAdamStep& step,
              const at::Tensor& values, const at::Tensor& first, const at::Tensor& second,
              const at::Tensor& steps) {
  const int64_t R = slots.size(0), d = values.size(1);
  const float* gradient = in(gradients);
  const int64_t* slot_of = slots.const_data_ptr<int64_t>();
  float *value = out_of(values), *m_of = out_of(first), *s_of = out_of(second);
  int32_t* taken = steps.mutable_data_ptr<int32_t>();
  const auto epsilon = static_cast<float>(step.epsilon), factor = static_cast<float>(step.scale);
#ifdef ACCRETE_CUDA
  if (values.is_cuda()) {
    check_cuda(
        kernels::cuda::row_adam(gradient, slot_of, R, d, step.rate, step.beta1, step.beta2, epsilon,
                                factor, value, m_of, s_of, taken, cuda_stream(values)),
        "step of the rows");
    return;
  }
#endif
  const auto b1 = static_cast<float>(step.beta1), b2 = static_cast<float>(step.beta2);
  at::parallel_for(0, R, std::max<int64_t>(1, (1 << 14) / d), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t slot = slot_of[r];
      const auto t = static_cast<double>(++taken[slot]);
      const auto size = static_cast<float>(step.rate / (1 - std::pow(step.beta1, t)));
      const auto root = static_cast<float>(1 / std::sqrt(1 - std::pow(step.beta2, t)));
      const float* g = gradient + r * d;
      float *v = value + slot * d, *m = m_of + slot * d, *s = s_of + slot * d;
      for (int64_t i = 0; i < d; ++i) {
        const float gi = factor * g[i];
        m[i] = b1 * m[i] + (1 - b1) * gi;
        s[i] = b2 * s[i] + (1 - b2) * gi * gi;
        v[i] -= size * m[i] / (std::sqrt(s[i]) * root + epsilon);
      }
    }
  });
}

}  // namespace accrete::pretraining
