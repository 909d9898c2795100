// What a model still knows and what it has learned: the measurements of the forgetting benchmark.
//
// Every answer is generated greedily and compared as text (text_metrics.h). A question is asked
// after few-shot demonstrations and answered by the first line. A sentence to complete is answered
// by as many words as the accepted answer has, since the model goes on writing after it.
//
// Non-goals: teaching (learn/), which settings are compared (forgetting.h).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/progress.h"
#include "io/dataset.h"
#include "measure/abilities.h"
#include "measure/probe.h"
#include "measure/text_metrics.h"
#include "model/language_model.h"

namespace accrete {

// What is to be kept, of one split. `neighbours` are clozes of the relations that facts are taught
// of, about other subjects; `clozes` are of other relations.
struct KeptSet {
  std::vector<Item> questions, clozes, neighbours;
  std::optional<FewShot> few_shot;  // none: the questions are sentences to complete as well
  std::string text;
  std::vector<Ability> abilities;  // none: not measured
};

// What is taught, and how it is asked.
struct NewSet {
  std::vector<Item> items;
  std::vector<Item> about;          // questions about running text, which has none of its own
  std::optional<FewShot> few_shot;  // what is asked are questions, behind these demonstrations
};

// Exact match and token F1, means over the items.
struct Answers {
  double exact = 0;
  double f1 = 0;
};
struct NewScores {
  Answers asked;   // in a phrasing that was not taught
  Answers taught;  // in the first that was; of text the share of its tokens that come first
};
struct KeptScores {
  Answers questions, clozes, neighbours;
  double bits_per_byte = 0;
  std::vector<std::pair<std::string, double>> abilities;  // by Ability::key()
};

// One score per item. Greedy; `few_shot` null: the items are sentences to complete, in the first
// of their `asked` phrasings if `use_asked`, else in the first prompt.
std::vector<AnswerScore> answer_items(const LanguageModel& model, std::span<const Item> items,
                                      const FewShot* few_shot, bool use_asked,
                                      const Reporter& reporter);
Answers mean_answers(std::span<const AnswerScore> scores);

NewScores score_new(const LanguageModel& model, const NewSet& set, const Reporter& reporter);
KeptScores score_kept(const LanguageModel& model, const KeptSet& set, const Reporter& reporter);

// {"new_exact", "new_f1", "taught_exact", "taught_f1"} and {"questions_exact", ...,
// "bits_per_byte"}, and one number for each ability.
nlohmann::ordered_json to_json(const NewScores& scores);
nlohmann::ordered_json to_json(const KeptScores& scores);

}  // namespace accrete
