// The training text: corpora as tokens, mixed by weight, packed into sequences without padding.
//
// A text corpus is one row of tokens, its documents in a shuffled order with the end of text
// between them; each pass cuts it into sequences from another place and takes these in another
// order. A corpus of facts is a list of short documents, one for each fact in each of its taught
// phrasings, packed whole into sequences, in another order each pass. Phrasings to be asked in are
// never rendered. Everything is a function of the seed, so a sequence number is all that there is
// to save.
//
// Non-goals: streaming corpora that do not fit in memory (2 bytes a token).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/rng.h"
#include "io/dataset.h"
#include "learn/pretrain/config.h"
#include "text/tokenizer.h"

namespace accrete {

// What the corpora hold, read once.
struct TrainingText {
  struct Corpus {
    std::string name;
    double weight = 1;
    std::vector<uint16_t> tokens;
    std::vector<int64_t> ends;  // of the documents; of a text corpus empty
  };
  std::vector<Corpus> corpora;
  // Not trained on: windows of context + 1 tokens for bits per byte.
  std::vector<std::vector<int32_t>> held_out;
  std::vector<Item> facts;  // of all corpora of facts
  int64_t tokens = 0;
  std::string digest;  // SHA-256 of all of the above

  // Throws what reading does, and kInvalidArgument for a corpus shorter than one sequence or of
  // facts without prompts.
  static TrainingText read(const PretrainConfig& config, const Tokenizer& tokenizer,
                           int32_t end_of_text, const Reporter& reporter);
};

// An endless row of sequences. A value: copies go on independently.
class Mixture {
 public:
  // `text` must outlive it. Sequences have `length` tokens, the labels' last one included.
  Mixture(const TrainingText& text, int64_t length, Rng rng);
  std::vector<int32_t> next();
  void skip(int64_t sequences);

 private:
  struct Place {
    Rng rng{0};
    std::vector<int32_t> order;  // of the sequences or documents of this pass
    size_t at = 0;
    int64_t pass = 0, offset = 0;
  };
  void begin_pass(size_t corpus);

  const TrainingText* text_;
  int64_t length_;
  Rng rng_;
  std::vector<double> bounds_;  // cumulated weights
  std::vector<Place> places_;
};

}  // namespace accrete
