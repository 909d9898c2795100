#include "bench/baselines/finetune.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/format.h"
#include "learn/low_precision.h"
#include "memory/random_tensors.h"

namespace accrete {
namespace {

// Tokens of one forward and backward pass; a step may take several.
constexpr int64_t kPassTokens = 1024;

// Mean loss of each example's labels, summed over the examples.
at::Tensor summed_loss(const LanguageModel& model, const Batch& batch) {
  const Transformer& net = model.net();
  const FfnSide side = model.side(batch.mask);
  ForwardOptions forward;
  forward.side = &side;
  auto h = net.run(net.embed(batch.ids.to(net.device())), 0, net.config().blocks, forward);
  h = h.reshape({-1, h.size(-1)}).index_select(0, batch.positions.to(net.device()));
  const auto labels = batch.labels.to(net.device());
  const auto nll = at::cross_entropy_loss(net.logits(h).to(at::kFloat), labels, {}, /*none=*/0);
  const auto owner = batch.owner.to(net.device());
  const auto count =
      at::bincount(owner, {}, static_cast<int64_t>(batch.examples.size())).to(at::kFloat);
  return (nll / count.index_select(0, owner)).sum();
}

}  // namespace

std::vector<Example> background_examples(const LanguageModel& model,
                                         std::span<const std::string> documents, int64_t tokens,
                                         size_t limit, Rng rng) {
  std::vector<size_t> order(documents.size());
  std::iota(order.begin(), order.end(), size_t{0});
  rng.shuffle(std::span(order));
  std::vector<Example> out;
  for (const size_t i : order) {
    if (out.size() >= limit) break;
    // A token has rarely more than 16 bytes; no character is cut.
    std::string_view text = documents[i];
    if (auto end = static_cast<size_t>(16 * tokens); end < text.size()) {
      while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
      text = text.substr(0, end);
    }
    auto ids = model.tokenizer().encode_text(text);
    if (static_cast<int64_t>(ids.size()) <= tokens) continue;
    ids.resize(static_cast<size_t>(tokens));
    Example e;
    e.label.assign(ids.size(), 1);
    e.label[0] = 0;
    e.subject.assign(ids.size(), 0);
    e.tokens = std::move(ids);
    out.push_back(std::move(e));
  }
  return out;
}

Finetune::Finetune(LanguageModel& model, std::vector<Example> background,
                   const FinetuneOptions& options)
    : model_(model),
      original_(model.net()),
      background_(std::move(background)),
      options_(options),
      order_(Rng(options.seed).split(21)),
      replay_(Rng(options.seed).split(22)) {
  if (options.batch < 1 || options.rank < 0 || !(options.replay >= 0 && options.replay < 1) ||
      !(options.ewc >= 0))
    throw Error(ErrorCode::kInvalidArgument, "impossible options of a finetune");
  if ((options.replay > 0 || options.ewc > 0) && background_.empty())
    throw Error(ErrorCode::kInvalidArgument, "replay and EWC need background text");
  if (original_.dtype() != at::kFloat)
    throw Error(ErrorCode::kUnsupported, "finetuning computes in float32", "leave --dtype away");
  Transformer net = original_;
  const auto add = [&](const std::string& name, at::Tensor tensor) {
    tensor = tensor.to(net.device()).set_requires_grad(true);
    parameters_.emplace_back(name, tensor);
    tensors_.push_back(tensor);
    return tensor;
  };
  if (options.rank > 0) {
    const Rng rng = Rng(options.seed).split(20);
    uint64_t stream = 0;
    net.each_linear([&](const std::string& name, Linear& linear) {
      const int64_t out = linear.weight.size(0), in = linear.weight.size(1);
      linear.a = add(name + ".lora_A",
                     random_uniform({options.rank, in}, 1 / std::sqrt(static_cast<double>(in)),
                                    rng.split(stream++)));
      linear.b = add(name + ".lora_B", at::zeros({out, options.rank}, at::kFloat));
      linear.scale = options.alpha / static_cast<double>(options.rank);
    });
  } else {
    net.each_weight([&](const std::string& name, at::Tensor& weight) {
      weight = add(name, weight.detach().to(at::kFloat, /*non_blocking=*/false, /*copy=*/true));
    });
  }
  for (const auto& t : tensors_) cost_.parameters += t.numel();
  cost_.low_precision = options.low_precision;
  optimizer_ = std::make_unique<Optimizer>(tensors_, options.optimizer);
  model_.set_net(std::move(net));
  try {
    if (options.ewc > 0) measure_fisher();
  } catch (...) {
    model_.set_net(original_);
    throw;
  }
}

Finetune::~Finetune() {
  model_.set_net(original_);
}

double Finetune::accumulate(std::span<const Example> examples, double share,
                            std::vector<at::Tensor>& gradients) {
  double sum = 0;
  for (const Batch& batch : make_batches(examples, kPassTokens)) {
    const at::AutoGradMode grad_mode(true);
    const auto loss = summed_loss(model_, batch);
    sum += loss.item<double>();
    auto fresh = torch::autograd::grad({loss * share}, tensors_);
    cost_.tokens += batch.mask.sum().item<int64_t>();
    if (gradients.empty()) {
      gradients = std::move(fresh);
    } else {
      const at::NoGradGuard no_grad;
      at::_foreach_add_(gradients, fresh);
    }
  }
  return sum;
}

void Finetune::measure_fisher() {
  const at::NoGradGuard no_grad;
  const LowPrecisionProducts products(options_.low_precision);
  for (const auto& t : tensors_) {
    anchor_.push_back(t.detach().clone());
    fisher_.push_back(at::zeros_like(anchor_.back()));
  }
  const auto n = std::min(background_.size(), static_cast<size_t>(options_.ewc_samples));
  for (size_t i = 0; i < n; ++i) {
    std::vector<at::Tensor> gradient;
    // Of the sum over the window's labels, as one sample of its log-likelihood.
    const auto labels = static_cast<double>(background_[i].tokens.size() - 1);
    accumulate({&background_[i], 1}, labels, gradient);
    at::_foreach_addcmul_(fisher_, gradient, gradient, 1.0 / static_cast<double>(n));
  }
}

double Finetune::step(std::span<const Example> examples) {
  std::vector<Example> replayed;
  if (options_.replay > 0) {
    const double share = options_.replay / (1 - options_.replay);
    const auto n = std::max<int64_t>(1, std::llround(share * static_cast<double>(examples.size())));
    for (int64_t i = 0; i < n; ++i)
      replayed.push_back(background_[replay_.below(background_.size())]);
  }
  if (options_.observe) options_.observe(examples);
  const double share = 1 / static_cast<double>(examples.size() + replayed.size());
  std::vector<at::Tensor> gradients;
  const double loss = accumulate(examples, share, gradients) / static_cast<double>(examples.size());
  if (!std::isfinite(loss))
    throw Error(ErrorCode::kRefused, "the loss is no longer finite", "lower the rate");
  if (!replayed.empty()) accumulate(replayed, share, gradients);
  if (options_.ewc > 0) {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < tensors_.size(); ++i)
      gradients[i].add_(fisher_[i] * (tensors_[i] - anchor_[i]), options_.ewc);
  }
  optimizer_->step(std::move(gradients));
  cost_.losses.push_back(loss);
  return loss;
}

