#include "memory/acceptance.h"

#include <algorithm>
#include <cmath>

namespace accrete {
namespace {

constexpr AcceptanceRule kRule = {.centred = 4.520,
                                  .whole = 5.214,
                                  .answer = 3.732,
                                  .nearest = 1.742,
                                  .bias = -6.938,
                                  .same = 50,
                                  .open = 0.405,  // .6: beside such facts stands everything else
                                  .few = 12,
                                  .slope = 1.26,
                                  .most = 1.386};

// The log-odds from which on a question is accepted. The more was taught about one thing, the more
// of what was not taught about it lies near some of it: so that about a tenth of that is accepted,
// an even chance is enough among twelve facts and four in five are asked for among thirty-six.
double threshold(const Evidence& e) {
  if (!e.named) return kRule.open;
  return std::clamp(kRule.slope * std::log(static_cast<double>(e.rivals) / kRule.few), 0.0,
                    kRule.most);
}

// Log-odds without the answer's term, which a question that is left to the model has not.
double without_answer(const Evidence& e) {
  if (e.same) return kRule.same;
  return kRule.centred * e.centred + kRule.whole * e.whole + kRule.nearest * e.nearest + kRule.bias;
}

double log_odds(const Evidence& e) {
  return e.same ? kRule.same : without_answer(e) + kRule.answer * e.answer;
}

}  // namespace

const AcceptanceRule& acceptance_rule() {
  return kRule;
}

Choice decide(std::span<const Evidence> evidence, double caution) {
  Choice out;
  const Evidence* best = nullptr;
  const Evidence* next = nullptr;
  const Evidence* left = nullptr;
  for (const Evidence& e : evidence) {
    if (e.leave) {
      if (left == nullptr || without_answer(e) > without_answer(*left)) left = &e;
      continue;
    }
    if (best == nullptr || log_odds(e) > log_odds(*best)) {
      next = best;
      best = &e;
    } else if (next == nullptr || log_odds(e) > log_odds(*next)) {
      next = &e;
    }
  }
  const auto candidate = [caution](const Evidence& e) {
    return Candidate{e.fact, e.key, 1 / (1 + std::exp(caution - log_odds(e))), e.nearest,
                     e.nearest_whole};
  };
  if (next != nullptr) out.runner_up = candidate(*next);
  if (best == nullptr) return out;
  out.best = candidate(*best);
  out.left = left != nullptr && !best->same && without_answer(*left) > without_answer(*best);
  if (out.left) out.left_to = left->fact;
  if (log_odds(*best) - caution >= threshold(*best) && !out.left) out.fact = best->fact;
  return out;
}

}  // namespace accrete
