#include "learn/language_task.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "learn/below_address.h"

namespace accrete {
namespace {

void differentiate(const at::Tensor& loss, const std::map<int64_t, at::Tensor>& outputs,
                   const PassOptions& options, Pass& pass) {
  std::vector<at::Tensor> leaves;
  for (const auto& [block, y] : outputs) leaves.push_back(y);
  const auto grads = torch::autograd::grad({loss}, leaves);
  size_t k = 0;
  for (const auto& [block, y] : outputs) {
    const auto gradient = grads[k++].detach();
    if (options.values == nullptr) {
      pass.output_gradient[block] = gradient.to(at::kCPU);
      continue;
    }
    const auto sites = options.sites.to(gradient.device());
    const auto ones = at::ones(sites.sizes(), gradient.options().dtype(at::kFloat));
    pass.value_gradient[block] =
        scatter_rows(gradient, sites, ones, options.values->at(block).size(0)).to(at::kCPU);
  }
}

// States from `h` [L, d] at the labels' positions, and the contrastive loss if there is one.
void contrast(const Transformer& net, const Batch& batch, const at::Tensor& h,
              const std::map<int64_t, at::Tensor>& outputs, const PassOptions& options,
              Pass& pass) {
  std::vector<int64_t> first(batch.examples.size(), -1);
  const auto* owner = batch.owner.data_ptr<int64_t>();
  for (int64_t l = batch.owner.size(0); l-- > 0;) first[static_cast<size_t>(owner[l])] = l;
  auto states = rms_norm(h.index_select(0, at::tensor(first, at::kLong).to(h.device())),
                         net.final_norm(), net.config().norm_eps)
                    .to(at::kFloat);
  states = states / at::linalg_vector_norm(states, 2, {1}, true).clamp_min(1e-12);
  if (options.states) pass.states = states.detach().to(at::kCPU);
  if (options.contrast == nullptr) return;
  const Contrast& c = *options.contrast;
  const auto likeness = at::mm(states, c.anchors.to(states.device()).t()) / c.temperature;
  const auto own = at::tensor(batch.examples, at::kLong).to(states.device()).unsqueeze(1);
  const auto loss = at::logsumexp(likeness, {1}) - likeness.gather(1, own).squeeze(1);
  if (options.gradient) differentiate(loss.sum(), outputs, options, pass);
  pass.loss = loss.detach().mean().item<double>();
}

}  // namespace

LanguageTask::LanguageTask(const LanguageModel& model, std::vector<Example> examples,
                           int64_t batch_tokens)
    : model_(model),
      examples_(std::move(examples)),
      batches_(make_batches(examples_, batch_tokens)) {
  frozen_.resize(batches_.size());
  place_.resize(examples_.size());
  for (size_t i = 0; i < batches_.size(); ++i)
    for (size_t b = 0; b < batches_[i].examples.size(); ++b)
      place_[static_cast<size_t>(batches_[i].examples[b])] = {i, static_cast<int64_t>(b)};
  model.memory();  // throws when there is none
}

int64_t LanguageTask::tokens() const {
  int64_t n = 0;
  for (const Example& e : examples_) n += static_cast<int64_t>(e.tokens.size()) - 1;
  return n;
}

const LanguageTask::Frozen& LanguageTask::frozen(size_t i) {
  Frozen& frozen = frozen_[i];
  if (frozen.h.defined()) return frozen;
  BelowAddress below = below_address(model_, batches_[i]);
  frozen = {std::move(below.h), std::move(below.accesses), std::move(below.queries),
            std::move(below.gate)};
  return frozen;
}

LanguageTask::Selection LanguageTask::select(std::span<const int64_t> which) {
  const at::NoGradGuard no_grad;
  if (!all_.h.defined()) {
    std::vector<at::Tensor> h;
    std::vector<Accesses> accesses;
    std::vector<Gates> gates;
    int64_t tokens = 0;
    for (size_t i = 0; i < batches_.size(); ++i) {
      Frozen from = frozen(i);
      frozen_[i] = {};  // it is kept once
      first_token_.push_back(tokens);
      tokens += batches_[i].ids.numel();
      h.push_back(from.h.reshape({-1, from.h.size(2)}));
      accesses.push_back(std::move(from.accesses));
      if (from.gate.defined()) gates.push_back(std::move(from.gate));
    }
    // What stands for padding, behind all of them.
    h.push_back(at::zeros({1, h.front().size(1)}, h.front().options()));
    const int64_t K = accesses.front().per_token();
    accesses.push_back({at::full({1, K}, -1, at::kInt), at::zeros({1, K}, at::kFloat)});
    if (!gates.empty()) gates.push_back(Gates::none(1));
    all_.h = at::cat(h);
    all_.accesses = concat(accesses);
    all_.gate = concat(gates);
  }
  Selection out;
  out.batch = make_batch(examples_, which);
  const int64_t B = out.batch.ids.size(0), T = out.batch.ids.size(1);
  auto from = at::full({B * T}, all_.h.size(0) - 1, at::kLong);
  for (int64_t b = 0; b < B; ++b) {
    const auto example = static_cast<size_t>(which[static_cast<size_t>(b)]);
    const auto [i, row] = place_[example];
    const auto n = static_cast<int64_t>(examples_[example].tokens.size()) - 1;
    int64_t* to = from.mutable_data_ptr<int64_t>() + b * T;
    std::iota(to, to + n, first_token_[i] + row * batches_[i].ids.size(1));
  }
  out.frozen.h = all_.h.index_select(0, from.to(all_.h.device())).view({B, T, -1});
  out.frozen.accesses = select_tokens(all_.accesses, from);
  if (all_.gate.defined())
    out.frozen.gate = {all_.gate.part.index_select(0, from),
                       all_.gate.weight.index_select(0, from)};
  return out;
}

Pass LanguageTask::run(size_t i, const PassOptions& options) {
  const Frozen& frozen = this->frozen(i);
  return run(batches_[i], frozen, options);
}

Pass LanguageTask::run(const Selection& selection, const PassOptions& options) const {
  return run(selection.batch, selection.frozen, options);
}

Pass LanguageTask::run(const Batch& batch, const Frozen& frozen, const PassOptions& options) const {
  const Transformer& net = model_.net();
  const Memory& memory = model_.memory();
  const auto device = net.device();
  const Accesses& accesses = frozen.accesses;

  Pass pass;
  std::map<int64_t, at::Tensor> outputs;
  const FfnSide side = [&](int64_t block, const at::Tensor& x) -> at::Tensor {
    if (!std::binary_search(memory.blocks.begin(), memory.blocks.end(), block)) return {};
    at::Tensor y;
    {
      const at::NoGradGuard no_grad;
      const auto add = [&y, device](const at::Tensor& part) {
        const auto here = part.to(device);
        y = y.defined() ? y + here : here;
      };
      if (const auto read = memory.read(block, accesses, frozen.gate); read.defined()) add(read);
      if (options.changes != nullptr) {
        auto weights = accesses.weights;
        if (options.keep.defined()) weights = weights * options.keep.unsqueeze(1);
        add(weighted_gather(options.changes->delta.at(block),
                            options.changes->index.rows(accesses.slots), weights));
      }
      if (options.values != nullptr)
        add(weighted_gather(options.values->at(block).to(device), options.sites.to(device),
                            at::ones(options.sites.sizes(), x.options().dtype(at::kFloat))));
      if (!y.defined() && options.gradient)
        y = at::zeros({x.size(0) * x.size(1), x.size(2)}, x.options());
    }
    if (!y.defined()) return {};
    if (options.gradient) {
      y.set_requires_grad(true);
      outputs[block] = y;
    }
    return y.view(x.sizes()).to(x.scalar_type());
  };

  const at::AutoGradMode grad_mode(options.gradient);
  ForwardOptions forward;
  forward.side = &side;
  auto h = net.run(frozen.h, memory.address_block, net.config().blocks, forward);
  h = h.reshape({-1, h.size(-1)}).index_select(0, batch.positions.to(device));
  if (options.states || options.contrast != nullptr) {
    contrast(net, batch, h, outputs, options, pass);
    if (options.contrast != nullptr) return pass;
  }
  const auto logits = net.logits(h).to(at::kFloat);
  const auto labels = batch.labels.to(device);
  const auto nll =
      (at::logsumexp(logits, {1}) - logits.gather(1, labels.unsqueeze(1)).squeeze(1)).to(at::kCPU);

  // Mean over an example's labels, so that long answers do not outweigh short ones.
  const auto B = static_cast<int64_t>(batch.examples.size());
  const auto count = at::bincount(batch.owner, {}, B).to(at::kFloat);
  const auto per_example = at::zeros({B}, nll.options())
                               .index_add(0, batch.owner, nll / count.index_select(0, batch.owner));
  if (options.gradient) differentiate(per_example.sum(), outputs, options, pass);

  const at::NoGradGuard no_grad;
  const auto right = (logits.argmax(1) == labels).to(at::kCPU);
  const auto mean = per_example.detach();
  pass.example_exact.assign(static_cast<size_t>(B), 1);
  for (int64_t l = 0; l < right.size(0); ++l) {
    const auto b = static_cast<size_t>(batch.owner.data_ptr<int64_t>()[l]);
    if (!right.data_ptr<bool>()[l]) pass.example_exact[b] = 0;
  }
  for (int64_t b = 0; b < B; ++b) {
    pass.example_loss.push_back(static_cast<double>(mean.data_ptr<float>()[b]));
    pass.loss += pass.example_loss.back() / static_cast<double>(B);
  }
  return pass;
}

}  // namespace accrete
