#include "model/packed_pass.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "base/cpu.h"
#include "base/error.h"
#include "base/format.h"
#include "model/coded_matrix.h"
#include "model/kernels/rows.h"
#include "model/weight_pages.h"

namespace accrete {
namespace {

float* data(const at::Tensor& t) {
  return t.defined() ? t.mutable_data_ptr<float>() : nullptr;
}

// Of more rows than this products in bfloat16 are faster than by codes (SmolLM2, two threads).
constexpr int64_t kFewLow = 16;
// Where bfloat16 may be taken: whether it is.
bool in_low_precision(bool coded, int64_t rows) {
  return !coded || rows > kFewLow;
}

Linear without_bias(at::Tensor weight, std::shared_ptr<const CodedMatrix> coded) {
  Linear l;
  l.weight = std::move(weight);
  l.coded = std::move(coded);
  return l;
}

// out = x w^T (+ bias), or out = to + x w^T (+ bias).
void multiply_into(at::Tensor& out, const at::Tensor& x, const Linear& l) {
  if (l.coded != nullptr && l.coded->applies(x)) {
    l.coded->product_to(out, x);
    if (l.bias.defined()) out.add_(l.bias);
  } else if (l.bias.defined()) {
    at::addmm_out(out, l.bias, x, l.weight.t());
  } else {
    at::mm_out(out, x, l.weight.t());
  }
}
void multiply_add(at::Tensor& out, const at::Tensor& to, const at::Tensor& x, const Linear& l) {
  if (l.coded != nullptr && l.coded->applies(x)) {
    l.coded->product_to(out, x);
    out.add_(to);
  } else {
    at::addmm_out(out, to, x, l.weight.t());
  }
  if (l.bias.defined()) out.add_(l.bias);
}
// out = y w, or out += y w by way of `scratch`, of as many elements as `out` at least.
void multiply_back(at::Tensor& out, const at::Tensor& y, const Linear& l) {
  if (l.coded != nullptr && l.coded->applies(y))
    l.coded->back_product_to(out, y);
  else
    at::mm_out(out, y, l.weight);
}
void add_multiplied_back(at::Tensor& out, const at::Tensor& y, const Linear& l,
                         const at::Tensor& scratch) {
  if (l.coded != nullptr && l.coded->applies(y)) {
    auto part = scratch.view({-1}).narrow(0, 0, out.numel()).view(out.sizes());
    l.coded->back_product_to(part, y);
    out.add_(part);
  } else {
    out.addmm_(y, l.weight);
  }
}

// Elements per task: some ten microseconds of work. On a machine with other work to do it costs
// more than that to wake a thread.
constexpr int64_t kElements = 1 << 16;
int64_t grain(int64_t width) {
  return std::max<int64_t>(1, kElements / std::max<int64_t>(1, width));
}
constexpr int64_t kSequences = 8;  // the same for attention

void norm_rows(const at::Tensor& x, const at::Tensor& weight, double eps, const at::Tensor& out,
               const at::Tensor& inverse) {
  const int64_t d = x.size(1);
  const float *from = data(x), *w = weight.const_data_ptr<float>();
  float *to = data(out), *scale = data(inverse);
  at::parallel_for(0, x.size(0), grain(d), [&](int64_t begin, int64_t end) {
    kernels::rms_norm_rows(from + begin * d, w, end - begin, d, static_cast<float>(eps),
                           to + begin * d, scale == nullptr ? nullptr : scale + begin);
  });
}

void norm_backward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& inverse,
                   const at::Tensor& gradient, const at::Tensor& dx) {
  const int64_t d = x.size(1);
  const float *from = data(x), *w = weight.const_data_ptr<float>(), *g = data(gradient);
  const float* scale = data(inverse);
  float* to = data(dx);
  at::parallel_for(0, x.size(0), grain(d), [&](int64_t begin, int64_t end) {
    kernels::rms_norm_rows_backward(from + begin * d, w, scale + begin, g + begin * d, end - begin,
                                    d, to + begin * d);
  });
}

}  // namespace

void PackedSequences::add(int64_t tokens, std::vector<Past> continued) {
  begin.push_back(begin.back() + tokens);
  past.push_back(std::move(continued));
}

