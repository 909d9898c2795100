#include "eval/score.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <numbers>

#include "base/error.h"
#include "model/answer_pass.h"

namespace accrete {

std::vector<Score> score_examples(const LanguageModel& model, std::span<const Example> examples,
                                  const Reporter& reporter, std::string_view stage,
                                  int64_t batch_tokens) {
  const c10::InferenceMode inference;
  const Transformer& net = model.net();
  std::vector<Score> scores(examples.size());
  for (auto& s : scores) s.exact = true;
  int64_t done = 0;
  for (const Batch& batch : make_batches(examples, tokens_a_pass(net, batch_tokens))) {
    reporter.check_cancelled();
    const auto h = AnswerPass(model).run({batch.ids, batch.mask, {}, {}}, batch.positions);
    // The head's output is large (labels x vocabulary): a bounded number of rows at a time.
    const int64_t rows = net.device().is_cpu() ? 128 : 2048;
    for (int64_t at = 0; at < h.size(0); at += rows) {
      const int64_t n = std::min(rows, h.size(0) - at);
      const auto logits = net.logits(h.narrow(0, at, n)).to(at::kFloat);
      const auto labels = batch.labels.narrow(0, at, n).to(net.device());
      const auto picked = logits.gather(1, labels.unsqueeze(1)).squeeze(1);
      const auto nll = (at::logsumexp(logits, {1}) - picked).to(at::kCPU, at::kDouble);
      const auto right = (logits.argmax(1) == labels).to(at::kCPU);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t b = batch.owner.data_ptr<int64_t>()[at + i];
        Score& s = scores[static_cast<size_t>(batch.examples[static_cast<size_t>(b)])];
        s.exact = s.exact && right.data_ptr<bool>()[i];
        s.right += right.data_ptr<bool>()[i];
        s.nll += nll.data_ptr<double>()[i];
        ++s.labels;
      }
    }
    done += static_cast<int64_t>(batch.examples.size());
    reporter.report(stage, done, static_cast<int64_t>(examples.size()));
  }
  return scores;
}

double exact_rate(std::span<const Score> scores) {
  if (scores.empty()) return 0;
  const auto n =
      std::count_if(scores.begin(), scores.end(), [](const Score& s) { return s.exact; });
  return static_cast<double>(n) / static_cast<double>(scores.size());
}

std::vector<Score> score_items(const LanguageModel& model, std::span<const Item> items,
                               const ExampleOptions& options, bool use_asked,
                               const Reporter& reporter, std::string_view stage) {
  std::vector<Example> examples;
  for (size_t i = 0; i < items.size(); ++i) {
    const Item& item = items[i];
    if (item.kind != Item::Kind::kFact) continue;
    const std::string& prompt = use_asked && !item.asked.empty() ? item.asked.front()
                                : !item.prompts.empty()          ? item.prompts.front()
                                                                 : item.asked.at(0);
    for (const auto& answer : item.answers) {
      examples.push_back(make_example(model, prompt, answer, "", options));
      examples.back().item = static_cast<int64_t>(i);
    }
  }
  const auto each = score_examples(model, examples, reporter, stage);
  std::vector<Score> best(items.size());
  std::vector<bool> seen(items.size(), false);
  for (size_t k = 0; k < examples.size(); ++k) {
    const auto i = static_cast<size_t>(examples[k].item);
    const bool better = !seen[i] || (each[k].exact && !best[i].exact) ||
                        (each[k].exact == best[i].exact && each[k].nll < best[i].nll);
    if (better) best[i] = each[k];
    seen[i] = true;
  }
  return best;
}

double bits_per_byte(const LanguageModel& model, std::span<const std::string> texts,
                     const Reporter& reporter, int64_t window) {
  std::vector<Item> items;
  size_t bytes = 0;
  for (const auto& text : texts) {
    Item item;
    item.kind = Item::Kind::kText;
    item.text = text;
    items.push_back(std::move(item));
    bytes += text.size();
  }
  if (bytes == 0) throw Error(ErrorCode::kInvalidArgument, "the text is empty");
  ExampleOptions options;
  options.raw = true;
  options.window = window;
  const auto scores = score_examples(model, make_examples(model, items, options), reporter, "text");
  double nll = 0;
  for (const Score& s : scores) nll += s.nll;
  return nll / std::numbers::ln2 / static_cast<double>(bytes);
}

}  // namespace accrete
