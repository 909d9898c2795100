// Whether a question is one that was taught: from how near it lies to a probability, and one
// threshold.
//
// The log-odds are a weighted sum of a few cosines, of whether a word of the question says that it
// asks for another (text/contrast.h), and, where the reader has a cross-encoder, of what that says
// of question and fact read together: cosines find the fact, the cross-encoder tells it from its
// neighbours. It is asked about the few candidates that could be accepted. The cosines' weights are
// fitted by logistic regression on public pairs of questions and on the development halves of our
// own sets (docs/facts.md has the figures of what else was tried).
//
// Non-goals: finding candidates (fact_store.h), encoding.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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
  bool unnamed = false;      // it has one that the question does not name
  bool same = false;         // the very words of a wording
  bool raw = false;          // a text to go on with
  bool leave = false;        // a question that was stated to be left to the model
  std::optional<double> cross;  // log-odds of the cross-encoder, where it was asked
  // For the cross-encoder: the fact's wordings that lie nearest, the nearest first (-1: none), and
  // which text of the question was compared.
  std::array<int64_t, 3> keys = {-1, -1, -1};
  size_t text = 0;
};

struct Candidate {
  int64_t fact = -1;
  int64_t key = -1;
  double probability = 0;
  double masked = 0, whole = 0;  // cosines to the nearest wording
  bool contrast = false;         // a word of the question asks for another
  std::optional<double> cross;   // log-odds of the cross-encoder
  bool same = false;             // the very words of a wording
};

// A passage of a document that is told where no fact is accepted (passage_index.h).
struct PassageChoice {
  int64_t fact = -1;   // of the store
  int64_t piece = -1;  // the nearest of its pieces
  double probability = 0;
  double covered = 0, nearest = 0;  // share of the question's words; cosine to the nearest piece
  std::optional<double> read;       // log-odds of question and passage read together
};

struct Choice {
  int64_t fact = -1;  // the one that is accepted; -1: none
  // Facts that other parts of the message ask for, in its order; `fact` answers the first.
  std::vector<Candidate> also;
  // Other facts that the question may need, for a model that reads notes: the nearest first.
  std::vector<int64_t> about;
  std::vector<PassageChoice> passages;        // that are accepted instead, the likeliest first
  std::optional<PassageChoice> best_passage;  // whether accepted or not; none: there are none
  Candidate best;        // whether accepted or not; fact -1: there is no candidate
  double needed = 0;     // the probability that the best needed
  Candidate runner_up;   // the best of the others
  bool left = false;     // a question that is left to the model lies nearer than the best
                         // or, where there is none, is the very same
  int64_t left_to = -1;  // that one
  bool only_told =
      false;         // the message tells the best, and a sentence of it asks for another thing
  std::string read;  // the question as it was compared with the best; set by FactStore::decide

  // What was taught answers: facts, or passages.
  bool taught() const { return fact >= 0 || !about.empty() || !passages.empty(); }
};

// What decide() weighs by and asks for: an exported model carries it along.
struct AcceptanceRule {
  double centred, whole, answer, nearest, contrast, bias;  // the log-odds
  double cross;        // of the cross-encoder's log-odds, in them; 0: it is not asked
  double same;         // those of the very words
  double open;         // threshold of facts without a subject
  double few, slope;   // of the others: slope * log(rivals / few),
  double least, most;  // within these
  double raw;          // added to it for texts to go on with
};
// That of all-MiniLM-L6-v2 as it is published; a reader's folder may say another.
const AcceptanceRule& acceptance_rule();
// Its parts by name, as acceptance.json and an exported model write them.
struct AcceptanceTerm {
  std::string_view name;
  double AcceptanceRule::* value;
};
std::span<const AcceptanceTerm> acceptance_terms();

// The candidates that the cross-encoder is to be asked about, as indices: the best few by the
// cosines, of which it could make one that is accepted. None without a `cross` in the rule, nor
// where the question is a wording word for word.
std::vector<size_t> to_judge(std::span<const Evidence> evidence, const AcceptanceRule& rule,
                             double caution);
// Of all candidates of a question. Where some were judged, one of these is best. `caution` is taken
// from the log-odds: above 0 less is accepted.
Choice decide(std::span<const Evidence> evidence, const AcceptanceRule& rule, double caution);

}  // namespace accrete
