#include "learn/fact_passes.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "model/kernels/rows.h"
#include "model/packed_pass.h"
#include "model/prompt_tree.h"

namespace accrete {
namespace {

constexpr int64_t kLogitRows = 128;

int64_t length(const FactExample& e) {
  return static_cast<int64_t>(e.tokens.size());
}

// The first token that is passed in every step: that of the first vector that has a place, and at
// the latest the one that the answer is predicted at.
int64_t step_begin(const FactExample& e, const FactSites& sites) {
  return std::max<int64_t>(e.prompt > 1 ? 1 : 0, std::min(sites.token(e.prompt, 0), e.prompt - 1));
}

// Calls f(j, token) for the vectors that have a place in the example's input.
template <typename F>
void each_place(const FactExample& e, const FactSites& sites, F&& f) {
  const int64_t n = sites.vectors(length(e) - e.prompt);
  for (int64_t j = 0; j < n; ++j)
    if (const int64_t t = sites.token(e.prompt, j); t >= 1 && t < length(e) - 1) f(j, t);
}

double rms(const at::Tensor& rows) {
  return rows.numel() == 0 ? 1.0 : std::sqrt(rows.square().mean().item<double>());
}

}  // namespace

// What is kept of the prompts, and the packed pass.
struct FactPasses::Packed {
  PackedPass pass;
  // Keys and values of the distinct beginnings, a part a node of their tree: of the blocks from
  // `first_block` on, at first of all of them.
  std::vector<std::vector<float>> keys;
  int64_t first_block = 0;
  std::vector<int64_t> part_tokens;
  std::vector<std::vector<size_t>> path;  // of each example
  std::vector<int64_t> begin;             // [n + 1]: rows of each example in h
  at::Tensor h;                           // [rows, d] outputs of the block
  at::Tensor logits;

  explicit Packed(const Transformer& net) : pass(net) {}

