#include "learn/suffix_task.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "model/kernels/rows.h"

namespace accrete {
namespace {

constexpr int64_t kLabelRows = 64;  // the head's output is large: so many labels at a time

}  // namespace

SuffixTask::SuffixTask(const SubjectPrompts& prompts, const SuffixOptions& options)
    : prompts_(&prompts),
      model_(prompts.model()),
      examples_(prompts.examples()),
      options_(options),
      gates_(prompts.gates(model_.memory().overlay)),
      pass_(model_.net()) {}

SuffixTask::SuffixTask(const LanguageModel& model, std::span<const Example> examples,
                       const SuffixOptions& options, const Reporter& reporter)
    : SuffixTask(std::make_unique<const SubjectPrompts>(model, examples, options.cache_bytes,
                                                        reporter, "read prompts"),
                 options) {}

std::vector<double> SuffixTask::run(std::span<const int64_t> which,
                                    std::span<const int64_t> vector_of,
                                    const std::map<int64_t, at::Tensor>& values,
                                    std::map<int64_t, at::Tensor>* gradient, double settled) {
  std::vector<double> loss;
  for (size_t at = 0; at < which.size();) {
    size_t n = 0;
    int64_t rows = 0;
    while (at + n < which.size() && (n == 0 || rows + tokens_of(which[at + n]) <= options_.rows))
      rows += tokens_of(which[at + n++]);
    const auto part =
        run_batch(which.subspan(at, n), vector_of.subspan(at, n), values, gradient, settled);
    loss.insert(loss.end(), part.begin(), part.end());
    at += n;
  }
  return loss;
}

std::vector<double> SuffixTask::run_batch(std::span<const int64_t> which,
                                          std::span<const int64_t> vector_of,
                                          const std::map<int64_t, at::Tensor>& values,
                                          std::map<int64_t, at::Tensor>* gradient, double settled) {
  const at::NoGradGuard no_grad;
  const Memory& memory = model_.memory();
  const int64_t A = memory.address_block, blocks = model_.net().config().blocks;
  prompts_->pack(which, gates_, batch_);
  const PackedSequences& packed = batch_.sequences;
  const auto sites = at::tensor(at::IntArrayRef(packed.begin.data(), which.size()), at::kLong);
  const auto vectors = at::tensor(at::IntArrayRef(vector_of.data(), vector_of.size()), at::kLong);
  const auto add_values = [&](int64_t b, at::Tensor& to) {
    if (const auto it = values.find(b); it != values.end())
      to.index_add_(0, sites, it->second.index_select(0, vectors));
  };
  const PackedPass::Add add = [&](int64_t b, const at::Tensor&, at::Tensor& to) {
    if (const auto y = memory.read(b, batch_.accesses, batch_.gates); y.defined()) to.add_(y);
    add_values(b, to);
  };
  at::Tensor h = batch_.h;
  add(A, {}, h);
  PackedPass::Options options;
  options.add = &add;
  options.for_backward = gradient != nullptr;
  options.low_precision = options_.low_precision;
  h = pass_.forward(h, packed, A + 1, blocks, options);
  std::vector<double> loss(which.size(), 0.0);
  at::Tensor g;
  if (gradient != nullptr) g = at::zeros_like(h);
  head(h, packed, which, loss, gradient != nullptr ? &g : nullptr);
  if (gradient == nullptr) return loss;
  std::vector<int64_t> open, rows;
  for (size_t i = 0; i < which.size(); ++i) {
    if (loss[i] <= settled) continue;
    open.push_back(static_cast<int64_t>(i));
    for (int64_t r = packed.begin[i]; r < packed.begin[i + 1]; ++r) rows.push_back(r);
  }
  if (open.empty()) return loss;
  auto at_sites = sites, at_vectors = vectors;
  if (open.size() < which.size()) {
    pass_.keep(open);
    g = g.index_select(0, at::tensor(rows, at::kLong));
    std::vector<int64_t> first;
    int64_t row = 0;
    for (const int64_t i : open) {
      first.push_back(row);
      row += packed.begin[static_cast<size_t>(i) + 1] - packed.begin[static_cast<size_t>(i)];
    }
    at_sites = at::tensor(first, at::kLong);
    at_vectors = vectors.index_select(0, at::tensor(open, at::kLong));
  }
  pass_.backward(g, [&](int64_t b, const at::Tensor& at_output) {
    if (const auto it = gradient->find(b); it != gradient->end())
      it->second.index_add_(0, at_vectors, at_output.index_select(0, at_sites));
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
  };
  std::vector<Label> labels;
  for (size_t i = 0; i < which.size(); ++i) {
    const Example& e = examples_[static_cast<size_t>(which[i])];
    const auto begin = static_cast<size_t>(prompts_->site(static_cast<size_t>(which[i])));
    const auto count =
        std::count(e.label.begin() + static_cast<ptrdiff_t>(begin) + 1, e.label.end(), 1);
    for (size_t t = begin + 1; t < e.tokens.size(); ++t) {
      if (e.label[t] == 0) continue;
      labels.push_back({sequences.begin[i] + static_cast<int64_t>(t - begin) - 1, e.tokens[t], i,
                        1.0F / static_cast<float>(count)});
    }
  }
  if (!logits_.defined()) logits_ = at::empty({kLabelRows, V}, at::kFloat);
  for (size_t at = 0; at < labels.size(); at += kLabelRows) {
    const auto n = static_cast<int64_t>(std::min<size_t>(kLabelRows, labels.size() - at));
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
    at::parallel_for(0, n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t l = begin; l < end; ++l) {
        const Label& label = labels[at + static_cast<size_t>(l)];
        nll[static_cast<size_t>(l)] =
            kernels::cross_entropy(row + l * V, V, label.token, label.share);
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
