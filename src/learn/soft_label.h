// What a model predicts at one place, kept to hold it there: its most likely tokens with their
// probabilities, and all others as one.
//
// Non-goals: whole distributions (a vocabulary's worth of numbers for every place).
#pragma once

#include <cstdint>
#include <vector>

namespace accrete {

struct SoftLabel {
  std::vector<int32_t> tokens;  // most likely first
  std::vector<float> p;         // of each

  double rest() const;  // probability of all other tokens
};

// Of logits [n]; the `kept` most likely tokens, at most kernels::kMaxTopK.
SoftLabel soft_label(const float* logits, int64_t n, int64_t kept = 32);

// sum_i min(a_i, b_i) over the tokens that both name, in [0, 1]: how far two places ask for the
// same.
double overlap(const SoftLabel& a, const SoftLabel& b);

// KL(label || softmax(logits)), the tokens that the label does not name taken as one. logits [n]
// become `share` times its gradient.
float divergence(float* logits, int64_t n, const SoftLabel& label, float share);

}  // namespace accrete
