#include "model/examples.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/format.h"

namespace accrete {
namespace {

void append(Example& example, std::span<const int32_t> ids, bool label) {
  example.tokens.insert(example.tokens.end(), ids.begin(), ids.end());
  example.label.insert(example.label.end(), ids.size(), label ? 1 : 0);
}

// Marks the tokens of [0, prompt_tokens) whose bytes overlap an occurrence of `subject`; of several
// occurrences the last, which is the user's.
void mark_subject(const LanguageModel& model, Example& example, size_t prompt_tokens,
                  const std::string& subject) {
  example.subject.assign(example.tokens.size(), 0);
  if (subject.empty()) return;
  std::string text;
  std::vector<size_t> end;
  for (size_t i = 0; i < prompt_tokens; ++i) {
    text += model.tokenizer().decode({&example.tokens[i], 1});
    end.push_back(text.size());
  }
  const size_t at = text.rfind(subject);
  if (at == std::string::npos) return;
  for (size_t i = 0; i < prompt_tokens; ++i) {
    const size_t begin = i == 0 ? 0 : end[i - 1];
    if (begin < at + subject.size() && end[i] > at) example.subject[i] = 1;
  }
}

[[noreturn]] void nothing_to_learn(int64_t line) {
  throw Error(ErrorCode::kInvalidArgument,
              accrete::format("line {}: nothing is left to predict once the text is tokens", line),
              "give a longer text or completion");
}

void add_text(const LanguageModel& model, const Item& item, int64_t index, int64_t window,
              std::vector<Example>& out) {
  const auto ids = model.tokenizer().encode(item.text);
  if (ids.size() < 2) nothing_to_learn(item.line);
  // Windows overlap by one token, so that every token but the first is a label exactly once.
  for (size_t at = 0; at + 1 < ids.size(); at += static_cast<size_t>(window)) {
    const size_t n = std::min(ids.size() - at, static_cast<size_t>(window) + 1);
    Example e;
    append(e, model.tokenizer().opening(), false);
    append(e, std::span(ids).subspan(at, 1), false);
    append(e, std::span(ids).subspan(at + 1, n - 1), true);
    e.subject.assign(e.tokens.size(), 0);
    e.item = index;
    out.push_back(std::move(e));
  }
}

// What the last message, the assistant's, is behind `prompt`, which it answers: as the template
// writes it, up to the end of the turn.
std::string said_in(const ChatTemplate& chat, std::span<const Message> messages,
                    const std::string& prompt) {
  const std::string& end = chat.end_of_turn();
  const std::string whole = chat.render(messages, false);
  if (!end.empty() && whole.starts_with(prompt)) {
    const size_t at = whole.rfind(end);
    if (at != std::string::npos && at >= prompt.size())
      return whole.substr(prompt.size(), at + end.size() - prompt.size());
  }
  return messages.back().content + end;
}

Example from_messages(const LanguageModel& model, const Item& item, int64_t index, bool raw) {
  if (!model.uses_chat(raw))
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("line {}: a conversation needs a chat template", item.line),
                raw ? "leave --raw away" : "this model has none: teach prompts and completions");
  // Render turn by turn: what a prefix of the conversation does not have yet is the next turn.
  Example e;
  std::string done;
  const auto& chat = *model.chat();
  const std::span<const Message> messages = item.messages;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "assistant" || i == 0) continue;
    const std::string prompt = chat.render(messages.first(i), true);
    if (!prompt.starts_with(done))
      throw Error(
          ErrorCode::kUnsupported,
          accrete::format("line {}: the model's chat template rewrites earlier answers once "
                          "others follow",
                          item.line),
          "teach the turns one by one");
    append(e, model.tokenizer().encode(prompt.substr(done.size())), false);
    const std::string said = said_in(chat, messages.first(i + 1), prompt);
    append(e, model.tokenizer().encode(said), true);
    done = prompt + said;
  }
  if (std::count(e.label.begin(), e.label.end(), 1) == 0) nothing_to_learn(item.line);
  e.subject.assign(e.tokens.size(), 0);
  e.item = index;
  return e;
}

}  // namespace

std::vector<int32_t> encode_prompt(const LanguageModel& model, const std::string& prompt,
                                   const ExampleOptions& options) {
  const bool chat = model.uses_chat(options.raw);
  const auto ids = chat ? model.tokenizer().encode(model.prompt_text(prompt, false))
                        : model.tokenizer().encode_text(options.prefix + prompt);
  if (ids.empty()) throw Error(ErrorCode::kInvalidArgument, "the prompt is empty", "give a text");
  return ids;
}

