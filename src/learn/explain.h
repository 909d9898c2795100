// Explain: which updates an answer leans on, and which lines of what they were taught.
//
// The effect of an update is what the answer's log-probability loses when that one update is left
// out. Only updates that speak at the prompt are tried, and of these only the rows that it reads
// are looked at, so that the cost does not grow with what else there is.
//
// Non-goals: explaining what the base knows.
#pragma once

#include <string>
#include <vector>

#include "learn/earlier.h"
#include "model/language_model.h"

namespace accrete {

struct SourceLine {
  int64_t line = 0;
  std::string question, answer;  // of a fact; of other items the excerpt stands in `question`
  double similarity = 0;         // cosine of its accesses and the prompt's, of the nearest tokens
};

struct Influence {
  std::string update, tag, source;
  double effect = 0;              // nats: log p(answer) with all updates less that without this one
  std::vector<SourceLine> lines;  // the nearest first, at most 3
};

struct Explanation {
  double log_probability = 0;       // of the answer, all updates in
  double base_log_probability = 0;  // without any
  std::vector<Influence> updates;   // that speak at the prompt; greatest effect first
};

// `active` in ledger order; the overlay of `model` is not looked at.
Explanation explain(const LanguageModel& model, const std::vector<EarlierUpdate>& active,
                    const std::string& prompt, const std::string& answer, bool raw);

}  // namespace accrete