  std::vector<Past> past(size_t example) const {
    std::vector<Past> out;
    for (const size_t p : path[example])
      out.push_back({keys[p].data(), part_tokens[p], first_block});
    return out;
  }
  void read_beginnings(const Transformer& net, std::span<const FactExample> examples,
                       const FactPassOptions& options, const Reporter& reporter,
                       std::string_view stage);
  void read_to_block(const Transformer& net, std::span<const FactExample> examples,
                     const FactPassOptions& options, const Reporter& reporter);
  // Gives back what is kept of the blocks below: no step passes them.
  void forget_below(int64_t block, int64_t width);
};

void FactPasses::Packed::read_beginnings(const Transformer& net,
                                         std::span<const FactExample> examples,
                                         const FactPassOptions& options, const Reporter& reporter,
                                         std::string_view stage) {
  const ModelConfig& c = net.config();
  const int64_t kv = c.kv_heads * c.head_dim;
  std::vector<std::span<const int32_t>> prompts;
  std::vector<size_t> owner;  // a prompt of one token has no beginning
  path.resize(examples.size());
  for (size_t i = 0; i < examples.size(); ++i) {
    const int64_t n = step_begin(examples[i], options.sites);
    if (n == 0) continue;
    prompts.push_back(std::span(examples[i].tokens).first(static_cast<size_t>(n)));
    owner.push_back(i);
  }
  if (prompts.empty()) return;
  PromptTree tree(std::move(prompts));
  std::map<int64_t, size_t> part_at;  // by the row of its first token
  tree.run(
      net, c.blocks,
      [&](const at::Tensor& h, const PackedSequences& sequences,
          const PackedPass::SeeKeys& tree_keys, std::span<const PromptTree::Part> parts) {
        const size_t first = keys.size();
        for (const PromptTree::Part& p : parts) {
          part_at[p.row] = keys.size();
          keys.emplace_back(static_cast<size_t>(c.blocks * 2 * p.tokens * kv));
          part_tokens.push_back(p.tokens);
        }
        const PackedPass::SeeKeys see = [&](int64_t b, const at::Tensor& k, const at::Tensor& v) {
          tree_keys(b, k, v);
          for (size_t i = 0; i < parts.size(); ++i) {
            const int64_t n = parts[i].tokens * kv;
            float* to = keys[first + i].data() + b * 2 * n;
            std::copy_n(k.const_data_ptr<float>() + parts[i].begin * kv, n, to);
            std::copy_n(v.const_data_ptr<float>() + parts[i].begin * kv, n, to + n);
          }
        };
        PackedPass::Options pass_options;
        pass_options.keys = &see;
        pass_options.keys_only_at_end = true;
        pass.forward(h, sequences, 0, c.blocks, pass_options);
      },
      reporter, stage);
  for (size_t i = 0; i < owner.size(); ++i) {
    std::vector<int64_t> rows;
    tree.append_rows(i, 0, rows);
    for (size_t r = 0; r < rows.size();) {
      const size_t part = part_at.at(rows[r]);
      path[owner[i]].push_back(part);
      r += static_cast<size_t>(part_tokens[part]);
    }
  }
}

void FactPasses::Packed::read_to_block(const Transformer& net,
                                       std::span<const FactExample> examples,
                                       const FactPassOptions& options, const Reporter& reporter) {
  begin = {0};
  for (const FactExample& e : examples)
    begin.push_back(begin.back() + length(e) - 1 - step_begin(e, options.sites));
  h = at::empty({begin.back(), net.config().width}, at::kFloat);
  const PackedPass::Options pass_options;
  for (size_t at = 0; at < examples.size();) {
    reporter.check_cancelled();
    PackedSequences sequences;
    std::vector<int64_t> ids;
    const size_t first = at;
    for (; at < examples.size(); ++at) {
      const FactExample& e = examples[at];
      const int64_t from = step_begin(e, options.sites), n = length(e) - 1 - from;
      if (at > first && sequences.rows() + n > options.rows) break;
      sequences.add(n, past(at));
      ids.insert(ids.end(), e.tokens.begin() + from, e.tokens.end() - 1);
    }
    h.narrow(0, begin[first], begin[at] - begin[first])
        .copy_(pass.forward(net.embed(at::tensor(ids, at::kLong)), sequences, 0,
                            options.sites.block + 1, pass_options));
  }
}

void FactPasses::Packed::forget_below(int64_t block, int64_t width) {
  for (size_t i = 0; i < keys.size(); ++i) {
    const int64_t below = (block - first_block) * 2 * part_tokens[i] * width;
    keys[i] = std::vector<float>(keys[i].begin() + below, keys[i].end());
  }
  first_block = block;
}

FactPasses::FactPasses(const Transformer& net, std::span<const FactExample> examples,
                       const FactPassOptions& options, const Reporter& reporter,
                       std::string_view stage)
    : net_(net), examples_(examples), options_(options) {
  const at::NoGradGuard no_grad;
  for (const FactExample& e : examples)
    if (e.prompt < 1 || e.prompt >= length(e))
      throw Error(ErrorCode::kInternal, "a fact's example has no prompt or no answer");
  std::vector<at::Tensor> at_places;
  if (options.reference || !PackedPass::supports(net)) {
    for (const FactExample& e : examples) {
      reporter.check_cancelled();
      std::vector<int64_t> ids(e.tokens.begin(), e.tokens.end()), places;
      each_place(e, options.sites, [&](int64_t, int64_t t) { places.push_back(t); });
      const auto h = net.run(net.embed(at::tensor(ids, at::kLong).unsqueeze(0).to(net.device())), 0,
                             options.sites.block + 1);
      at_places.push_back(
          h[0].to(at::kCPU, at::kFloat).index_select(0, at::tensor(places, at::kLong)));
    }
  } else {
    packed_ = std::make_unique<Packed>(net);
    packed_->read_beginnings(net, examples, options, reporter, stage);
    packed_->read_to_block(net, examples, options, reporter);
    packed_->forget_below(options.sites.block + 1, net.config().kv_heads * net.config().head_dim);
    std::vector<int64_t> places;
    for (size_t i = 0; i < examples.size(); ++i)
      each_place(examples[i], options.sites, [&](int64_t, int64_t t) {
        places.push_back(packed_->begin[i] + t - step_begin(examples[i], options.sites));
      });
    at_places.push_back(packed_->h.index_select(0, at::tensor(places, at::kLong)));
  }
  scale_ = rms(at::cat(at_places));
}

FactPasses::~FactPasses() = default;

double FactPasses::scale() const {
  return scale_;
}

std::vector<FactPasses::Outcome> FactPasses::run(std::span<const int64_t> which,
                                                 const at::Tensor& vectors,
                                                 std::span<const int64_t> first,
                                                 at::Tensor* gradient, double settled,
                                                 bool exactly) {
  if (!packed_) return run_reference(which, vectors, first, gradient);
  const at::NoGradGuard no_grad;
  Packed& p = *packed_;
  const int64_t d = net_.config().width, V = net_.config().vocab_size;
  const auto eps = static_cast<float>(net_.config().norm_eps);
  const float* weight = net_.final_norm().const_data_ptr<float>();
  const bool low = options_.low_precision && !exactly;
  if (!p.logits.defined()) p.logits = at::empty({kLogitRows, V}, at::kFloat);
  std::vector<Outcome> out(which.size());
  for (size_t at = 0; at < which.size();) {
    // A batch: rows of h, and where vectors go.
    PackedSequences sequences;
    std::vector<int64_t> from, places, which_vector, label_row, label;
    std::vector<size_t> owner;
    const size_t begin = at;
    for (; at < which.size(); ++at) {
      const auto i = static_cast<size_t>(which[at]);
      const FactExample& e = examples_[i];
      const int64_t n = p.begin[i + 1] - p.begin[i], row = sequences.rows();
      if (at > begin && row + n > options_.rows) break;
      const int64_t base = row - step_begin(e, options_.sites);
      for (int64_t r = p.begin[i]; r < p.begin[i + 1]; ++r) from.push_back(r);
      each_place(e, options_.sites, [&](int64_t j, int64_t t) {
        places.push_back(base + t);
        which_vector.push_back(first[static_cast<size_t>(e.fact)] + j);
      });
      for (int64_t t = e.prompt; t < length(e); ++t) {
        label_row.push_back(base + t - 1);
        label.push_back(e.tokens[static_cast<size_t>(t)]);
        owner.push_back(at);
      }
      out[at].exact = true;
      sequences.add(n, p.past(i));
    }
    auto h = p.h.index_select(0, at::tensor(from, at::kLong));
    const auto where = at::tensor(places, at::kLong), what = at::tensor(which_vector, at::kLong);
    h.index_add_(0, where, vectors.index_select(0, what));
    PackedPass::Options options;
    options.for_backward = gradient != nullptr;
    options.low_precision = low;
    const auto last =
        p.pass.forward(h, sequences, options_.sites.block + 1, net_.config().blocks, options);
    at::Tensor g;
    if (gradient != nullptr) g = at::zeros_like(last);
    for (size_t l = 0; l < label.size(); l += kLogitRows) {
      const auto n = static_cast<int64_t>(std::min<size_t>(kLogitRows, label.size() - l));
      const auto index =
          at::tensor(at::IntArrayRef(label_row.data() + l, static_cast<size_t>(n)), at::kLong);
      const auto x = last.index_select(0, index);
      auto normed = at::empty_like(x), inverse = at::empty({n}, at::kFloat);
      kernels::rms_norm_rows(x.const_data_ptr<float>(), weight, n, d, eps,
                             normed.mutable_data_ptr<float>(), inverse.mutable_data_ptr<float>());
      auto logits = p.logits.narrow(0, 0, n);
      p.pass.head(logits, normed, low);
      float* row = logits.mutable_data_ptr<float>();
      std::vector<float> nll(static_cast<size_t>(n));
      std::vector<uint8_t> right(static_cast<size_t>(n));
      at::parallel_for(0, n, 1, [&](int64_t a, int64_t b) {
        for (int64_t k = a; k < b; ++k) {
          float* one = row + k * V;
          const int64_t token = label[l + static_cast<size_t>(k)];
          right[static_cast<size_t>(k)] = std::max_element(one, one + V) - one == token;
          nll[static_cast<size_t>(k)] = kernels::cross_entropy(one, V, token, 1.0F);
        }
      });
      for (int64_t k = 0; k < n; ++k) {
        Outcome& o = out[owner[l + static_cast<size_t>(k)]];
        o.nll += static_cast<double>(nll[static_cast<size_t>(k)]);
        o.exact = o.exact && right[static_cast<size_t>(k)] != 0;
      }
      if (gradient == nullptr) continue;
      auto dnormed = at::empty_like(x);
      p.pass.head_backward(dnormed, logits, low);
      auto dx = at::zeros_like(x);
      kernels::rms_norm_rows_backward(
          x.const_data_ptr<float>(), weight, inverse.const_data_ptr<float>(),
          dnormed.const_data_ptr<float>(), n, d, dx.mutable_data_ptr<float>());
      g.index_add_(0, index, dx);
    }
    if (gradient == nullptr) continue;
    // Backward through those alone that have something left to learn.
    std::vector<int64_t> open, rows, row_of(static_cast<size_t>(sequences.rows()), -1);
    int64_t kept = 0;
    for (size_t i = begin; i < at; ++i) {
      if (out[i].nll <= settled) continue;
      const auto s = static_cast<int64_t>(i - begin);
      open.push_back(s);
      for (int64_t r = sequences.begin[i - begin]; r < sequences.begin[i - begin + 1]; ++r) {
        rows.push_back(r);
        row_of[static_cast<size_t>(r)] = kept++;
      }
    }
    if (open.empty()) continue;
    std::vector<int64_t> at_rows, to_vectors;
    for (size_t k = 0; k < places.size(); ++k)
      if (row_of[static_cast<size_t>(places[k])] >= 0) {
        at_rows.push_back(row_of[static_cast<size_t>(places[k])]);
        to_vectors.push_back(which_vector[k]);
      }
    if (static_cast<int64_t>(open.size()) < sequences.size()) {
      p.pass.keep(open);
      g = g.index_select(0, at::tensor(rows, at::kLong));
    }
    p.pass.backward(g, [&](int64_t b, const at::Tensor& at_output) {
      if (b == options_.sites.block)
        gradient->index_add_(0, at::tensor(to_vectors, at::kLong),
                             at_output.index_select(0, at::tensor(at_rows, at::kLong)));
    });
  }
  return out;
}

std::vector<FactPasses::Outcome> FactPasses::run_reference(std::span<const int64_t> which,
                                                           const at::Tensor& vectors,
                                                           std::span<const int64_t> first,
                                                           at::Tensor* gradient) {
  const at::AutoGradMode with_gradient(gradient != nullptr);
  std::vector<Outcome> out(which.size());
  for (size_t w = 0; w < which.size(); ++w) {
    const FactExample& e = examples_[static_cast<size_t>(which[w])];
    const std::vector<int64_t> ids(e.tokens.begin(), e.tokens.end());
    std::vector<int64_t> places, rows;
    each_place(e, options_.sites, [&](int64_t j, int64_t t) {
      places.push_back(t);
      rows.push_back(first[static_cast<size_t>(e.fact)] + j);
    });
    auto own = vectors.index_select(0, at::tensor(rows, at::kLong)).detach();
    own.requires_grad_(gradient != nullptr);
    const FfnSide side = [&](int64_t block, const at::Tensor& x) -> at::Tensor {
      if (block != options_.sites.block) return {};
      return at::zeros_like(x, x.options().requires_grad(false))
          .index_add(1, at::tensor(places, at::kLong).to(x.device()),
                     own.to(x.device(), x.scalar_type()).unsqueeze(0));
    };
    ForwardOptions forward;
    forward.side = &side;
    const auto input = at::tensor(ids, at::kLong).narrow(0, 0, length(e) - 1).unsqueeze(0);
    const auto h = net_.run(net_.embed(input.to(net_.device())), 0, net_.config().blocks, forward);
    const auto logits =
        net_.logits(h[0].narrow(0, e.prompt - 1, length(e) - e.prompt)).to(at::kFloat);
    const auto labels =
        at::tensor(ids, at::kLong).narrow(0, e.prompt, length(e) - e.prompt).to(logits.device());
    const auto nll = at::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum);
    out[w].nll = nll.item<double>();
    out[w].exact = logits.argmax(-1).eq(labels).all().item<bool>();
    if (gradient == nullptr) continue;
    const auto g = torch::autograd::grad({nll}, {own}).front();
    const at::NoGradGuard no_grad;
    gradient->index_add_(0, at::tensor(rows, at::kLong), g.to(at::kCPU, at::kFloat));
  }
  return out;
}

}  // namespace accrete
