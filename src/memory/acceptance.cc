#include "memory/acceptance.h"

#include <algorithm>
#include <cmath>

namespace accrete {
namespace {

constexpr AcceptanceRule kRule = {.centred = 4.520,
                                  .whole = 5.214,
                                  .answer = 3.732,
                                  .nearest = 1.742,
                                  .contrast = -8,
                                  .bias = -6.938,
                                  .cross = 0,
                                  .same = 50,
                                  .open = 0.405,  // .6: beside such facts stands everything else
                                  .few = 12,
                                  .slope = 1.26,
                                  .least = 0,
                                  .most = 1.386,
                                  .raw = 0};

// Log-odds of a cross-encoder that count. Beside a fact without a subject stands everything that
// anybody may ask: there it can turn a question away, and vouches for little that the cosines
// doubt.
constexpr double kMostCross = 8, kMostCrossUnnamed = 2;
constexpr size_t kMostJudged = 3;

// The log-odds from which on a question is accepted. The more was taught about one thing, the more
// of what was not taught about it lies near some of it: so little is asked for where there is one
// fact, and much among thirty-six.
double threshold(const Evidence& e, const AcceptanceRule& rule) {
  const double raw = e.raw ? rule.raw : 0;
  const double among = std::clamp(rule.slope * std::log(static_cast<double>(e.rivals) / rule.few),
                                  rule.least, rule.most);
  // Half way to what is asked of those that are named: with `open` alone 5 to 7 of 3,200 unrelated
  // questions were accepted beside 36 facts, so at most two (things of dev).
  if (e.unnamed) return raw + std::max(rule.open, (rule.open + among) / 2);
  return raw + (e.named ? among : rule.open);
}

// Log-odds without the answer's term, which a question that is left to the model has not.
double without_answer(const Evidence& e, const AcceptanceRule& rule) {
  if (e.same) return rule.same;
  return rule.centred * e.centred + rule.whole * e.whole + rule.nearest * e.nearest +
         (e.contrast ? rule.contrast : 0) + rule.bias;
}

double by_cosines(const Evidence& e, const AcceptanceRule& rule) {
  return e.same ? rule.same : without_answer(e, rule) + rule.answer * e.answer;
}

double most_cross(const Evidence& e) {
  return e.named ? kMostCross : kMostCrossUnnamed;
}

double log_odds(const Evidence& e, const AcceptanceRule& rule) {
  const double cross = e.same ? 0 : std::clamp(e.cross.value_or(0), -kMostCross, most_cross(e));
  return by_cosines(e, rule) + rule.cross * cross;
}

}  // namespace

const AcceptanceRule& acceptance_rule() {
  return kRule;
}

std::span<const AcceptanceTerm> acceptance_terms() {
  static constexpr AcceptanceTerm kTerms[] = {
      {"centred", &AcceptanceRule::centred},   {"whole", &AcceptanceRule::whole},
      {"answer", &AcceptanceRule::answer},     {"nearest", &AcceptanceRule::nearest},
      {"contrast", &AcceptanceRule::contrast}, {"bias", &AcceptanceRule::bias},
      {"cross", &AcceptanceRule::cross},       {"same", &AcceptanceRule::same},
      {"open", &AcceptanceRule::open},         {"few", &AcceptanceRule::few},
      {"slope", &AcceptanceRule::slope},       {"least", &AcceptanceRule::least},
      {"most", &AcceptanceRule::most},         {"raw", &AcceptanceRule::raw}};
  return kTerms;
}

std::vector<size_t> to_judge(std::span<const Evidence> evidence, const AcceptanceRule& rule,
                             double caution) {
  std::vector<size_t> out;
  if (rule.cross == 0) return out;
  for (size_t i = 0; i < evidence.size(); ++i)
    if (!evidence[i].leave) out.push_back(i);
  const size_t n = std::min(kMostJudged, out.size());
  std::partial_sort(out.begin(), out.begin() + static_cast<int64_t>(n), out.end(),
                    [&](size_t a, size_t b) {
                      const double x = by_cosines(evidence[a], rule);
                      const double y = by_cosines(evidence[b], rule);
                      return x != y ? x > y : a < b;
                    });
  out.resize(n);
  if (n > 0 && evidence[out.front()].same) return {};
  std::erase_if(out, [&](size_t i) {
    const Evidence& e = evidence[i];
    return by_cosines(e, rule) + std::abs(rule.cross) * most_cross(e) - caution <
           threshold(e, rule);
  });
  return out;
}

Choice decide(std::span<const Evidence> evidence, const AcceptanceRule& rule, double caution) {
  Choice out;
  const bool judged = std::any_of(evidence.begin(), evidence.end(),
                                  [](const Evidence& e) { return e.cross.has_value(); });
  const Evidence* best = nullptr;
  const Evidence* next = nullptr;
  const Evidence* left = nullptr;
  for (const Evidence& e : evidence) {
    if (e.leave) {
      if (left == nullptr || without_answer(e, rule) > without_answer(*left, rule)) left = &e;
      continue;
    }
    if (judged && !e.cross) continue;
    if (best == nullptr || log_odds(e, rule) > log_odds(*best, rule)) {
      next = best;
      best = &e;
    } else if (next == nullptr || log_odds(e, rule) > log_odds(*next, rule)) {
      next = &e;
    }
  }
  const auto candidate = [&](const Evidence& e) {
    return Candidate{e.fact,    e.key,           1 / (1 + std::exp(caution - log_odds(e, rule))),
                     e.nearest, e.nearest_whole, e.contrast,
                     e.cross,   e.same};
  };
  if (next != nullptr) out.runner_up = candidate(*next);
  if (best == nullptr) {
    out.left = left != nullptr && left->same;
    if (out.left) out.left_to = left->fact;
    return out;
  }
  out.best = candidate(*best);
  out.needed = 1 / (1 + std::exp(-threshold(*best, rule)));
  out.left =
      left != nullptr && !best->same && without_answer(*left, rule) > without_answer(*best, rule);
  if (out.left) out.left_to = left->fact;
  if (log_odds(*best, rule) - caution >= threshold(*best, rule) && !out.left) out.fact = best->fact;
  return out;
}

}  // namespace accrete