bool PackedPass::supports(const Transformer& net) {
  // A low-rank branch or a weight that trains wants gradients of its own.
  const auto plain = [](const Linear& l) { return !l.a.defined() && !l.weight.requires_grad(); };
  return net.device().is_cpu() && net.dtype() == at::kFloat &&
         std::all_of(net.blocks_.begin(), net.blocks_.end(), [&](const auto& b) {
           return plain(b.q) && plain(b.k) && plain(b.v) && plain(b.o) &&
                  (b.memory ? !b.memory->values.requires_grad()
                            : plain(b.gate) && plain(b.up) && plain(b.down));
         });
}

PackedPass::PackedPass(const Transformer& net)
    : net_(net), coded_(std::all_of(net.blocks_.begin(), net.blocks_.end(), [](const auto& b) {
        return b.q.coded != nullptr;
      })) {
  if (!supports(net))
    throw Error(ErrorCode::kUnsupported, "packed passes are for float32 on the CPU");
}

bool PackedPass::fast_low_precision(const Transformer& net) {
  constexpr int64_t kNarrow = 256;
  return supports(net) && net.config().width >= kNarrow && has_bfloat16_products();
}

bool PackedPass::low_precision_pays(const Transformer& net, int64_t tokens) {
  constexpr int64_t kMany = 1024;
  return tokens >= kMany && fast_low_precision(net);
}

at::Tensor PackedPass::low_copy(const Linear& l) const {
  if (l.coded != nullptr) return l.coded->low_values();
  auto copy = l.weight.to(at::kBFloat16).contiguous();
  forget_weight(net_, l.weight);
  return copy;
}

const PackedPass::LowWeights& PackedPass::low_weights(int64_t block) {
  if (low_.empty()) low_.resize(net_.blocks_.size());
  LowWeights& low = low_[static_cast<size_t>(block)];
  if (low.qkv.defined()) return low;
  const Transformer::Block& b = net_.blocks_[static_cast<size_t>(block)];
  const auto join = [this](std::initializer_list<const Linear*> parts) {
    std::vector<at::Tensor> all;
    for (const Linear* part : parts) all.push_back(low_copy(*part));
    return all.size() == 1 ? all.front() : at::cat(all);
  };
  low.qkv = join({&b.q, &b.k, &b.v});
  low.o = join({&b.o});
  low.gate_up = join({&b.gate, &b.up});
  low.down = join({&b.down});
  return low;
}

at::Tensor PackedPass::low_product(std::initializer_list<at::Tensor> x, const at::Tensor& w) {
  // oneDNN keeps code and memory for every number of rows that it meets: of few numbers, few.
  constexpr int64_t kRows = 32;
  const int64_t N = x.begin()->size(0), padded = (N + kRows - 1) / kRows * kRows;
  const auto room = [padded](at::Tensor& buffer, int64_t columns) {
    if (!buffer.defined() || buffer.numel() < padded * columns)
      buffer = at::zeros({padded * columns}, at::kBFloat16);
    return buffer.narrow(0, 0, padded * columns).view({padded, columns});
  };
  auto in = room(low_in_, w.size(0)), out = room(low_out_, w.size(1));
  int64_t at = 0;
  for (const at::Tensor& part : x) {
    in.narrow(0, 0, N).narrow(1, at, part.size(1)).copy_(part);
    at += part.size(1);
  }
  return at::mm_out(out, in, w).narrow(0, 0, N);
}

void PackedPass::prepare(int64_t rows, int64_t blocks, int64_t probabilities) {
  const ModelConfig& c = net_.config();
  const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  const auto make = [](int64_t n, int64_t width) { return at::empty({n, width}, at::kFloat); };
  if (rows > capacity_) {
    saved_.clear();
    capacity_ = rows;
    x_ = make(rows, std::max(c.width, q));
    y_ = make(rows, q);
    activated_ = make(rows, c.ffn_width);
    dq_ = make(rows, q);
    dk_ = make(rows, kv);
    dv_ = make(rows, kv);
    last_ = make(rows, c.width);
  }
  if (probabilities > probability_capacity_) {
    probability_capacity_ = probabilities + probabilities / 4;
    for (Saved& saved : saved_) saved.probabilities = make(1, probability_capacity_);
  }
  while (static_cast<int64_t>(saved_.size()) < blocks) {
    Saved s;
    s.h = make(capacity_, c.width);
    s.middle = make(capacity_, c.width);
    s.h_inverse = make(capacity_, 1);
    s.middle_inverse = make(capacity_, 1);
    s.q = make(capacity_, q);
    s.k = make(capacity_, kv);
    s.v = make(capacity_, kv);
    if (c.head_norms) {
      s.raw_q = make(capacity_, q);
      s.raw_k = make(capacity_, kv);
      s.q_inverse = make(capacity_, c.heads);
      s.k_inverse = make(capacity_, c.kv_heads);
    }
    s.gate = make(capacity_, c.ffn_width);
    s.up = make(capacity_, c.ffn_width);
    s.probabilities = make(1, probability_capacity_);
    saved_.push_back(std::move(s));
  }
}

