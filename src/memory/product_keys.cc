#include "memory/product_keys.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/format.h"
#include "memory/cuda_tensors.h"
#include "memory/kernels/search.h"

namespace accrete {
namespace {

// Tokens whose scores are computed at once: few enough that the scores stay in the cache between
// the matrix product and the search.
constexpr int64_t kLookupChunk = 64;
// From so many half-keys on, telling the best of them from codes is the faster.
constexpr int64_t kCodedFrom = 128;

void check_shape(const at::Tensor& tensor, const char* name, std::vector<int64_t> shape) {
  if (!tensor.defined() || tensor.sizes() != at::IntArrayRef(shape))
    throw Error(ErrorCode::kFormat,
                accrete::format("product keys: `{}` has shape [{}], its options ask for [{}]", name,
                                tensor.defined()
                                    ? accrete::format("{}", accrete::joined(tensor.sizes(), ", "))
                                    : "none",
                                accrete::joined(shape, ", ")));
}

at::Tensor to_float(const at::Tensor& tensor) {
  return tensor.detach().to(at::kFloat).contiguous();
}

void refuse_tokens(int64_t bad_tokens, int64_t tokens) {
  if (bad_tokens > 0)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} of {} hidden states hold NaN or infinity", bad_tokens, tokens),
                "is the model damaged, or its number type too narrow?");
}

// Throws kFormat on options that no product keys can have.
void check_options(const ProductKeyOptions& o) {
  const auto fail = [](const std::string& what) {
    throw Error(ErrorCode::kFormat, "product keys: " + what);
  };
  if (o.heads < 1) fail(accrete::format("{} heads", o.heads));
  if (o.half_keys < 2) fail(accrete::format("{} half-keys, at least 2 are needed", o.half_keys));
  if (o.half_keys > (1 << 16) ||
      o.heads > std::numeric_limits<int32_t>::max() / (o.half_keys * o.half_keys))
    fail(accrete::format("{} heads of {}^2 slots are more than 2^31", o.heads, o.half_keys));
  if (o.top_k < 1 || o.top_k > std::min(o.half_keys, kernels::kMaxTopK))
    fail(accrete::format("top_k {} must be in [1, {}]", o.top_k,
                         std::min(o.half_keys, kernels::kMaxTopK)));
  if (o.query_width < 2 || o.query_width % 2 != 0)
    fail(accrete::format("query width {} must be even and positive", o.query_width));
}

}  // namespace

ProductKeys ProductKeys::from_tensors(const ProductKeyOptions& options, at::Tensor mean,
                                      at::Tensor projection, at::Tensor keys, at::Tensor bias) {
  check_options(options);
  const int64_t H = options.heads, n = options.half_keys, w = options.query_width;
  if (!mean.defined() || mean.dim() != 1)
    throw Error(ErrorCode::kFormat, "product keys: `mean` must have one dimension");
  check_shape(projection, "projection", {mean.size(0), H * w});
  check_shape(keys, "keys", {H, 2, n, w / 2});
  check_shape(bias, "bias", {H, 2, n});
  ProductKeys out;
  out.options_ = options;
  out.mean_ = to_float(mean);
  out.projection_ = to_float(projection);
  out.keys_ = to_float(keys);
  out.bias_ = to_float(bias);
  out.offset_ =
      at::mv(out.projection_.t().to(at::kDouble), out.mean_.to(at::kDouble)).to(at::kFloat);
  if (n >= kCodedFrom && out.keys_.is_cpu()) {
    auto codes = kernels::key_codes(out.keys_.const_data_ptr<float>(),
                                    out.bias_.const_data_ptr<float>(), 2 * H, n, w / 2);
    if (codes.defined()) out.codes_ = std::make_shared<kernels::KeyCodes>(std::move(codes));
  }
  return out;
}

at::Tensor ProductKeys::queries(const at::Tensor& x) const {
  const at::NoGradGuard no_grad;
  const int64_t w = options_.query_width;
  return at::addmm(offset_.narrow(0, 0, w).neg().unsqueeze(0), x.detach().to(at::kFloat),
                   projection_.narrow(1, 0, w));
}

Accesses ProductKeys::lookup(const at::Tensor& x, const at::Tensor& mask) const {
  check_input(x, mask);
  const at::NoGradGuard no_grad;
#ifdef ACCRETE_CUDA
  if (x.is_cuda() && cuda_kernels_apply(keys_)) return lookup_cuda(x.detach(), mask);
#endif
  if (!x.device().is_cpu()) return lookup_reference(x, mask.defined() ? mask.to(x.device()) : mask);
  const int64_t T = x.size(0), H = options_.heads, n = options_.half_keys;
  const int64_t w = options_.query_width, K = accesses_per_token();
  const auto input = x.detach();
  const auto kept = mask.defined() ? mask.contiguous() : at::Tensor();
  const bool* keep = kept.defined() ? kept.const_data_ptr<bool>() : nullptr;
  const auto offset = offset_.neg().unsqueeze(0);
  const auto keys = keys_.view({H * 2, n, w / 2}).transpose(1, 2);
  const auto bias = bias_.view({H * 2, 1, n});
  const kernels::KeyCodes* codes = codes_.get();
  Accesses out{at::empty({T, K}, at::kInt), at::empty({T, K}, at::kFloat)};
  int32_t* slots = out.slots.mutable_data_ptr<int32_t>();
  float* weights = out.weights.mutable_data_ptr<float>();
  std::atomic<int64_t> bad_tokens = 0;
  // The same chunks for every number of threads, so that the products round alike.
  at::parallel_for(0, (T + kLookupChunk - 1) / kLookupChunk, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad_here;  // the guard outside holds for its own thread only
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t t = chunk * kLookupChunk, count = std::min(kLookupChunk, T - t);
      const auto q = at::addmm(offset, input.narrow(0, t, count).to(at::kFloat), projection_);
      const kernels::ProductShape shape{count, H, n, options_.top_k};
      const bool* keep_here = keep == nullptr ? nullptr : keep + t;
      if (codes) {
        bad_tokens += kernels::product_top_k(
            *codes, keys_.const_data_ptr<float>(), bias_.const_data_ptr<float>(),
            q.const_data_ptr<float>(), shape, keep_here, slots + t * K, weights + t * K);
        continue;
      }
      const auto scores =
          at::baddbmm(bias, q.view({count, H * 2, w / 2}).permute({1, 0, 2}), keys).contiguous();
      bad_tokens += kernels::product_top_k(scores.const_data_ptr<float>(), shape, keep_here,
                                           slots + t * K, weights + t * K);
    }
  });
  refuse_tokens(bad_tokens, T);
  return out;
}

