#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "base/error.h"
#include "base/format.h"
#include "memory/csr.h"
#include "memory/cuda_tensors.h"
#include "memory/kernels/cpu.h"
#include "memory/sparse_rows.h"

namespace accrete {
namespace {

void check_gather(const at::Tensor& table, const at::Tensor& rows, const at::Tensor& weights) {
  if (table.dim() != 2 || rows.dim() != 2 || weights.sizes() != rows.sizes())
    throw Error(
        ErrorCode::kInvalidArgument,
        accrete::format("table {}, rows {}, weights {}: expected [R, d], [T, K], [T, K]",
                        accrete::joined(table.sizes(), "x"), accrete::joined(rows.sizes(), "x"),
                        accrete::joined(weights.sizes(), "x")));
  if (rows.scalar_type() != at::kInt)
    throw Error(ErrorCode::kInvalidArgument, "rows must be int32");
}

void check_row_numbers(const at::Tensor& rows, int64_t R) {
  const int32_t* row = rows.const_data_ptr<int32_t>();
  int32_t low = 0, high = -1;
  for (int64_t i = 0; i < rows.numel(); ++i) {
    low = std::min(low, row[i]);
    high = std::max(high, row[i]);
  }
  if (low < -1 || high >= R)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("row {} of a table of {}", low < -1 ? low : high, R));
}

// Tokens per task, so that a task moves about 64 KiB.
int64_t token_grain(int64_t per_token, int64_t d) {
  return std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, per_token * d));
}

// Calls f with the table's rows as their type has them.
template <typename F>
void with_rows(const at::Tensor& table, const F& f) {
  if (table.scalar_type() == at::kBFloat16)
    f(reinterpret_cast<const kernels::Bfloat16*>(table.const_data_ptr()));
  else
    f(table.const_data_ptr<float>());
}

at::Tensor gather_cpu(const at::Tensor& table, const at::Tensor& rows, const at::Tensor& weights) {
  check_row_numbers(rows, table.size(0));
  const int64_t T = rows.size(0), K = rows.size(1), d = table.size(1);
  auto out = at::empty({T, d}, at::kFloat);
  const int32_t* row = rows.const_data_ptr<int32_t>();
  const float* weight = weights.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  with_rows(table, [&](const auto* from) {
    at::parallel_for(0, T, token_grain(K, d), [&](int64_t begin, int64_t end) {
      kernels::weighted_sums(from, d, row + begin * K, weight + begin * K, end - begin, K,
                             to + begin * d);
    });
  });
  return out;
}

at::Tensor scatter_cpu(const at::Tensor& grad, const at::Tensor& rows, const at::Tensor& weights,
                       int64_t R) {
  const int64_t K = rows.size(1), d = grad.size(1);
  const RowGroups groups =
      group_by_row({rows.const_data_ptr<int32_t>(), static_cast<size_t>(rows.numel())}, R);
  // Per entry: the token whose gradient it takes, and how much of it.
  std::vector<int32_t> token(groups.order.size());
  std::vector<float> share(groups.order.size());
  const float* weight = weights.const_data_ptr<float>();
  auto out = at::empty({R, d}, grad.options());
  const float* from = grad.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  parallel_over_rows(groups.offsets, [&](int64_t begin, int64_t end) {
    for (int64_t i = groups.offsets[static_cast<size_t>(begin)];
         i < groups.offsets[static_cast<size_t>(end)]; ++i) {
      const int32_t entry = groups.order[static_cast<size_t>(i)];
      token[static_cast<size_t>(i)] = entry / static_cast<int32_t>(K);
      share[static_cast<size_t>(i)] = weight[entry];
    }
    kernels::weighted_sums_csr(from, d, groups.offsets.data(), token.data(), share.data(), begin,
                               end, to);
  });
  return out;
}

at::Tensor dots_cpu(const at::Tensor& table, const at::Tensor& rows, const at::Tensor& grad) {
  const int64_t T = rows.size(0), K = rows.size(1), d = table.size(1);
  auto out = at::empty({T, K}, grad.options());
  const int32_t* row = rows.const_data_ptr<int32_t>();
  const float* g = grad.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  with_rows(table, [&](const auto* from) {
    at::parallel_for(0, T, token_grain(K, d), [&](int64_t begin, int64_t end) {
      kernels::row_dots(from, d, row + begin * K, g + begin * d, end - begin, K, to + begin * K);
    });
  });
  return out;
}

// The rows that the entries name, [entries, d], and which entries those are.
struct NamedRows {
  at::Tensor entry;  // [E] int64, positions in rows.flatten()
  at::Tensor row;    // [E] int64
};
NamedRows named_rows(const at::Tensor& rows) {
  const auto flat = rows.reshape({-1}).to(at::kLong);
  const auto entry = at::nonzero(flat >= 0).squeeze(1);
  return {entry, flat.index_select(0, entry)};
}