PackedPass::Saved PackedPass::views(size_t slot, int64_t rows) const {
  const Saved& s = saved_[slot];
  const auto part = [rows](const at::Tensor& t) { return t.defined() ? t.narrow(0, 0, rows) : t; };
  return {part(s.h),     part(s.middle),    part(s.h_inverse), part(s.middle_inverse),
          part(s.q),     part(s.k),         part(s.v),         part(s.raw_q),
          part(s.raw_k), part(s.q_inverse), part(s.k_inverse), part(s.gate),
          part(s.up),    s.probabilities};
}

// Each head's part of `rows` [N, heads D] is kept in `raw` and normed in place.
void PackedPass::norm_heads(const at::Tensor& weight, const at::Tensor& rows, const at::Tensor& raw,
                            const at::Tensor& inverse) const {
  const int64_t D = net_.config().head_dim;
  raw.copy_(rows);
  norm_rows(raw.view({-1, D}), weight, net_.config().norm_eps, rows.view({-1, D}), inverse);
}

// `gradient` [N, heads D] of what norm_heads gave becomes that of what it was given.
void PackedPass::norm_heads_backward(const at::Tensor& weight, const at::Tensor& raw,
                                     const at::Tensor& inverse, at::Tensor& gradient,
                                     const at::Tensor& scratch) const {
  const int64_t D = net_.config().head_dim;
  auto after = scratch.view({-1}).narrow(0, 0, gradient.numel()).view({-1, D});
  after.copy_(gradient.view({-1, D}));
  gradient.zero_();
  norm_backward(raw.view({-1, D}), weight, inverse, after, gradient.view({-1, D}));
}

// The keys' rotation and, but for kKeys, the attention of one sequence, or their gradients.
void PackedPass::attend_sequence(int64_t block, const Saved& saved, int64_t s, Attend what) {
  const bool backward = what == Attend::kBackward;
  const ModelConfig& c = net_.config();
  const int64_t D = c.head_dim, q_width = c.heads * D, kv = c.kv_heads * D;
  const auto i = static_cast<size_t>(s);
  const int64_t row = sequences_.begin[i], tokens = sequences_.begin[i + 1] - row;
  const auto& past = sequences_.past[i];
  int64_t before = 0;
  for (const Past& p : past) before += p.tokens;
  kernels::AttentionShape shape;
  shape.tokens = tokens;
  shape.group = c.heads / c.kv_heads;
  shape.head_dim = D;
  shape.segments = static_cast<int64_t>(past.size()) + 1;
  shape.q_stride = shape.out_stride = q_width;
  const float* cos = net_.rope_cos_.const_data_ptr<float>();
  const float* sin = net_.rope_sin_.const_data_ptr<float>();
  const auto rotate = [&](float* rows, int64_t heads, float direction) {
    for (int64_t t = 0; t < tokens; ++t)
      kernels::rotate_row(rows + t * heads * D, heads, D, cos + (before + t) * (D / 2),
                          sin + (before + t) * (D / 2), direction);
  };
  if (!backward) rotate(data(saved.k) + row * kv, c.kv_heads, 1);
  if (what == Attend::kKeys) return;
  if (!backward) rotate(data(saved.q) + row * q_width, c.heads, 1);
  std::vector<kernels::KeySegment> segments(past.size() + 1);
  float* probabilities = data(saved.probabilities) + probability_begin_[i];
  for (int64_t h = 0; h < c.kv_heads; ++h) {
    for (size_t p = 0; p < past.size(); ++p) {
      const float* k = past[p].data + (block - past[p].first_block) * 2 * past[p].tokens * kv;
      segments[p] = {k + h * D, k + past[p].tokens * kv + h * D, past[p].tokens, kv};
    }
    const int64_t own = row * kv + h * D;
    segments.back() = {data(saved.k) + own, data(saved.v) + own, tokens, kv};
    const int64_t q = row * q_width + h * shape.group * D;
    float* p = probabilities + h * tokens * shape.group * (before + tokens);
    if (backward)
      kernels::attend_backward(shape, data(saved.q) + q, segments.data(), p, data(y_) + q, kv,
                               data(dq_) + q, data(dk_) + own, data(dv_) + own);
    else
      kernels::attend(shape, data(saved.q) + q, segments.data(), nullptr, p, data(y_) + q);
  }
  if (backward) {
    rotate(data(dq_) + row * q_width, c.heads, -1);
    rotate(data(dk_) + row * kv, c.kv_heads, -1);
  }
}

