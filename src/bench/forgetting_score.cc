#include "bench/forgetting_score.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "measure/score.h"
#include "model/generate.h"

namespace accrete {
namespace {

size_t count_words(const std::string& text) {
  std::istringstream in(text);
  size_t n = 0;
  for (std::string w; in >> w;) ++n;
  return n;
}

std::string first_words(const std::string& text, size_t n) {
  std::istringstream in(text);
  std::string out;
  for (std::string w; n > 0 && in >> w; --n) out += (out.empty() ? "" : " ") + w;
  return out;
}

}  // namespace

std::vector<AnswerScore> answer_items(const LanguageModel& model, std::span<const Item> items,
                                      const FewShot* few_shot, bool use_asked,
                                      const Reporter& reporter) {
  constexpr size_t kBatch = 64;
  constexpr int64_t kAnswerTokens = 16;  // of a question
  ExampleOptions raw;
  raw.raw = true;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<int64_t> tokens;  // that an answer may take
  for (const Item& item : items) {
    const std::string& prompt =
        use_asked && !item.asked.empty() ? item.asked.front() : item.prompts.front();
    prompts.push_back(encode_prompt(
        model, few_shot != nullptr ? few_shot_prompt(*few_shot, prompt) : prompt, raw));
    int64_t longest = kAnswerTokens;
    if (few_shot == nullptr) {
      longest = 0;
      for (const auto& answer : item.answers)
        longest =
            std::max(longest, static_cast<int64_t>(model.tokenizer().encode(" " + answer).size()));
      longest += 2;  // the rest of a word that begins like the answer, a punctuation mark
    }
    tokens.push_back(longest);
  }
  // Prompts of similar length together: less padding.
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return prompts[a].size() < prompts[b].size(); });
  std::vector<AnswerScore> scores(items.size());
  for (size_t at = 0; at < order.size(); at += kBatch) {
    reporter.check_cancelled();
    const size_t end = std::min(order.size(), at + kBatch);
    std::vector<std::vector<int32_t>> batch;
    GenerateOptions options;
    options.max_tokens = 0;
    if (few_shot != nullptr) options.stop = {"\n"};
    for (size_t i = at; i < end; ++i) {
      batch.push_back(prompts[order[i]]);
      options.max_tokens = std::max(options.max_tokens, tokens[order[i]]);
    }
    const auto outputs = generate(model, batch, options, nullptr, reporter);
    for (size_t i = at; i < end; ++i) {
      const Item& item = items[order[i]];
      const std::string& said = outputs[i - at].text;
      AnswerScore& best = scores[order[i]];
      for (const auto& answer : item.answers) {
        const std::string cut = few_shot != nullptr ? said : first_words(said, count_words(answer));
        best.exact = best.exact || exact_match(cut, answer);
        best.f1 = std::max(best.f1, token_f1(cut, answer));
      }
    }
    reporter.report("ask", static_cast<int64_t>(end), static_cast<int64_t>(order.size()));
  }
  return scores;
}

Answers mean_answers(std::span<const AnswerScore> scores) {
  Answers mean;
  if (scores.empty()) return mean;
  for (const AnswerScore& s : scores) {
    mean.exact += s.exact ? 1 : 0;
    mean.f1 += s.f1;
  }
  mean.exact /= static_cast<double>(scores.size());
  mean.f1 /= static_cast<double>(scores.size());
  return mean;
}

NewScores score_new(const LanguageModel& model, const NewSet& set, const Reporter& reporter) {
  NewScores scores;
  const FewShot* few_shot = set.few_shot ? &*set.few_shot : nullptr;
  scores.asked = mean_answers(
      answer_items(model, set.about.empty() ? set.items : set.about, few_shot, true, reporter));
  if (set.about.empty()) {
    scores.taught = mean_answers(answer_items(model, set.items, nullptr, false, reporter));
    return scores;
  }
  ExampleOptions raw;
  raw.raw = true;
  double right = 0, labels = 0;
  for (const Score& s :
       score_examples(model, make_examples(model, set.items, raw), reporter, "read")) {
    right += static_cast<double>(s.right);
    labels += static_cast<double>(s.labels);
  }
  scores.taught.exact = scores.taught.f1 = labels > 0 ? right / labels : 0;
  return scores;
}

KeptScores score_kept(const LanguageModel& model, const KeptSet& set, const Reporter& reporter) {
  KeptScores scores;
  scores.questions = mean_answers(
      answer_items(model, set.questions, set.few_shot ? &*set.few_shot : nullptr, false, reporter));
  std::vector<Item> clozes = set.neighbours;
  clozes.insert(clozes.end(), set.clozes.begin(), set.clozes.end());
  const auto each = answer_items(model, clozes, nullptr, false, reporter);
  scores.neighbours = mean_answers(std::span(each).first(set.neighbours.size()));
  scores.clozes = mean_answers(std::span(each).subspan(set.neighbours.size()));
  const std::string texts[] = {set.text};
  scores.bits_per_byte = bits_per_byte(model, texts, reporter);
  for (const Ability& ability : set.abilities)
    scores.abilities.emplace_back(ability.key(), ability_score(model, ability, reporter));
  return scores;
}

nlohmann::ordered_json to_json(const NewScores& scores) {
  return {{"new_exact", scores.asked.exact},
          {"new_f1", scores.asked.f1},
          {"taught_exact", scores.taught.exact},
          {"taught_f1", scores.taught.f1}};
}

nlohmann::ordered_json to_json(const KeptScores& scores) {
  nlohmann::ordered_json json = {
      {"questions_exact", scores.questions.exact},   {"questions_f1", scores.questions.f1},
      {"clozes_exact", scores.clozes.exact},         {"clozes_f1", scores.clozes.f1},
      {"neighbours_exact", scores.neighbours.exact}, {"neighbours_f1", scores.neighbours.f1},
      {"bits_per_byte", scores.bits_per_byte}};
  for (const auto& [key, value] : scores.abilities) json[key] = value;
  return json;
}

}  // namespace accrete