void Finetune::learn(std::span<const Item> items, int64_t passes, const Reporter& reporter) {
  const LowPrecisionProducts products(options_.low_precision);
  ExampleOptions how;
  how.raw = options_.raw;
  const auto examples = make_examples(model_, items, how);
  const auto size = static_cast<size_t>(options_.batch);
  const auto batches = (examples.size() + size - 1) / size;
  int64_t done = 0;
  for (int64_t pass = 0; pass < passes; ++pass) {
    // Batches of similar length, drawn anew in each pass, in random order.
    std::vector<size_t> order(examples.size()), batch_order(batches);
    std::iota(order.begin(), order.end(), size_t{0});
    std::iota(batch_order.begin(), batch_order.end(), size_t{0});
    order_.shuffle(std::span(order));
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return examples[a].tokens.size() < examples[b].tokens.size();
    });
    order_.shuffle(std::span(batch_order));
    for (const size_t b : batch_order) {
      reporter.check_cancelled();
      std::vector<Example> batch;
      for (size_t i = b * size; i < std::min(order.size(), (b + 1) * size); ++i)
        batch.push_back(examples[order[i]]);
      const double loss = step(batch);
      reporter.report("finetune", ++done, static_cast<int64_t>(batches) * passes,
                      accrete::format("loss {:.3f}", loss));
    }
  }
}

}  // namespace accrete