#ifdef ACCRETE_CUDA
Accesses ProductKeys::lookup_cuda(const at::Tensor& x, const at::Tensor& mask) const {
  constexpr int64_t kTokens = 1 << 15;  // at once: their scores take 8 KB each with 4 heads of 256
  const int64_t T = x.size(0), H = options_.heads, n = options_.half_keys, w = options_.query_width;
  const auto keys = keys_.view({H * 2, n, w / 2}).transpose(1, 2);
  const auto bias = bias_.view({H * 2, 1, n});
  const auto offset = offset_.neg().unsqueeze(0);
  const auto kept = mask.defined() ? mask.to(x.device()) : at::Tensor();
  std::vector<Accesses> parts;
  int64_t bad = 0;
  for (int64_t t = 0; t < T || parts.empty(); t += kTokens) {
    const int64_t count = std::min(kTokens, T - t);
    const auto q = at::addmm(offset, x.narrow(0, t, count).to(at::kFloat), projection_);
    const auto scores =
        at::baddbmm(bias, q.view({count, H * 2, w / 2}).permute({1, 0, 2}), keys).contiguous();
    const CudaLookup found = product_top_k_cuda(
        scores, options_.top_k, kept.defined() ? kept.narrow(0, t, count) : at::Tensor());
    bad += found.bad;
    parts.push_back({found.slots, found.weights});
  }
  refuse_tokens(bad, T);
  return parts.size() == 1 ? parts.front() : concat(parts);
}
#endif

Accesses ProductKeys::lookup_reference(const at::Tensor& x, const at::Tensor& mask) const {
  check_input(x, mask);
  const at::NoGradGuard no_grad;
  const int64_t T = x.size(0), H = options_.heads, n = options_.half_keys, k = options_.top_k;
  const auto centred = x.to(at::kFloat) - mean_;
  const auto q = at::matmul(centred, projection_).view({T, H, 2, options_.query_width / 2});
  const auto scores = at::einsum("thsw,hsnw->thsn", {q, keys_}) + bias_;  // [T, H, 2, n]
  // Stable sorts: equal scores stay in the order of their ids.
  const auto [sorted, order] = at::sort(scores, /*stable=*/true, -1, /*descending=*/true);
  const auto best = sorted.narrow(-1, 0, k), index = order.narrow(-1, 0, k);
  const auto sums = (best.select(2, 0).unsqueeze(-1) + best.select(2, 1).unsqueeze(-2)).flatten(2);
  const auto ids =
      (index.select(2, 0).unsqueeze(-1) * n + index.select(2, 1).unsqueeze(-2)).flatten(2);
  const auto [by_id, id_order] = ids.sort(-1);
  const auto [top, top_order] =
      at::sort(sums.gather(-1, id_order), /*stable=*/true, -1, /*descending=*/true);
  const auto heads = at::arange(H, ids.options()).view({1, H, 1}) * (n * n);
  auto slots = by_id.gather(-1, top_order).narrow(-1, 0, k) + heads;
  auto weights = top.narrow(-1, 0, k).softmax(-1) / std::sqrt(static_cast<double>(H));
  if (mask.defined()) {
    slots = slots.masked_fill(mask.logical_not().view({T, 1, 1}), -1);
    weights = weights.masked_fill(mask.logical_not().view({T, 1, 1}), 0);
  }
  return {slots.to(at::kInt).reshape({T, H * k}), weights.reshape({T, H * k})};
}

void ProductKeys::check_input(const at::Tensor& x, const at::Tensor& mask) const {
  if (!mean_.defined()) throw Error(ErrorCode::kInternal, "product keys were never made");
  if (x.dim() != 2 || x.size(1) != width() || !at::isFloatingType(x.scalar_type()))
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("lookup of hidden states [{}], expected floats [T, {}]",
                                accrete::joined(x.sizes(), ", "), width()),
                "do the keys belong to this model?");
  if (mask.defined() &&
      (mask.dim() != 1 || mask.size(0) != x.size(0) || mask.scalar_type() != at::kBool))
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("a mask [{}] for {} tokens, expected booleans [T]",
                                accrete::joined(mask.sizes(), ", "), x.size(0)));
}

std::vector<ProductKeys::NamedTensor> ProductKeys::tensors() const {
  return {{"mean", mean_}, {"projection", projection_}, {"keys", keys_}, {"bias", bias_}};
}

ProductKeys ProductKeys::to(at::Device device) const {
  ProductKeys out = *this;
  out.mean_ = mean_.to(device);
  out.projection_ = projection_.to(device);
  out.keys_ = keys_.to(device);
  out.bias_ = bias_.to(device);
  out.offset_ = offset_.to(device);
  return out;
}

}  // namespace accrete
