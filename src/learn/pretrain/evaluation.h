// What the network can do in the middle of its training: bits per byte of text that is held out,
// and how many known facts it completes, in a phrasing that it was trained on and in another.
//
// Non-goals: anything that needs the finished model (measure/).
#pragma once

#include <cstdint>
#include <vector>

#include "learn/pretrain/mixture.h"
#include "learn/pretrain/network.h"
#include "model/examples.h"
#include "text/tokenizer.h"

namespace accrete {

struct Evaluation {
  double bits_per_byte = 0;  // NaN: no text was held out
  double taught = 0;         // share of facts whose completion is the argmax, token by token
  double asked = 0;          // the same, asked otherwise; NaN where there are no such facts
};

class Evaluator {
 public:
  Evaluator(const PretrainConfig& config, const TrainingText& text, const Tokenizer& tokenizer,
            int32_t end_of_text);
  Evaluation operator()(const TrainingNetwork& network) const;

 private:
  double bits_per_byte(const TrainingNetwork& network) const;
  double exact(const TrainingNetwork& network, const std::vector<Example>& examples) const;

  std::vector<std::vector<int32_t>> windows_;
  double bytes_ = 0;
  int32_t end_of_text_;
  int64_t together_;
  std::vector<Example> taught_, asked_;
};

}  // namespace accrete
