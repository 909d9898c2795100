#include "learn/pretrain/evaluation.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "io/dataset_formats.h"

namespace accrete {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kEvaluationTokens = 2048;

// Empty where the phrasing leaves nothing to complete or does not fit.
void add_example(const Tokenizer& tokenizer, const std::string& prompt, const std::string& answer,
                 int64_t positions, std::vector<Example>& out) {
  Example e;
  e.tokens = tokenizer.encode(prompt, /*parse_special=*/false);
  const size_t begin = e.tokens.size();
  const auto rest =
      tokenizer.encode(join_prompt(prompt, answer).substr(prompt.size()), /*parse_special=*/false);
  e.tokens.insert(e.tokens.end(), rest.begin(), rest.end());
  if (begin == 0 || rest.empty() || static_cast<int64_t>(e.tokens.size()) > positions) return;
  e.label.assign(e.tokens.size(), 1);
  std::fill(e.label.begin(), e.label.begin() + static_cast<std::ptrdiff_t>(begin), uint8_t{0});
  e.subject.assign(e.tokens.size(), 0);
  out.push_back(std::move(e));
}

}  // namespace

Evaluator::Evaluator(const PretrainConfig& config, const TrainingText& text,
                     const Tokenizer& tokenizer, int32_t end_of_text)
    : windows_(text.held_out), end_of_text_(end_of_text), together_(config.together) {
  for (const auto& window : windows_)
    for (size_t i = 1; i < window.size(); ++i)
      if (window[i] != end_of_text)
        bytes_ += static_cast<double>(tokenizer.decode({&window[i], 1}).size());
  std::vector<size_t> order(text.facts.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  Rng(config.seed).split(11).shuffle(std::span(order));
  if (static_cast<int64_t>(order.size()) > config.facts_asked)
    order.resize(static_cast<size_t>(config.facts_asked));
  for (const size_t i : order) {
    const Item& fact = text.facts[i];
    if (fact.prompts.empty()) continue;
    add_example(tokenizer, fact.prompts.front(), fact.answers.front(), config.model.max_positions,
                taught_);
    if (!fact.asked.empty())
      add_example(tokenizer, fact.asked.front(), fact.answers.front(), config.model.max_positions,
                  asked_);
  }
}

Evaluation Evaluator::operator()(const TrainingNetwork& network) const {
  return {bits_per_byte(network), exact(network, taught_), exact(network, asked_)};
}

double Evaluator::bits_per_byte(const TrainingNetwork& network) const {
  if (windows_.empty() || bytes_ == 0) return kNothing;
  double nats = 0;
  const auto length = static_cast<int64_t>(windows_.front().size());
  for (size_t first = 0; first < windows_.size(); first += static_cast<size_t>(together_)) {
    const size_t last = std::min(windows_.size(), first + static_cast<size_t>(together_));
    auto rows = at::empty({static_cast<int64_t>(last - first), length}, at::kLong);
    for (size_t i = first; i < last; ++i)
      std::copy(windows_[i].begin(), windows_[i].end(),
                rows.data_ptr<int64_t>() + static_cast<int64_t>(i - first) * length);
    const auto labels = rows.narrow(1, 1, length - 1).to(network.device());
    const auto hidden = network.hidden(rows.narrow(1, 0, length - 1).contiguous());
    for (int64_t r = 0; r < rows.size(0); ++r) {
      const auto logits = network.logits(hidden.narrow(0, r * (length - 1), length - 1));
      const auto loss = at::cross_entropy_loss(logits, labels[r], {}, /*none=*/0);
      nats += loss.masked_fill(labels[r] == end_of_text_, 0).to(at::kDouble).sum().item<double>();
    }
  }
  return nats / std::log(2.0) / bytes_;
}

double Evaluator::exact(const TrainingNetwork& network,
                        const std::vector<Example>& examples) const {
  if (examples.empty()) return kNothing;
  int64_t wrong = 0;
  for (const Batch& batch : make_batches(examples, kEvaluationTokens)) {
    const auto hidden =
        network.hidden(batch.ids).index_select(0, batch.positions.to(network.device()));
    const auto miss = network.logits(hidden).argmax(1).cpu() != batch.labels;
    const auto count = static_cast<int64_t>(batch.examples.size());
    wrong += at::bincount(batch.owner, miss.to(at::kFloat), count).gt(0).sum().item<int64_t>();
  }
  return 1 - static_cast<double>(wrong) / static_cast<double>(examples.size());
}

}  // namespace accrete
