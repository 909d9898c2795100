#include "model/step_pass.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "base/error.h"
#include "base/format.h"
#include "model/coded_matrix.h"
#include "model/fused.h"
#include "model/kernels/dense.h"
#include "model/kernels/rows.h"
#include "model/packed_pass.h"

namespace accrete {
namespace {

constexpr int64_t kTask = 1 << 16;  // multiplications: some ten microseconds

// Room for one more position; grows as Transformer's own cache does.
void make_room(at::Tensor& store, int64_t past, int64_t kv_heads, int64_t head_dim) {
  if (store.defined() && store.size(2) > past) return;
  const int64_t need = past + 1;
  auto bigger = at::empty({1, kv_heads, need + std::max<int64_t>(64, need / 2), head_dim},
                          at::TensorOptions().dtype(at::kFloat));
  if (past > 0) bigger.narrow(2, 0, past).copy_(store.narrow(2, 0, past));
  store = bigger;
}

}  // namespace

bool StepPass::supports(const Transformer& net) {
  return PackedPass::supports(net);
}

StepPass::StepPass(const Transformer& net) : net_(net) {
  if (!supports(net))
    throw Error(ErrorCode::kUnsupported, "texts are written side by side in float32 on the CPU",
                "leave out --device and --dtype");
  const ModelConfig& c = net.config();
  no_bias_ =
      at::zeros({std::max({c.vocab_size, c.ffn_width, c.width, c.heads * c.head_dim})}, at::kFloat);
}

at::Tensor StepPass::product(const at::Tensor& x, const Linear& l) {
  if (l.coded != nullptr) {
    auto out = at::empty({x.size(0), l.weight.size(0)}, x.options());
    l.coded->each_product_to(out, x);
    if (l.bias.defined()) out.add_(l.bias);
    return out;
  }
  const int64_t n = x.size(0), columns = l.weight.size(1), rows = l.weight.size(0);
  auto out = at::empty({n, rows}, x.options());
  const auto weight = l.weight.contiguous();
  const float* w = weight.const_data_ptr<float>();
  const float* bias = (l.bias.defined() ? l.bias : no_bias_).const_data_ptr<float>();
  const float* from = x.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(0, rows, std::max<int64_t>(1, kTask / (n * columns)),
                   [&](int64_t begin, int64_t end) {
                     kernels::dense_product(from, n, columns, w, bias, rows, begin, end, to);
                   });
  return out;
}

void StepPass::attend(size_t block, std::span<const Row> rows, const at::Tensor& q,
                      const at::Tensor& k, const at::Tensor& v, at::Tensor& out) {
  const ModelConfig& c = net_.config();
  const int64_t D = c.head_dim, H = c.heads, KV = c.kv_heads, G = H / KV;
  const auto N = static_cast<int64_t>(rows.size());
  int64_t longest = 0, keys = 0;
  for (const Row& row : rows) {
    KvCache& cache = *row.cache;
    if (cache.k.size() < static_cast<size_t>(c.blocks)) {
      cache.k.resize(static_cast<size_t>(c.blocks));
      cache.v.resize(static_cast<size_t>(c.blocks));
    }
    make_room(cache.k[block], cache.length, KV, D);
    make_room(cache.v[block], cache.length, KV, D);
    longest = std::max(longest, cache.length + 1);
    keys += cache.length + 1;
  }
  if (!probabilities_.defined() || probabilities_.numel() < N * H * longest)
    probabilities_ = at::empty({N * H * (longest + 64)}, at::kFloat);
  const float *cos = net_.rope_cos_.const_data_ptr<float>(),
              *sin = net_.rope_sin_.const_data_ptr<float>();
  float *queries = q.mutable_data_ptr<float>(), *own = k.mutable_data_ptr<float>();
  const float* values = v.const_data_ptr<float>();
  float *p = probabilities_.mutable_data_ptr<float>(), *to = out.mutable_data_ptr<float>();
  const int64_t each = std::max<int64_t>(1, keys / N * D * H);
  at::parallel_for(0, N, std::max<int64_t>(1, kTask / each), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const KvCache& cache = *rows[static_cast<size_t>(r)].cache;
      const int64_t at = cache.length, S = at + 1;
      float* query = queries + r * H * D;
      float* key = own + r * KV * D;
      kernels::rotate_row(query, H, D, cos + at * (D / 2), sin + at * (D / 2), 1);
      kernels::rotate_row(key, KV, D, cos + at * (D / 2), sin + at * (D / 2), 1);
      const at::Tensor &all_k = cache.k[block], &all_v = cache.v[block];
      float* store_k = all_k.mutable_data_ptr<float>();
      float* store_v = all_v.mutable_data_ptr<float>();
      for (int64_t h = 0; h < KV; ++h) {
        float* head_k = store_k + h * all_k.stride(1);
        float* head_v = store_v + h * all_v.stride(1);
        std::copy_n(key + h * D, D, head_k + at * D);
        std::copy_n(values + (r * KV + h) * D, D, head_v + at * D);
        const kernels::KeySegment segment{head_k, head_v, S, D};
        kernels::attend({1, G, D, 1, H * D, H * D}, query + h * G * D, &segment, nullptr,
                        p + (r * H + h * G) * longest, to + r * H * D + h * G * D);
      }
    }
  });
}

at::Tensor StepPass::run(std::span<const Row> rows, const Add* add) {
  const ModelConfig& c = net_.config();
  const auto N = static_cast<int64_t>(rows.size());
  auto ids = at::empty({N}, at::kLong);
  for (int64_t r = 0; r < N; ++r) {
    const Row& row = rows[static_cast<size_t>(r)];
    if (row.cache->length >= c.max_positions)
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("the model has {} positions", c.max_positions),
                  "shorten the text");
    ids.mutable_data_ptr<int64_t>()[r] = row.token;
  }
  auto h = net_.embed(ids);
  for (size_t i = 0; i < net_.blocks_.size(); ++i) {
    const Transformer::Block& b = net_.blocks_[i];
    const auto x = rms_norm(h, b.attention_norm, c.norm_eps);
    auto q = product(x, b.q), k = product(x, b.k);
    const auto v = product(x, b.v);
    if (b.q_norm.defined()) {
      q = rms_norm(q.view({N, c.heads, c.head_dim}), b.q_norm, c.norm_eps);
      k = rms_norm(k.view({N, c.kv_heads, c.head_dim}), b.k_norm, c.norm_eps);
    }
    auto attended = at::empty({N, c.heads * c.head_dim}, h.options());
    attend(i, rows, q, k, v, attended);
    h = h + product(attended, b.o);
    const auto in = rms_norm(h, b.ffn_norm, c.norm_eps);
    auto y = b.memory ? (*b.memory)(in.view({N, 1, c.width})).view({N, c.width})
                      : product(fused_swiglu(product(in, b.gate), product(in, b.up)), b.down);
    if (add != nullptr) (*add)(static_cast<int64_t>(i), in, y);
    h = h + y;
  }
  for (const Row& row : rows) row.cache->length += 1;
  Linear head;
  head.weight = net_.head();
  head.coded = net_.coded_head_;
  return product(rms_norm(h, net_.final_norm_, c.norm_eps), head);
}

}  // namespace accrete
