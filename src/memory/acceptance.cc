#include "memory/acceptance.h"

#include <algorithm>
#include <cmath>
#include <utility>

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
double threshold(const Evidence& e, const AcceptanceRule& rule) {
  if (!e.named) return rule.open;
  return std::clamp(rule.slope * std::log(static_cast<double>(e.rivals) / rule.few), 0.0,
                    rule.most);
}

// Log-odds without the answer's term, which a question that is left to the model has not.
double without_answer(const Evidence& e, const AcceptanceRule& rule) {
  if (e.same) return rule.same;
  return rule.centred * e.centred + rule.whole * e.whole + rule.nearest * e.nearest + rule.bias;
}

double log_odds(const Evidence& e, const AcceptanceRule& rule) {
  return e.same ? rule.same : without_answer(e, rule) + rule.answer * e.answer;
}

}  // namespace

const AcceptanceRule& acceptance_rule() {
  return kRule;
}

double* acceptance_term(AcceptanceRule& rule, std::string_view name) {
  const std::pair<std::string_view, double*> terms[] = {
      {"centred", &rule.centred}, {"whole", &rule.whole}, {"answer", &rule.answer},
      {"nearest", &rule.nearest}, {"bias", &rule.bias},   {"same", &rule.same},
      {"open", &rule.open},       {"few", &rule.few},     {"slope", &rule.slope},
      {"most", &rule.most}};
  for (const auto& [key, term] : terms)
    if (key == name) return term;
  return nullptr;
}

Choice decide(std::span<const Evidence> evidence, const AcceptanceRule& rule, double caution) {
  const auto log_odds = [&rule](const Evidence& e) { return accrete::log_odds(e, rule); };
  const auto without_answer = [&rule](const Evidence& e) {
    return accrete::without_answer(e, rule);
  };
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
  const auto candidate = [&](const Evidence& e) {
    return Candidate{e.fact, e.key, 1 / (1 + std::exp(caution - log_odds(e))), e.nearest,
                     e.nearest_whole};
  };
  if (next != nullptr) out.runner_up = candidate(*next);
  if (best == nullptr) return out;
  out.best = candidate(*best);
  out.left = left != nullptr && !best->same && without_answer(*left) > without_answer(*best);
  if (out.left) out.left_to = left->fact;
  if (log_odds(*best) - caution >= threshold(*best, rule) && !out.left) out.fact = best->fact;
  return out;
}

}  // namespace accrete
