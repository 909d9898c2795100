#include "learn/language_task.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "base/error.h"

namespace accrete {

LanguageTask::LanguageTask(const LanguageModel& model, std::vector<Example> examples,
                           int64_t batch_tokens)
    : LanguageTask(model, examples, make_batches(examples, batch_tokens)) {}

LanguageTask::LanguageTask(const LanguageModel& model, std::vector<Example> examples,
                           std::vector<Batch> batches)
    : model_(model), examples_(std::move(examples)), batches_(std::move(batches)) {
  if (!model.has_memory())
    throw Error(ErrorCode::kInvalidArgument, "the model has no memory layers",
                "make them with `accrete retrofit`");
  frozen_.resize(batches_.size());
  lowest_ = model.memory().begin()->first;
}

int64_t LanguageTask::tokens() const {
  int64_t n = 0;
  for (const Example& e : examples_) n += static_cast<int64_t>(e.tokens.size()) - 1;
  return n;
}

Pass LanguageTask::run(size_t i, const RowChanges* changes, const PassOptions& options) {
  const Batch& batch = batches_[i];
  const Transformer& net = model_.net();
  const auto device = net.device();
  Frozen& frozen = frozen_[i];
  if (!frozen.h.defined()) {
    const at::NoGradGuard no_grad;
    frozen.h = net.run(net.embed(batch.ids.to(device)), 0, lowest_);
  }

  Pass pass;
  std::map<int64_t, at::Tensor> outputs;
  const auto mask = batch.mask.reshape({-1});
  const FfnSide side = [&](int64_t block, const at::Tensor& x) -> at::Tensor {
    const auto it = model_.memory().find(block);
    if (it == model_.memory().end()) return {};
    const MemoryLayer& layer = it->second;
    at::Tensor y;
    {
      const at::NoGradGuard no_grad;
      Accesses a;
      if (block == lowest_ && frozen.lowest.defined()) {
        a = frozen.lowest;
      } else {
        a = layer.keys.lookup(x.detach().reshape({-1, x.size(-1)}), mask);
        if (block == lowest_) frozen.lowest = a;
      }
      if (!layer.rows.empty())
        y = weighted_gather(layer.rows.values, layer.rows.index.rows(a.slots), a.weights);
      if (changes != nullptr) {
        const RowChange& change = changes->at(block);
        auto weights = a.weights;
        if (const auto k = options.keep.find(block); k != options.keep.end())
          weights = weights * k->second.unsqueeze(1);
        const auto added = weighted_gather(change.delta, change.index.rows(a.slots), weights);
        y = y.defined() ? y + added : added;
      }
      if (options.values != nullptr) {
        const auto added = weighted_gather(options.values->at(block), options.sites,
                                           at::ones(options.sites.sizes(), at::kFloat));
        y = y.defined() ? y + added : added;
      }
      pass.accesses.emplace(block, std::move(a));
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
  auto h = net.run(frozen.h, lowest_, net.config().blocks, forward);
  h = h.reshape({-1, h.size(-1)}).index_select(0, batch.positions.to(device));
  const auto logits = net.logits(h).to(at::kFloat);
  const auto labels = batch.labels.to(device);
  const auto nll = at::logsumexp(logits, {1}) - logits.gather(1, labels.unsqueeze(1)).squeeze(1);

  // Mean over an example's labels, so that long answers do not outweigh short ones.
  const auto B = static_cast<int64_t>(batch.examples.size());
  const auto owner = batch.owner.to(device);
  const auto count = at::bincount(owner, {}, B).to(at::kFloat);
  const auto per_example =
      at::zeros({B}, nll.options()).index_add(0, owner, nll / count.index_select(0, owner));
  if (options.gradient) {
    std::vector<at::Tensor> leaves;
    for (const auto& [block, y] : outputs) leaves.push_back(y);
    const auto grads = torch::autograd::grad({per_example.sum()}, leaves);
    size_t k = 0;
    for (const auto& [block, y] : outputs) pass.output_gradient[block] = grads[k++].detach();
  }

  const at::NoGradGuard no_grad;
  const auto right = (logits.argmax(1) == labels).to(at::kCPU);
  const auto each = nll.detach().to(at::kCPU);
  const auto mean = per_example.detach().to(at::kCPU);
  pass.example_exact.assign(static_cast<size_t>(B), 1);
  pass.example_worst.assign(static_cast<size_t>(B), 0);
  for (int64_t l = 0; l < each.size(0); ++l) {
    const auto b = static_cast<size_t>(batch.owner.data_ptr<int64_t>()[l]);
    if (!right.data_ptr<bool>()[l]) pass.example_exact[b] = 0;
    pass.example_worst[b] =
        std::max(pass.example_worst[b], static_cast<double>(each.data_ptr<float>()[l]));
  }
  for (int64_t b = 0; b < B; ++b) {
    pass.example_loss.push_back(static_cast<double>(mean.data_ptr<float>()[b]));
    pass.loss += pass.example_loss.back() / static_cast<double>(B);
  }
  return pass;
}

}  // namespace accrete