Example make_example(const LanguageModel& model, const std::string& prompt,
                     const std::string& completion, const std::string& subject,
                     const ExampleOptions& options) {
  Example e;
  append(e, encode_prompt(model, prompt, options), false);
  const size_t prompt_tokens = e.tokens.size();
  const auto answer =
      model.tokenizer().encode(model.completion_text(prompt, completion, options.raw));
  if (answer.empty())
    throw Error(ErrorCode::kInvalidArgument, "the completion is empty", "give a text");
  append(e, answer, true);
  mark_subject(model, e, prompt_tokens, subject);
  return e;
}

std::vector<Example> make_examples(const LanguageModel& model, std::span<const Item> items,
                                   const ExampleOptions& options) {
  std::vector<Example> out;
  for (size_t i = 0; i < items.size(); ++i) {
    const Item& item = items[i];
    const auto index = static_cast<int64_t>(i);
    switch (item.kind) {
      case Item::Kind::kText:
        add_text(model, item, index, options.window, out);
        break;
      case Item::Kind::kMessages:
        out.push_back(from_messages(model, item, index, options.raw));
        break;
      case Item::Kind::kFact:
        for (size_t p = 0; p < item.prompts.size(); ++p) {
          out.push_back(
              make_example(model, item.prompts[p], item.answers.at(0), item.subject, options));
          out.back().item = index;
          out.back().phrasing = static_cast<int64_t>(p);
        }
        break;
    }
    const auto limit = static_cast<size_t>(model.net().config().max_positions);
    if (!out.empty() && out.back().tokens.size() > limit)
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("line {}: {} tokens do not fit the model's {} positions",
                                  item.line, out.back().tokens.size(), limit),
                  "split the item");
  }
  return out;
}

Batch make_batch(std::span<const Example> examples, std::span<const int64_t> which) {
  Batch batch;
  batch.examples.assign(which.begin(), which.end());
  const int64_t B = static_cast<int64_t>(which.size());
  int64_t T = 1;
  for (int64_t i : which)
    T = std::max(T, static_cast<int64_t>(examples[static_cast<size_t>(i)].tokens.size()) - 1);
  batch.ids = at::zeros({B, T}, at::kLong);
  batch.mask = at::zeros({B, T}, at::kBool);
  batch.subject = at::zeros({B, T}, at::kBool);
  auto* ids = batch.ids.data_ptr<int64_t>();
  auto* mask = batch.mask.data_ptr<bool>();
  auto* subject = batch.subject.data_ptr<bool>();
  std::vector<int64_t> positions, labels, owner;
  for (int64_t b = 0; b < B; ++b) {
    const Example& e = examples[static_cast<size_t>(which[static_cast<size_t>(b)])];
    const int64_t n = static_cast<int64_t>(e.tokens.size()) - 1;
    for (int64_t t = 0; t < n; ++t) {
      const auto i = static_cast<size_t>(t);
      ids[b * T + t] = e.tokens[i];
      mask[b * T + t] = true;
      subject[b * T + t] = e.subject[i] != 0;
      if (e.label[i + 1] != 0) {
        positions.push_back(b * T + t);
        labels.push_back(e.tokens[i + 1]);
        owner.push_back(b);
      }
    }
  }
  batch.positions = at::tensor(positions, at::kLong);
  batch.labels = at::tensor(labels, at::kLong);
  batch.owner = at::tensor(owner, at::kLong);
  return batch;
}

std::vector<Batch> make_batches(std::span<const Example> examples, int64_t tokens) {
  std::vector<int64_t> all(examples.size());
  std::iota(all.begin(), all.end(), 0);
  return make_batches(examples, std::move(all), tokens);
}

std::vector<Batch> make_batches(std::span<const Example> examples, std::vector<int64_t> order,
                                int64_t tokens) {
  const auto length = [&](int64_t i) {
    return static_cast<int64_t>(examples[static_cast<size_t>(i)].tokens.size());
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return length(a) < length(b); });
  std::vector<Batch> batches;
  for (size_t i = 0; i < order.size();) {
    size_t n = 1;  // sorted: the last taken is the longest
    while (i + n < order.size() && static_cast<int64_t>(n + 1) * length(order[i + n]) <= tokens)
      ++n;
    batches.push_back(make_batch(examples, std::span(order).subspan(i, n)));
    i += n;
  }
  return batches;
}

}  // namespace accrete
