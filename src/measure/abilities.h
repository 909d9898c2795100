// Abilities: reading and reasoning tasks that no taught fact is about, measured by likelihood.
//
// A task is a JSONL file; each line has a `prompt` and either
//   `choices` and `right` (an index): right when that choice is the likeliest continuation, summed
//     over its tokens (ARC, PIQA, BoolQ),
//   `answer`: right when it is what greedy decoding writes (LAMBADA), or
//   `solution`: a text to be predicted (GSM8K).
// The first two give a share of right lines, the last nats per token.
//
// Non-goals: few-shot demonstrations, comparison with published figures (samples are small).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "measure/score.h"
#include "model/language_model.h"

namespace accrete {

struct AbilityItem {
  std::string prompt;
  std::vector<std::string> choices;  // one: an answer or a solution
  int64_t right = 0;
};

struct Ability {
  enum class Metric { kAccuracy, kExact, kNatsPerToken };
  std::string name;  // the file's, without its ending
  Metric metric = Metric::kAccuracy;
  std::vector<AbilityItem> items;

  // "arc_easy_accuracy", "gsm8k_nats": the score's name in results.
  std::string key() const;
};

// Every *.jsonl of the folder, by name. Throws kNotFound (no folder), kFormat (a line that is none
// of the three, or another kind than the first).
std::vector<Ability> read_abilities(const std::filesystem::path& folder);

// A file of questions with choices; nullopt: its first line is none. Throws as read_abilities().
std::optional<Ability> read_choices(const std::filesystem::path& file);

// One a choice, in order; prompts are raw text, and no fact is asked.
std::vector<Score> choice_scores(const LanguageModel& model, const Ability& ability,
                                 const Reporter& reporter = {});
// Which of an item's choices, by their scores.
int64_t likeliest(std::span<const Score> scores);

// A share in [0, 1], or nats per token; prompts are raw text.
double ability_score(const LanguageModel& model, const Ability& ability,
                     const Reporter& reporter = {});

}  // namespace accrete
