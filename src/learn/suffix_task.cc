#include "learn/suffix_task.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "model/kernels/rows.h"

namespace accrete {
namespace {

constexpr int64_t kLogitRows = 64;  // the head's output is large: so many labels at a time

// Adds what the overlay says, in one pass.
PackedPass::Add overlay_of(const LanguageModel& model) {
  return [side = model.side()](int64_t block, const at::Tensor& x, at::Tensor& h) {
    if (const auto y = side(block, x); y.defined()) h.add_(y);
  };
}

}  // namespace

SuffixTask::SuffixTask(const LanguageModel& model, std::span<const Example> examples,
                       const SuffixOptions& options, const Reporter& reporter)
    : model_(model),
      examples_(examples),
      options_(options),
      pass_(model.net()),
      suffixes_(examples.size()),
      store_(options.cache_bytes) {
  if (examples.empty()) return;
  // What all examples begin with; then the distinct beginnings.
  common_tokens_ = INT64_MAX;
  for (size_t i = 0; i < examples.size(); ++i) {
    const Example& e = examples[i];
    for (size_t t = 0; t < e.subject.size(); ++t)
      if (e.subject[t] != 0) suffixes_[i].begin = static_cast<int64_t>(t);
    if (suffixes_[i].begin < 0)
      throw Error(ErrorCode::kInternal, "an example without a subject in a suffix task");
    common_tokens_ = std::min(common_tokens_, suffixes_[i].begin);
    const auto& first = examples[0].tokens;
    const auto differ = std::mismatch(first.begin(), first.begin() + common_tokens_,
                                      e.tokens.begin(), e.tokens.end());
    common_tokens_ = differ.first - first.begin();
  }
  std::map<std::vector<int32_t>, std::vector<int64_t>> by_prefix;
  for (size_t i = 0; i < examples.size(); ++i) {
    const auto& tokens = examples[i].tokens;
    by_prefix[{tokens.begin() + common_tokens_, tokens.begin() + suffixes_[i].begin}].push_back(
        static_cast<int64_t>(i));
  }
  tokens_before_ = common_tokens_;
  for (const auto& [prefix, which] : by_prefix)
    tokens_before_ += static_cast<int64_t>(prefix.size());
  low_beginnings_ = options.low_precision && tokens_before_ >= options.low_precision_from;
  read_common(reporter);
  std::vector<std::vector<int64_t>> examples_of;
  for (const auto& [prefix, which] : by_prefix) {
    prefix_tokens_.push_back(static_cast<int64_t>(prefix.size()));
    for (const int64_t i : which)
      suffixes_[static_cast<size_t>(i)].prefix = static_cast<int64_t>(examples_of.size());
    examples_of.push_back(which);
  }
  const auto count = static_cast<int64_t>(examples_of.size());
  for (int64_t first = 0; first < count;) {
    reporter.check_cancelled();
    int64_t last = first, rows = 0;
    while (last < count &&
           (last == first || rows + prefix_tokens_[static_cast<size_t>(last)] <= options.rows))
      rows += prefix_tokens_[static_cast<size_t>(last++)];
    read_prefixes(examples_of, first, last);
    first = last;
    reporter.report("read prompts", first, count);
  }
}

int64_t SuffixTask::tokens_of(int64_t example) const {
  const auto i = static_cast<size_t>(example);
  return static_cast<int64_t>(examples_[i].tokens.size()) - 1 - suffixes_[i].begin;
}

namespace {

// Copies the rows of one sequence of a block's keys and values into [blocks, 2, tokens, width].
void copy_keys(const at::Tensor& rows, int64_t begin, int64_t tokens, int64_t place,
               std::vector<float>& to) {
  const int64_t width = rows.size(1);
  const float* from = rows.const_data_ptr<float>() + begin * width;
  std::copy(from, from + tokens * width, to.begin() + place * tokens * width);
}

at::Tensor embed(const Transformer& net, std::span<const int32_t> ids) {
  auto tensor = at::empty({static_cast<int64_t>(ids.size())}, at::kLong);
  std::copy(ids.begin(), ids.end(), tensor.data_ptr<int64_t>());
  return net.embed(tensor);
}

}  // namespace

void SuffixTask::read_common(const Reporter& reporter) {
  if (common_tokens_ == 0) return;
  reporter.check_cancelled();
  const at::NoGradGuard no_grad;
  const ModelConfig& c = model_.net().config();
  PackedSequences one;
  one.add(common_tokens_);
  common_.resize(static_cast<size_t>(c.blocks * 2 * common_tokens_ * c.kv_heads * c.head_dim));
  const PackedPass::SeeKeys keys = [&](int64_t b, const at::Tensor& k, const at::Tensor& v) {
    copy_keys(k, 0, common_tokens_, 2 * b, common_);
    copy_keys(v, 0, common_tokens_, 2 * b + 1, common_);
  };
  const PackedPass::Add add = overlay_of(model_);
  PackedPass::Options options;
  options.add = &add;
  options.keys = &keys;
  options.keys_only_at_end = true;
  options.low_precision = low_beginnings_;
  pass_.forward(embed(model_.net(),
                      std::span(examples_[0].tokens).first(static_cast<size_t>(common_tokens_))),
                one, 0, c.blocks, options);
}

void SuffixTask::read_prefixes(std::span<const std::vector<int64_t>> examples_of, int64_t first,
                               int64_t last) {
  const at::NoGradGuard no_grad;
  const Memory& memory = model_.memory();
  const Transformer& net = model_.net();
  const ModelConfig& c = net.config();
  const int64_t kv = c.kv_heads * c.head_dim, A = memory.address_block;
  std::vector<Past> common;
  if (common_tokens_ > 0) common.push_back({common_.data(), common_tokens_, 0});

  // The beginnings, through all blocks.
  PackedSequences prefixes;
  std::vector<int32_t> ids;
  std::vector<std::vector<float>> keys_of(static_cast<size_t>(last - first));
  for (int64_t p = first; p < last; ++p) {
    const int64_t n = prefix_tokens_[static_cast<size_t>(p)];
    const auto& tokens =
        examples_[static_cast<size_t>(examples_of[static_cast<size_t>(p)][0])].tokens;
    ids.insert(ids.end(), tokens.begin() + common_tokens_, tokens.begin() + common_tokens_ + n);
    prefixes.add(n, common);
    keys_of[static_cast<size_t>(p - first)].resize(static_cast<size_t>(c.blocks * 2 * n * kv));
  }
  if (!ids.empty()) {
    const PackedPass::SeeKeys keys = [&](int64_t b, const at::Tensor& k, const at::Tensor& v) {
      for (size_t p = 0; p < keys_of.size(); ++p) {
        const int64_t begin = prefixes.begin[p], n = prefixes.begin[p + 1] - begin;
        copy_keys(k, begin, n, 2 * b, keys_of[p]);
        copy_keys(v, begin, n, 2 * b + 1, keys_of[p]);
      }
    };
    const PackedPass::Add add = overlay_of(model_);
    PackedPass::Options options;
    options.add = &add;
    options.keys = &keys;
    options.keys_only_at_end = true;
    options.low_precision = low_beginnings_;
    pass_.forward(embed(net, ids), prefixes, 0, c.blocks, options);
  }

  // What follows them, through the address block; the blocks above read with the same accesses, in
  // every step.
  Accesses accesses;
  Gates gate;
  const PackedPass::Add add = [&](int64_t b, const at::Tensor& x, at::Tensor& h) {
    if (b != A || memory.overlay.empty()) return;
    accesses = memory.keys.lookup(x);
    if (memory.overlay.gated()) gate = memory.overlay.gates(memory.gate, memory.keys.queries(x));
    if (const auto y = memory.read(b, accesses, gate); y.defined()) h.add_(y);
  };
  std::vector<int64_t> which;
  for (int64_t p = first; p < last; ++p)
    for (const int64_t e : examples_of[static_cast<size_t>(p)]) which.push_back(e);
  for (size_t at = 0; at < which.size();) {
    PackedSequences packed;
    ids.clear();
    size_t end = at;
    while (end < which.size() &&
           (end == at || packed.rows() + tokens_of(which[end]) <= options_.rows)) {
      const auto e = static_cast<size_t>(which[end++]);
      const auto p = static_cast<size_t>(suffixes_[e].prefix - first);
      auto past = common;
      if (!keys_of[p].empty())
        past.push_back(
            {keys_of[p].data(), prefix_tokens_[static_cast<size_t>(suffixes_[e].prefix)], 0});
      packed.add(tokens_of(static_cast<int64_t>(e)), std::move(past));
      ids.insert(ids.end(), examples_[e].tokens.begin() + suffixes_[e].begin,
                 examples_[e].tokens.end() - 1);
    }
    PackedPass::Options options;
    options.add = &add;
    options.low_precision = low_beginnings_;
    const auto h = pass_.forward(embed(net, ids), packed, 0, A + 1, options);
    for (size_t i = at; i < end; ++i) {
      Suffix& suffix = suffixes_[static_cast<size_t>(which[i])];
      const int64_t begin = packed.begin[i - at], n = packed.begin[i - at + 1] - begin;
      suffix.h = h.narrow(0, begin, n).clone();
      if (memory.overlay.empty()) continue;
      suffix.accesses = {accesses.slots.narrow(0, begin, n).clone(),
                         accesses.weights.narrow(0, begin, n).clone()};
      if (gate.defined()) suffix.gate = gate.narrow(begin, n);
    }
    at = end;
  }
  // Below here nothing is computed again.
  for (size_t p = 0; p < keys_of.size(); ++p) {
    const size_t below = static_cast<size_t>((A + 1) * 2 * kv) *
                         static_cast<size_t>(prefix_tokens_[static_cast<size_t>(first) + p]);
    store_.put(std::span<const float>(keys_of[p]).subspan(below));
  }
}

std::vector<double> SuffixTask::run(std::span<const int64_t> which,
                                    std::span<const int64_t> vector_of,
                                    const std::map<int64_t, at::Tensor>& values,
                                    std::map<int64_t, at::Tensor>* gradient) {
  std::vector<double> loss;
  for (size_t at = 0; at < which.size();) {
    size_t n = 0;
    int64_t rows = 0;
    while (at + n < which.size() && (n == 0 || rows + tokens_of(which[at + n]) <= options_.rows))
      rows += tokens_of(which[at + n++]);
    const auto part = run_batch(which.subspan(at, n), vector_of.subspan(at, n), values, gradient);
    loss.insert(loss.end(), part.begin(), part.end());
    at += n;
  }
  return loss;
}

std::vector<SoftLabel> SuffixTask::predict(std::span<const int64_t> which) {
  std::vector<SoftLabel> out;
  predictions_ = &out;
  const std::vector<int64_t> none(which.size(), 0);
  run(which, none, {}, nullptr);
  predictions_ = nullptr;
  return out;
}

std::vector<double> SuffixTask::run_batch(std::span<const int64_t> which,
                                          std::span<const int64_t> vector_of,
                                          const std::map<int64_t, at::Tensor>& values,
                                          std::map<int64_t, at::Tensor>* gradient) {
  const at::NoGradGuard no_grad;
  const Memory& memory = model_.memory();
  const int64_t A = memory.address_block, blocks = model_.net().config().blocks;
  PackedSequences packed;
  std::vector<at::Tensor> h_parts;
  std::vector<Gates> gates;
  std::vector<Accesses> accesses;
  if (room_.size() < which.size()) room_.resize(which.size());
  for (size_t i = 0; i < which.size(); ++i) {
    const Suffix& suffix = suffixes_[static_cast<size_t>(which[i])];
    std::vector<Past> past;
    if (common_tokens_ > 0) past.push_back({common_.data(), common_tokens_, 0});
    if (const int64_t n = prefix_tokens_[static_cast<size_t>(suffix.prefix)]; n > 0)
      past.push_back({store_.get(suffix.prefix, room_[i]), n, A + 1});
    packed.add(tokens_of(which[i]), std::move(past));
    h_parts.push_back(suffix.h);
    if (suffix.accesses.defined()) accesses.push_back(suffix.accesses);
    if (suffix.gate.defined()) gates.push_back(suffix.gate);
  }
  const auto sites = at::tensor(at::IntArrayRef(packed.begin.data(), which.size()), at::kLong);
  const auto vectors = at::tensor(at::IntArrayRef(vector_of.data(), vector_of.size()), at::kLong);
  const Accesses all = concat(accesses);
  const Gates gate = concat(gates);

  auto h = at::cat(h_parts);
  const auto add_values = [&](int64_t b, at::Tensor& to) {
    if (const auto it = values.find(b); it != values.end())
      to.index_add_(0, sites, it->second.index_select(0, vectors));
  };
  add_values(A, h);
  const PackedPass::Add add = [&](int64_t b, const at::Tensor&, at::Tensor& to) {
    if (const auto y = memory.read(b, all, gate); y.defined()) to.add_(y);
    add_values(b, to);
  };
  PackedPass::Options options;
  options.add = &add;
  options.for_backward = gradient != nullptr;
  options.low_precision = options_.low_precision;
  h = pass_.forward(h, packed, A + 1, blocks, options);
  std::vector<double> loss(which.size(), 0.0);
  at::Tensor g;
  if (gradient != nullptr) g = at::zeros_like(h);
  head(h, packed, which, loss, gradient != nullptr ? &g : nullptr);
  if (gradient != nullptr)
    pass_.backward(g, [&](int64_t b, const at::Tensor& at_output) {
      if (const auto it = gradient->find(b); it != gradient->end())
        it->second.index_add_(0, vectors, at_output.index_select(0, sites));
    });
  return loss;
}

// Adds each example's mean NLL to `loss`, and writes its gradient with respect to h.
void SuffixTask::head(const at::Tensor& h, const PackedSequences& sequences,
                      std::span<const int64_t> which, std::vector<double>& loss,
                      at::Tensor* gradient) {
  const Transformer& net = model_.net();
  const int64_t V = net.config().vocab_size, d = net.config().width;
  const auto eps = static_cast<float>(net.config().norm_eps);
  struct Label {
    int64_t row, token;
    size_t owner;
    float share;
    const SoftLabel* held;
    bool first;
  };
  std::vector<Label> labels;
  for (size_t i = 0; i < which.size(); ++i) {
    const Example& e = examples_[static_cast<size_t>(which[i])];
    const auto begin = static_cast<size_t>(suffixes_[static_cast<size_t>(which[i])].begin);
    const auto count =
        std::count(e.label.begin() + static_cast<ptrdiff_t>(begin) + 1, e.label.end(), 1);
    const SoftLabel* held = held_.empty() ? nullptr : &held_[static_cast<size_t>(which[i])];
    bool first = true;
    for (size_t t = begin + 1; t < e.tokens.size(); ++t) {
      if (e.label[t] == 0) continue;
      labels.push_back({sequences.begin[i] + static_cast<int64_t>(t - begin) - 1, e.tokens[t], i,
                        1.0F / static_cast<float>(count), held, first});
      first = false;
    }
  }
  if (!logits_.defined()) logits_ = at::empty({kLogitRows, V}, at::kFloat);
  for (size_t at = 0; at < labels.size(); at += kLogitRows) {
    const auto n = static_cast<int64_t>(std::min<size_t>(kLogitRows, labels.size() - at));
    std::vector<int64_t> rows;
    for (int64_t l = 0; l < n; ++l) rows.push_back(labels[at + static_cast<size_t>(l)].row);
    const auto index = at::tensor(rows, at::kLong);
    const auto x = h.index_select(0, index);
    auto normed = at::empty_like(x), inverse = at::empty({n}, at::kFloat);
    const float* weight = net.final_norm().const_data_ptr<float>();
    kernels::rms_norm_rows(x.const_data_ptr<float>(), weight, n, d, eps,
                           normed.mutable_data_ptr<float>(), inverse.mutable_data_ptr<float>());
    auto logits = logits_.narrow(0, 0, n);
    pass_.head(logits, normed, options_.low_precision);
    std::vector<float> nll(static_cast<size_t>(n));
    float* row = logits.mutable_data_ptr<float>();
    if (predictions_ != nullptr) {
      for (int64_t l = 0; l < n; ++l)
        if (labels[at + static_cast<size_t>(l)].first)
          predictions_->push_back(soft_label(row + l * V, V));
      continue;
    }
    at::parallel_for(0, n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t l = begin; l < end; ++l) {
        const Label& label = labels[at + static_cast<size_t>(l)];
        nll[static_cast<size_t>(l)] =
            label.held != nullptr
                ? divergence(row + l * V, V, *label.held, label.share)
                : kernels::cross_entropy(row + l * V, V, label.token, label.share);
      }
    });
    for (int64_t l = 0; l < n; ++l) {
      const Label& label = labels[at + static_cast<size_t>(l)];
      loss[label.owner] += static_cast<double>(nll[static_cast<size_t>(l)]) * label.share;
    }
    if (gradient == nullptr) continue;
    auto dnormed = at::empty_like(x);
    pass_.head_backward(dnormed, logits, options_.low_precision);
    auto dx = at::zeros_like(x);
    kernels::rms_norm_rows_backward(
        x.const_data_ptr<float>(), weight, inverse.const_data_ptr<float>(),
        dnormed.const_data_ptr<float>(), n, d, dx.mutable_data_ptr<float>());
    gradient->index_add_(0, index, dx);
  }
}

}  // namespace accrete