at::Tensor scatter_reference(const at::Tensor& grad, const at::Tensor& rows,
                             const at::Tensor& weights, int64_t R) {
  const NamedRows named = named_rows(rows);
  const auto token = named.entry.div(rows.size(1), "floor");
  const auto share = weights.reshape({-1}).index_select(0, named.entry).unsqueeze(1);
  return at::zeros({R, grad.size(1)}, grad.options())
      .index_add(0, named.row, share * grad.index_select(0, token));
}

at::Tensor dots_reference(const at::Tensor& table, const at::Tensor& rows, const at::Tensor& grad) {
  const NamedRows named = named_rows(rows);
  const auto token = named.entry.div(rows.size(1), "floor");
  const auto dot = (table.index_select(0, named.row) * grad.index_select(0, token)).sum(1);
  return at::zeros({rows.numel()}, grad.options())
      .index_add(0, named.entry, dot)
      .view(rows.sizes());
}

bool kernels_apply(const at::Tensor& a, const at::Tensor& weights) {
  if (weights.scalar_type() != at::kFloat) return false;
  return cuda_kernels_apply(a) || (a.device().is_cpu() && a.scalar_type() == at::kFloat);
}

// A table on the CPU that is read as it is stored, and not trained.
bool is_stored(const at::Tensor& table) {
  return table.device().is_cpu() && table.scalar_type() == at::kBFloat16 && !table.requires_grad();
}

// By device, where kernels apply.
at::Tensor gather(const at::Tensor& table, const at::Tensor& rows, const at::Tensor& weights) {
#ifdef ACCRETE_CUDA
  if (table.is_cuda()) return gather_cuda(table, rows, weights);
#endif
  return gather_cpu(table, rows, weights);
}
at::Tensor scatter(const at::Tensor& grad, const at::Tensor& rows, const at::Tensor& weights,
                   int64_t R) {
#ifdef ACCRETE_CUDA
  if (grad.is_cuda()) return scatter_cuda(grad, rows, weights, R);
#endif
  return scatter_cpu(grad, rows, weights, R);
}
at::Tensor dots(const at::Tensor& table, const at::Tensor& rows, const at::Tensor& grad) {
#ifdef ACCRETE_CUDA
  if (table.is_cuda()) return dots_cuda(table, rows, grad);
#endif
  return dots_cpu(table, rows, grad);
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct WeightedGather : torch::autograd::Function<WeightedGather> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& table, const at::Tensor& rows,
                            const at::Tensor& weights) {
    ctx->save_for_backward({table, rows, weights});
    return gather(table, rows, weights);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &table = saved[0], &rows = saved[1], &weights = saved[2];
    if (!grads[0].defined()) return {at::Tensor(), at::Tensor(), at::Tensor()};
    const auto grad = grads[0].contiguous();
    // A gradient that is differentiated again has to be made of differentiable operations.
    const bool again = at::GradMode::is_enabled();
    at::Tensor grad_table, grad_weights;
    if (ctx->needs_input_grad(0))
      grad_table = again ? scatter_reference(grad, rows, weights, table.size(0))
                         : scatter(grad, rows, weights, table.size(0));
    if (ctx->needs_input_grad(2))
      grad_weights = again ? dots_reference(table.to(grad.scalar_type()), rows, grad)
                           : dots(table, rows, grad);
    return {grad_table, at::Tensor(), grad_weights};
  }
};

}  // namespace

at::Tensor weighted_gather(const at::Tensor& table, const at::Tensor& rows,
                           const at::Tensor& weights) {
  check_gather(table, rows, weights);
  if (!kernels_apply(table, weights) && !(is_stored(table) && weights.scalar_type() == at::kFloat))
    return weighted_gather_reference(table, rows, weights);
  return WeightedGather::apply(table.contiguous(), rows.contiguous(), weights.contiguous());
}

at::Tensor weighted_gather_reference(const at::Tensor& table, const at::Tensor& rows,
                                     const at::Tensor& weights) {
  check_gather(table, rows, weights);
  const NamedRows named = named_rows(rows);
  const auto token = named.entry.div(rows.size(1), "floor");
  const auto type = is_stored(table) ? weights.scalar_type() : table.scalar_type();
  const auto share = weights.reshape({-1}).index_select(0, named.entry).to(type);
  return at::zeros({rows.size(0), table.size(1)}, table.options().dtype(type).requires_grad(false))
      .index_add(0, token, share.unsqueeze(1) * table.index_select(0, named.row).to(type));
}

at::Tensor scatter_rows(const at::Tensor& grad, const at::Tensor& rows, const at::Tensor& weights,
                        int64_t R) {
  check_gather(grad, rows, weights);
  if (grad.size(0) != rows.size(0) || R < 0)
    throw Error(
        ErrorCode::kInvalidArgument,
        accrete::format("gradients of {} tokens, accesses of {}", grad.size(0), rows.size(0)));
  const at::NoGradGuard no_grad;
  if (!kernels_apply(grad, weights)) return scatter_reference(grad, rows, weights, R);
  return scatter(grad.contiguous(), rows.contiguous(), weights.contiguous(), R);
}

}  // namespace accrete
