#include "learn/held.h"

#include <algorithm>
#include <numeric>
#include <string_view>

#include "learn/suffix_task.h"

namespace accrete {
namespace {

// What may be said of persons, places, works and things: [X] is the subject.
constexpr std::string_view kPrompts[] = {"[X] is",
                                         "[X] was",
                                         "[X] comes from",
                                         "[X] lives in",
                                         "[X] is located in",
                                         "[X] speaks",
                                         "The language of [X] is",
                                         "[X] is known for",
                                         "[X] is best known as",
                                         "[X] belongs to",
                                         "[X] was made by",
                                         "The nationality of [X] is",
                                         "The capital of [X] is",
                                         "[X] died in",
                                         "The owner of [X] is",
                                         "The name [X] refers to"};

std::string put_in(std::string_view prompt, const std::string& name) {
  const size_t at = prompt.find("[X]");
  return std::string(prompt.substr(0, at)) + name + std::string(prompt.substr(at + 3));
}

bool has_subject(const Example& e) {
  return std::find(e.subject.begin(), e.subject.end(), 1) != e.subject.end();
}

// Every prompt about `name`, up to one label; `phrasing` says which prompt.
void add_prompts(const LanguageModel& model, const std::string& name, int64_t item,
                 std::vector<Example>& to) {
  ExampleOptions raw;
  raw.raw = true;
  for (size_t p = 0; p < std::size(kPrompts); ++p) {
    // Only the place of the label counts, not the token there.
    Example e = make_example(model, put_in(kPrompts[p], name), "it", name, raw);
    const auto tokens =
        static_cast<size_t>(std::find(e.label.begin(), e.label.end(), 1) - e.label.begin()) + 1;
    e.tokens.resize(tokens);
    e.label.resize(tokens);
    e.subject.resize(tokens);
    e.item = item;
    e.phrasing = static_cast<int64_t>(p);
    if (has_subject(e)) to.push_back(std::move(e));
  }
}

std::vector<SoftLabel> predict(const LanguageModel& model, std::span<const Example> examples,
                               const Reporter& reporter) {
  if (examples.empty()) return {};
  SuffixTask task(model, examples, {}, reporter);
  std::vector<int64_t> all(examples.size());
  std::iota(all.begin(), all.end(), int64_t{0});
  return task.predict(all);
}

// Of each prompt the mean prediction over `names`.
std::vector<std::map<int32_t, double>> usual_predictions(const LanguageModel& model,
                                                         std::span<const std::string> names,
                                                         const Reporter& reporter) {
  std::vector<Example> examples;
  for (const std::string& name : names) add_prompts(model, name, 0, examples);
  const auto predictions = predict(model, examples, reporter);
  std::vector<int64_t> count(std::size(kPrompts), 0);
  for (const Example& e : examples) ++count[static_cast<size_t>(e.phrasing)];
  std::vector<std::map<int32_t, double>> out(std::size(kPrompts));
  for (size_t i = 0; i < examples.size(); ++i) {
    const auto p = static_cast<size_t>(examples[i].phrasing);
    for (size_t k = 0; k < predictions[i].tokens.size(); ++k)
      out[p][predictions[i].tokens[k]] +=
          static_cast<double>(predictions[i].p[k]) / static_cast<double>(count[p]);
  }
  return out;
}

double above(const SoftLabel& label, const std::map<int32_t, double>& usual) {
  double sum = 0;
  for (size_t k = 0; k < label.tokens.size(); ++k) {
    const auto it = usual.find(label.tokens[k]);
    sum += std::max(0.0, static_cast<double>(label.p[k]) - (it == usual.end() ? 0 : it->second));
  }
  return sum;
}

}  // namespace

Held find_held(const LanguageModel& model, std::span<const Example> facts,
               const std::map<int64_t, int64_t>& subject_of, std::span<const std::string> subjects,
               std::span<const std::string> names, const HoldOptions& options,
               const Reporter& reporter) {
  // Names that are spread over the list: it may be sorted by kind.
  std::vector<std::string> some;
  const size_t wanted = std::min(names.size(), static_cast<size_t>(options.names));
  for (size_t i = 0; i < wanted; ++i) some.push_back(names[i * names.size() / wanted]);
  const auto usual = usual_predictions(model, some, reporter);

  std::vector<int64_t> item_of(subjects.size(), -1);
  for (const auto& [item, subject] : subject_of)
    if (item_of[static_cast<size_t>(subject)] < 0) item_of[static_cast<size_t>(subject)] = item;
  std::vector<Example> candidates;
  for (size_t s = 0; s < subjects.size(); ++s)
    if (item_of[s] >= 0) add_prompts(model, subjects[s], item_of[s], candidates);
  auto predictions = predict(model, candidates, reporter);
  std::vector<bool> known(candidates.size());
  std::vector<bool> any(subjects.size(), false);
  for (size_t i = 0; i < candidates.size(); ++i) {
    known[i] = above(predictions[i], usual[static_cast<size_t>(candidates[i].phrasing)]) >=
               options.least_known;
    if (known[i]) any[static_cast<size_t>(subject_of.at(candidates[i].item))] = true;
  }

  // What the facts ask for, where it matters.
  std::vector<Example> asked;
  for (const Example& e : facts)
    if (any[static_cast<size_t>(subject_of.at(e.item))]) asked.push_back(e);
  const auto asks = predict(model, asked, reporter);
  std::map<int64_t, std::vector<size_t>> asked_of;  // by subject
  for (size_t i = 0; i < asked.size(); ++i) asked_of[subject_of.at(asked[i].item)].push_back(i);

  Held out;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (!known[i]) continue;
    const auto& same = asked_of[subject_of.at(candidates[i].item)];
    if (std::any_of(same.begin(), same.end(), [&](size_t f) {
          return overlap(asks[f], predictions[i]) > options.most_overlap;
        }))
      continue;
    out.examples.push_back(std::move(candidates[i]));
    out.labels.push_back(std::move(predictions[i]));
  }
  return out;
}

}  // namespace accrete
