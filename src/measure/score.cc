#include "measure/score.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <functional>
#include <numbers>
#include <optional>

#include "base/error.h"
#include "measure/text_metrics.h"
#include "model/answer_pass.h"
#include "model/ask.h"
#include "model/prompt_tree.h"

namespace accrete {

namespace {

// The head's output is large (labels x vocabulary): a bounded number of rows at a time. h [L, d]
// are last states; labels [L] int64 on the CPU; owner(l) is whose label row l is.
void score_labels(const Transformer& net, const at::Tensor& h, const at::Tensor& labels,
                  const std::function<Score&(int64_t)>& owner) {
  const int64_t rows = net.device().is_cpu() ? 128 : 2048;
  for (int64_t at = 0; at < h.size(0); at += rows) {
    const int64_t n = std::min(rows, h.size(0) - at);
    auto logits = net.logits(h.narrow(0, at, n)).to(at::kFloat);
    const auto some = labels.narrow(0, at, n).to(net.device());
    const auto picked = logits.gather(1, some.unsqueeze(1)).squeeze(1);
    const auto right = (logits.argmax(1) == some).to(at::kCPU);
    // log sum exp in place: the logits are what is largest here.
    const auto highest = logits.amax(1);
    logits.sub_(highest.unsqueeze(1)).exp_();
    const auto nll = (logits.sum(1).log() + highest - picked).to(at::kCPU, at::kDouble);
    for (int64_t i = 0; i < n; ++i) {
      Score& s = owner(at + i);
      s.exact = s.exact && right.data_ptr<bool>()[i];
      s.right += right.data_ptr<bool>()[i];
      s.nll += nll.data_ptr<double>()[i];
      ++s.labels;
    }
  }
}

// Whether a tree of the examples is the faster way: where they are so short that batches of them
// are padded much, or share so much of their beginnings.
bool tree_is_faster(const LanguageModel& model, std::span<const StateRequest> requests) {
  constexpr size_t kShort = 64;
  constexpr double kWorthwhile = 0.7;
  if (!PackedPass::supports(model.net())) return false;
  const bool short_ones = std::all_of(requests.begin(), requests.end(), [](const StateRequest& r) {
    return r.tokens.size() <= kShort;
  });
  return short_ones || share_passed_once(requests) < kWorthwhile;
}

}  // namespace

std::vector<Score> score_states(const LanguageModel& model, std::span<const Example> examples,
                                const at::Tensor& states) {
  const c10::InferenceMode inference;
  std::vector<Score> scores(examples.size());
  for (auto& s : scores) s.exact = true;
  std::vector<StateRequest> requests;
  for (const Example& e : examples) requests.push_back(asked_states(e));
  const LabelRows labels = label_rows(examples, requests);
  score_labels(model.net(), states.index_select(0, at::tensor(labels.row, at::kLong)),
               at::tensor(labels.token, at::kLong),
               [&](int64_t l) -> Score& { return scores[labels.example[static_cast<size_t>(l)]]; });
  return scores;
}

std::vector<Score> score_examples(const LanguageModel& model, std::span<const Example> examples,
                                  const Reporter& reporter, std::string_view stage) {
  constexpr int64_t kBatchTokens = 2048;
  const c10::InferenceMode inference;
  const Transformer& net = model.net();
  std::vector<StateRequest> requests;
  for (const Example& e : examples) requests.push_back(asked_states(e));
  if (tree_is_faster(model, requests))
    return score_states(model, examples, tree_states(model, requests, reporter, stage));
  std::vector<Score> scores(examples.size());
  for (auto& s : scores) s.exact = true;
  int64_t done = 0;
  for (const Batch& batch : make_batches(examples, tokens_a_pass(net, kBatchTokens))) {
    reporter.check_cancelled();
    const auto h = AnswerPass(model).run({batch.ids, batch.mask, {}, {}}, batch.positions);
    score_labels(net, h, batch.labels, [&](int64_t l) -> Score& {
      const auto b = static_cast<size_t>(batch.owner.const_data_ptr<int64_t>()[l]);
      return scores[static_cast<size_t>(batch.examples[b])];
    });
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

namespace {

const std::string& prompt_of(const Item& item, bool use_asked) {
  return use_asked && !item.asked.empty() ? item.asked.front()
         : !item.prompts.empty()          ? item.prompts.front()
                                          : item.asked.at(0);
}

// Of a model with facts: the items that accept one, asked to the natural stop. Whether each of
// these says one of its answers; the others stay without a value.
std::vector<std::optional<bool>> said_by_facts(const LanguageModel& model,
                                               std::span<const Item> items,
                                               const ExampleOptions& options, bool use_asked) {
  std::vector<std::optional<bool>> out(items.size());
  std::vector<AskRequest> requests;
  std::vector<size_t> which;
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].kind != Item::Kind::kFact) continue;
    requests.push_back(single_question(model, prompt_of(items[i], use_asked), options.raw));
    if (requests.back().raw) requests.back().text = options.prefix + requests.back().text;
    which.push_back(i);
  }
  const auto choices = choose_facts(model, requests);
  std::vector<AskRequest> accepted;
  std::vector<Choice> taken;
  std::vector<size_t> of;
  for (size_t k = 0; k < requests.size(); ++k) {
    if (!choices[k].taught()) continue;
    accepted.push_back(std::move(requests[k]));
    taken.push_back(choices[k]);
    of.push_back(which[k]);
  }
  constexpr size_t kBatch = 32;
  for (size_t at = 0; at < accepted.size(); at += kBatch) {
    const size_t n = std::min(kBatch, accepted.size() - at);
    const auto said =
        answer_with(model, std::span(accepted).subspan(at, n), std::span(taken).subspan(at, n), {});
    for (size_t k = 0; k < n; ++k)
      out[of[at + k]] = says_exactly(said[k].text, items[of[at + k]].answers);
  }
  return out;
}

}  // namespace

std::vector<Score> score_items(const LanguageModel& model, std::span<const Item> items,
                               const ExampleOptions& options, bool use_asked,
                               const Reporter& reporter, std::string_view stage) {
  std::vector<std::optional<bool>> by_facts(items.size());
  if (model.has_facts()) by_facts = said_by_facts(model, items, options, use_asked);
  std::vector<Example> examples;
  for (size_t i = 0; i < items.size(); ++i) {
    const Item& item = items[i];
    if (item.kind != Item::Kind::kFact || by_facts[i]) continue;
    const std::string& prompt = prompt_of(item, use_asked);
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
  for (size_t i = 0; i < items.size(); ++i)
    if (by_facts[i]) best[i].exact = *by_facts[i];
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