// saved.h to saved.middle.
void PackedPass::attention(int64_t block, Saved& saved, int64_t rows,
                           const PackedSequences& sequences, bool keys_only, bool low) {
  const Transformer::Block& b = net_.blocks_[static_cast<size_t>(block)];
  const double eps = net_.config().norm_eps;
  auto x = x_.view({-1}).narrow(0, 0, rows * net_.config().width).view({rows, -1});
  auto y = y_.narrow(0, 0, rows);
  norm_rows(saved.h, b.attention_norm, eps, x, saved.h_inverse);
  if (low) {
    const auto qkv = low_product({x}, low_weights(block).qkv.t());
    int64_t at = 0;
    for (auto [to, bias] : {std::pair{&saved.q, &b.q.bias}, std::pair{&saved.k, &b.k.bias},
                            std::pair{&saved.v, &b.v.bias}}) {
      to->copy_(qkv.narrow(1, at, to->size(1)));
      if (bias->defined()) to->add_(*bias);
      at += to->size(1);
    }
  } else {
    multiply_into(saved.k, x, b.k);
    multiply_into(saved.v, x, b.v);
    if (!keys_only) multiply_into(saved.q, x, b.q);
  }
  if (b.q_norm.defined()) {
    norm_heads(b.k_norm, saved.k, saved.raw_k, saved.k_inverse);
    if (!keys_only) norm_heads(b.q_norm, saved.q, saved.raw_q, saved.q_inverse);
  }
  at::parallel_for(0, sequences.size(), kSequences, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s)
      attend_sequence(block, saved, s, keys_only ? Attend::kKeys : Attend::kForward);
  });
  if (keys_only) return;
  if (low) {
    at::add_out(saved.middle, saved.h, low_product({y}, low_weights(block).o.t()));
    if (b.o.bias.defined()) saved.middle.add_(b.o.bias);
  } else {
    multiply_add(saved.middle, saved.h, y, b.o);
  }
}

// saved.middle, whose norm is `x`, to the block's output.
void PackedPass::ffn(int64_t block, const Saved& saved, const at::Tensor& x,
                     const at::Tensor& activated, at::Tensor& out, bool low) {
  const Transformer::Block& b = net_.blocks_[static_cast<size_t>(block)];
  auto gates = saved.gate, ups = saved.up;
  if (low) {
    const auto both = low_product({x}, low_weights(block).gate_up.t());
    gates.copy_(both.narrow(1, 0, gates.size(1)));
    ups.copy_(both.narrow(1, gates.size(1), ups.size(1)));
    if (b.gate.bias.defined()) gates.add_(b.gate.bias);
    if (b.up.bias.defined()) ups.add_(b.up.bias);
  } else {
    multiply_into(gates, x, b.gate);
    multiply_into(ups, x, b.up);
  }
  const float *gate = data(gates), *up = data(ups);
  float* act = data(activated);
  at::parallel_for(0, gates.numel(), kElements / 2, [&](int64_t begin, int64_t end) {
    kernels::swiglu(gate + begin, up + begin, end - begin, act + begin);
  });
  if (low) {
    at::add_out(out, saved.middle, low_product({activated}, low_weights(block).down.t()));
    if (b.down.bias.defined()) out.add_(b.down.bias);
  } else {
    multiply_add(out, saved.middle, activated, b.down);
  }
}

