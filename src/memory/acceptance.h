// Whether a question is one that was taught: from how near it lies to a probability, and one
// threshold.
//
// The log-odds are a weighted sum of a few cosines and of whether a word of the question says that
// it asks for another (text/contrast.h). The cosines' weights are fitted by logistic regression on
// public pairs of questions and on the development halves of our own sets (docs/algorithm.md has
// the figures of what else was tried).
//
// Non-goals: finding candidates (fact_store.h), encoding.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace accrete {

// How a question lies to a fact. Cosines are of reader's vectors; *centred* ones after what the
// facts of one subject have in common was taken off (their mean, less where they are few).
struct Evidence {
  int64_t fact = -1;
  int64_t key = -1;          // the nearest wording, among the fact's
  double centred = 0;        // of the masked question and the mean of the fact's masked wordings
  double whole = 0;          // of both unmasked, centred
  double answer = 0;         // of the masked question and the fact's answer, centred
  double nearest = 0;        // of the masked question and the nearest masked wording, not centred
  double nearest_whole = 0;  // the same unmasked; for explanations
  bool contrast = false;     // the question holds a word that asks for another (text/contrast.h)
  int64_t rivals = 1;        // facts about the same subject, this one among them
  bool named = false;        // the fact has a subject, and the question names it
  bool same = false;         // the very words of a wording
  bool leave = false;        // a question that was stated to be left to the model
};

struct Candidate {
  int64_t fact = -1;
  int64_t key = -1;
  double probability = 0;
  double masked = 0, whole = 0;  // cosines to the nearest wording
  bool contrast = false;         // a word of the question asks for another
};

struct Choice {
  int64_t fact = -1;     // the one that is accepted; -1: none
  Candidate best;        // whether accepted or not; fact -1: there is no candidate
  double needed = 0;     // the probability that the best needed
  Candidate runner_up;   // the best of the others
  bool left = false;     // a question that is left to the model lies nearer than the best
  int64_t left_to = -1;  // that one
  std::string read;      // the question as it was compared with the best; set by FactStore::choose
};

// What decide() weighs by and asks for: an exported model carries it along.
struct AcceptanceRule {
  double centred, whole, answer, nearest, contrast, bias;  // the log-odds
  double same;                                             // those of the very words
  double open;                                             // threshold of facts without a subject
  double few, slope, most;  // of the others: slope * log(rivals / few), within [0, most]
};
// That of all-MiniLM-L6-v2 as it is published; a reader's folder may say another.
const AcceptanceRule& acceptance_rule();
// Its parts by name, as acceptance.json and an exported model write them.
struct AcceptanceTerm {
  std::string_view name;
  double AcceptanceRule::* value;
};
std::span<const AcceptanceTerm> acceptance_terms();

// Of all candidates of a question. `caution` is taken from the log-odds: above 0 less is accepted.
Choice decide(std::span<const Evidence> evidence, const AcceptanceRule& rule, double caution);

}  // namespace accrete
