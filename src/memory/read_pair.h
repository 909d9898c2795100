// A question and what may answer it, a fact or a passage, as a cross-encoder reads the two
// (model/reader.h).
//
// Non-goals: which pairs are read (acceptance.h, passage_index.h, fact_store.h).
#pragma once

#include <string>
#include <vector>

namespace accrete {

struct ReadPair {
  std::string question;
  std::vector<std::string> wordings;  // of the fact, the nearest first
  std::string answer;
};

struct ReadPassage {
  std::string question;
  std::string section;  // its headings
  std::vector<std::string> pieces;
};
struct ReadPassageResult {
  double log_odds = 0;  // that it answers
  // Of each piece the logarithm of its part in what counts; of what was not read that of next to
  // nothing.
  std::vector<double> pieces;
};

}  // namespace accrete