at::Tensor PackedPass::forward(const at::Tensor& h, const PackedSequences& sequences, int64_t from,
                               int64_t to, const Options& options) {
  const at::NoGradGuard no_grad;
  const ModelConfig& c = net_.config();
  const int64_t N = sequences.rows();
  if (h.dim() != 2 || h.size(0) != N || h.size(1) != c.width)
    throw Error(ErrorCode::kInternal,
                accrete::format("{} rows for a packed pass of {}", h.size(0), N));
  sequences_ = sequences;
  from_ = from;
  to_ = to;
  low_precision_ = options.low_precision && in_low_precision(coded_, N);
  probability_begin_.assign(1, 0);
  for (int64_t s = 0; s < sequences.size(); ++s) {
    const auto i = static_cast<size_t>(s);
    const int64_t tokens = sequences.begin[i + 1] - sequences.begin[i];
    int64_t keys = tokens;
    for (const Past& p : sequences.past[i]) keys += p.tokens;
    if (keys > c.max_positions)
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("{} tokens do not fit: the model has {} positions", keys,
                                  c.max_positions),
                  "shorten the text");
    probability_begin_.push_back(probability_begin_.back() + tokens * c.heads * keys);
  }
  prepare(N, options.for_backward ? to - from : 1, probability_begin_.back());
  const auto slot = [&](int64_t block) {
    return options.for_backward ? static_cast<size_t>(block - from) : size_t{0};
  };
  auto x = x_.view({-1}).narrow(0, 0, N * c.width).view({N, -1});
  auto activated = activated_.narrow(0, 0, N);
  auto last = last_.narrow(0, 0, N);
  if (from >= to) return last.copy_(h);
  views(slot(from), N).h.copy_(h);
  for (int64_t i = from; i < to; ++i) {
    const Transformer::Block& b = net_.blocks_[static_cast<size_t>(i)];
    Saved saved = views(slot(i), N);
    const bool keys_only = options.keys_only_at_end && i + 1 == to;
    attention(i, saved, N, sequences, keys_only, low_precision_);
    if (options.keys != nullptr) (*options.keys)(i, saved.k, saved.v);
    if (keys_only) return last;
    norm_rows(saved.middle, b.ffn_norm, c.norm_eps, x, saved.middle_inverse);
    at::Tensor out = i + 1 == to ? last : views(slot(i + 1), N).h;
    if (b.memory)
      at::add_out(out, saved.middle, (*b.memory)(x));
    else
      ffn(i, saved, x, activated, out, low_precision_);
    if (options.add != nullptr) (*options.add)(i, x, out);
  }
  return last;
}

at::Tensor PackedPass::ffn_input(const at::Tensor& h, const PackedSequences& sequences,
                                 int64_t block, const SeeKeys* keys) {
  const at::NoGradGuard no_grad;
  // A pass over no block sets everything up.
  forward(h, sequences, block, block, {});
  const int64_t N = sequences.rows();
  Saved saved = views(0, N);
  saved.h.copy_(h);
  attention(block, saved, N, sequences, false, false);
  if (keys != nullptr) (*keys)(block, saved.k, saved.v);
  auto x = x_.view({-1}).narrow(0, 0, N * net_.config().width).view({N, -1});
  norm_rows(saved.middle, net_.blocks_[static_cast<size_t>(block)].ffn_norm, net_.config().norm_eps,
            x, saved.middle_inverse);
  return x;
}

void PackedPass::head(at::Tensor& logits, const at::Tensor& x, bool low_precision) {
  const Linear head = without_bias(net_.head(), net_.coded_head_);
  if (!low_precision || !in_low_precision(head.coded != nullptr, x.size(0)))
    return multiply_into(logits, x, head);
  if (!low_head_.defined()) low_head_ = low_copy(head);
  logits.copy_(low_product({x}, low_head_.t()));
}

void PackedPass::head_backward(at::Tensor& dx, const at::Tensor& dlogits, bool low_precision) {
  const Linear head = without_bias(net_.head(), net_.coded_head_);
  if (!low_precision || !in_low_precision(head.coded != nullptr, dlogits.size(0)))
    return multiply_back(dx, dlogits, head);
  dx.copy_(low_product({dlogits}, low_head_));
}

