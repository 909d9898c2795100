// Which passages of taught documents answer a question, and whether any does.
//
// A passage is weighed by its words and by the reader: BM25 (Robertson & Zaragoza 2009) over the
// passages, divided by what the question's words weigh together; the share of that weight whose
// words stand in the passage at all; the cosine of question and nearest piece; that of question and
// whole passage. Numbers are words like others: two passages that differ in a year are told apart
// by it. The few that lie nearest are read together with the question, where the reader can do that
// (Reader::judge). The weighted sum of all are the log-odds that the passage answers, fitted by
// logistic regression (scripts/fit_passages.py).
//
// An index is immutable and refers to the updates whose passages it holds.
//
// Non-goals: reading documents (io/documents.h), cutting them (text/passages.h), encoding.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ledger/update_file.h"

namespace accrete {

// How a question lies to a passage.
struct PassageEvidence {
  int64_t passage = -1;        // index into what the index was made of
  int64_t piece = -1;          // the nearest, of its pieces
  double words = 0;            // BM25 / the question's weight
  double covered = 0;          // share of the question's weight whose words stand in it
  double nearest = 0;          // cosine of question and nearest piece
  double whole = 0;            // of question and whole passage
  std::optional<double> read;  // log-odds of question and passage read together
  double log_odds = 0;         // that it answers
  size_t text = 0;             // which text of the question was compared
};

struct PassageRule {
  double words, covered, nearest, whole, read, bias;
  double few, slope, most;  // taken off: slope * log(passages / few), within [0, most]
  double margin;            // of the log-odds by which the best leads the second
  double beside;  // others are told too whose log-odds are at most this much below the best's
};
// Where question and passage are read together, and where they are not.
const PassageRule& passage_rule(bool read);

// How many of them, the likeliest first, are worth being read together with the question.
size_t passages_to_read(std::span<const PassageEvidence> evidence);
// The piece of a passage that answers: by what reading says of each (ReadPassageResult::pieces) and
// by the question's words that tell it from the others ("E12", "wool"). -1: there is none.
int64_t answering_piece(std::string_view question, std::span<const std::string> pieces,
                        std::span<const double> read);
// Their log-odds out of all that is known, the likeliest first; of those read together with the
// question where any were. `passages`: how many there are in all.
void rank_passages(std::vector<PassageEvidence>& evidence, int64_t passages);

class PassageIndex {
 public:
  struct Entry {
    std::shared_ptr<const Update> update;
    size_t item = 0;        // of update->taught.items
    int64_t first_key = 0;  // of update->facts
    const TaughtItem& text() const { return update->taught.items[item]; }
  };
  PassageIndex(std::vector<Entry> passages, int64_t key_width);

  // At most `most` passages, the likeliest first by words and cosines. `vector` [key_width], of
  // unit length, is the question as the reader reads it.
  std::vector<PassageEvidence> search(std::string_view question, const float* vector,
                                      size_t most) const;
  int64_t size() const { return static_cast<int64_t>(passages_.size()); }

 private:
  struct Posting {
    int32_t passage;
    float weight;  // term frequency, saturated and normalised by length
  };
  std::vector<Entry> passages_;
  int64_t key_width_;
  std::unordered_map<std::string, std::vector<Posting>> postings_;
};

// The words of a text by which passages are found: content words, plurals as their singular.
std::vector<std::string> index_words(std::string_view text);

}  // namespace accrete