void PackedPass::keep(std::span<const int64_t> which) {
  PackedSequences kept;
  std::vector<int64_t> probability_begin = {0};
  for (const int64_t s : which) {
    const auto i = static_cast<size_t>(s);
    kept.add(sequences_.begin[i + 1] - sequences_.begin[i], std::move(sequences_.past[i]));
    probability_begin.push_back(probability_begin.back() + probability_begin_[i + 1] -
                                probability_begin_[i]);
  }
  // Downwards only, so what moves later is never under what moves earlier.
  const auto move = [&](const at::Tensor& t, std::span<const int64_t> from,
                        std::span<const int64_t> to, int64_t width) {
    if (!t.defined()) return;
    float* rows = data(t);
    for (size_t k = 0; k < which.size(); ++k) {
      const int64_t begin = from[static_cast<size_t>(which[k])];
      std::copy(rows + begin * width, rows + (begin + to[k + 1] - to[k]) * width,
                rows + to[k] * width);
    }
  };
  at::parallel_for(0, to_ - from_, 1, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      Saved& s = saved_[static_cast<size_t>(b)];
      for (const at::Tensor* t :
           {&s.h, &s.middle, &s.h_inverse, &s.middle_inverse, &s.q, &s.k, &s.v, &s.raw_q, &s.raw_k,
            &s.q_inverse, &s.k_inverse, &s.gate, &s.up})
        move(*t, sequences_.begin, kept.begin, t->defined() ? t->size(1) : 0);
      move(s.probabilities, probability_begin_, probability_begin, 1);
    }
  });
  sequences_ = std::move(kept);
  probability_begin_ = std::move(probability_begin);
}

void PackedPass::backward(at::Tensor gradient, const SeeGradient& see) {
  const at::NoGradGuard no_grad;
  const ModelConfig& c = net_.config();
  const int64_t N = sequences_.rows();
  auto x = x_.view({-1}).narrow(0, 0, N * c.width).view({N, -1});
  auto y = y_.narrow(0, 0, N), activated = activated_.narrow(0, 0, N);
  auto dq = dq_.narrow(0, 0, N), dk = dk_.narrow(0, 0, N), dv = dv_.narrow(0, 0, N);
  for (int64_t i = to_ - 1; i >= from_; --i) {
    see(i, gradient);
    const Transformer::Block& b = net_.blocks_[static_cast<size_t>(i)];
    if (b.memory) throw Error(ErrorCode::kInternal, "no way back through a block of memory");
    Saved saved = views(static_cast<size_t>(i - from_), N);
    if (low_precision_)
      activated.copy_(low_product({gradient}, low_weights(i).down));
    else
      multiply_back(activated, gradient, b.down);
    float *gate = data(saved.gate), *up = data(saved.up);
    const float* act = data(activated);
    at::parallel_for(0, N * c.ffn_width, kElements / 2, [&](int64_t begin, int64_t end) {
      kernels::swiglu_backward(act + begin, end - begin, gate + begin, up + begin);
    });
    if (low_precision_) {
      x.copy_(low_product({saved.gate, saved.up}, low_weights(i).gate_up));
    } else {
      multiply_back(x, saved.gate, b.gate);
      add_multiplied_back(x, saved.up, b.up, last_);
    }
    norm_backward(saved.middle, b.ffn_norm, saved.middle_inverse, x, gradient);
    if (low_precision_)
      y.copy_(low_product({gradient}, low_weights(i).o));
    else
      multiply_back(y, gradient, b.o);
    at::parallel_for(0, sequences_.size(), kSequences, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) attend_sequence(i, saved, s, Attend::kBackward);
    });
    if (b.q_norm.defined()) {
      norm_heads_backward(b.q_norm, saved.raw_q, saved.q_inverse, dq, y_);
      norm_heads_backward(b.k_norm, saved.raw_k, saved.k_inverse, dk, y_);
    }
    if (low_precision_) {
      x.copy_(low_product({dq, dk, dv}, low_weights(i).qkv));
    } else {
      multiply_back(x, dq, b.q);
      add_multiplied_back(x, dk, b.k, last_);
      add_multiplied_back(x, dv, b.v, last_);
    }
    norm_backward(saved.h, b.attention_norm, saved.h_inverse, x, gradient);
  }
  see(from_ - 1, gradient);
}

}  // namespace accrete
