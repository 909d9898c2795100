#include "memory/readings.h"

#include <algorithm>
#include <cmath>

#include "text/message.h"

namespace accrete {
namespace {

// By how much the best is over what was needed, in log-odds.
double margin(const Choice& choice) {
  if (choice.best.fact < 0) return -1e9;
  const auto odds = [](double p) {
    p = std::clamp(p, 1e-12, 1 - 1e-12);
    return std::log(p / (1 - p));
  };
  return odds(choice.best.probability) - odds(choice.needed);
}

// Into `out`, for which no fact was accepted: whoever is asked to write about a thing is told of
// it; or the passages that answer best.
void add_notes(std::span<const Choice> readings, Choice& out) {
  for (const Choice& one : readings) {
    if (out.about.empty() && !one.left) out.about = one.about;
    if (one.best_passage &&
        (!out.best_passage || one.best_passage->probability > out.best_passage->probability))
      out.best_passage = one.best_passage;
    if (!one.passages.empty() && (out.passages.empty() || one.passages.front().probability >
                                                              out.passages.front().probability))
      out.passages = one.passages;
  }
}

// Into `out`, which one of the readings decided, what other parts ask for. The clauses of a
// sentence stand for it, but for one that is less sure than the sentence: "What dog did he have,
// and what was its name?" may be one question.
void add_others(std::span<const Reading> readings, std::span<const Choice> choices, Choice& out) {
  std::vector<const Choice*> accepted;
  const auto add = [&](const Choice& one) {
    if (std::none_of(accepted.begin(), accepted.end(),
                     [&](const Choice* other) { return other->fact == one.fact; }))
      accepted.push_back(&one);
  };
  const auto with_sentence = [&](size_t i, bool clause) {
    for (size_t k = 1; k < readings.size(); ++k)
      if (readings[k].sentence == readings[i].sentence && readings[k].clause == clause) return k;
    return size_t{0};  // the whole message
  };
  const auto counts = [&](size_t i) {
    const Choice& clause = choices[i];
    const Choice& whole = choices[with_sentence(i, false)];
    return clause.fact >= 0 &&
           (whole.fact < 0 || whole.fact == clause.fact || margin(clause) > margin(whole));
  };
  for (size_t i = 1; i < readings.size(); ++i) {
    if (readings[i].clause) {
      if (counts(i)) add(choices[i]);
    } else if (choices[i].fact >= 0) {
      bool by_clauses = false;
      for (size_t k = 1; k < readings.size(); ++k)
        by_clauses |=
            readings[k].clause && readings[k].sentence == readings[i].sentence && counts(k);
      if (!by_clauses) add(choices[i]);
    }
  }
  if (accepted.size() < 2 || std::none_of(accepted.begin(), accepted.end(),
                                          [&](const Choice* one) { return one->fact == out.fact; }))
    return;
  out = *accepted.front();
  for (size_t i = 1; i < accepted.size(); ++i) out.also.push_back(accepted[i]->best);
}

}  // namespace

std::vector<Reading> readings_of(const Question& question) {
  std::vector<Reading> out = {{question}};
  if (question.raw) return out;
  for (MessagePart& part : asking_parts(question.text)) {
    Reading one;
    one.question.text = std::move(part.text);
    one.question.earlier = question.earlier;
    if (!part.behind.empty()) one.question.earlier.push_back(std::move(part.behind));
    if (!part.before.empty()) one.question.earlier.push_back(std::move(part.before));
    one.full = part.full;
    one.sentence = part.sentence;
    one.clause = part.clause;
    out.push_back(std::move(one));
  }
  return out;
}

Choice decided_by(std::span<const Reading> readings, std::span<const Choice> choices) {
  Choice whole = choices.front();
  const auto parts = choices.subspan(1);
  if (parts.empty() || whole.left || (whole.fact >= 0 && whole.best.same)) return whole;
  // What lies nearest to none of its questions was only told.
  const bool full = std::any_of(readings.begin() + 1, readings.end(),
                                [](const Reading& reading) { return reading.full; });
  if (full && std::none_of(parts.begin(), parts.end(),
                           [&](const Choice& part) { return part.best.fact == whole.fact; })) {
    whole.only_told = whole.fact >= 0;
    whole.fact = -1;
  }
  const Choice* best = &whole;
  for (const Choice& part : parts) {
    const bool accepts = part.fact >= 0, has = best->fact >= 0;
    if (accepts != has ? accepts : margin(part) > margin(*best)) best = &part;
  }
  Choice out = *best;
  if (out.fact < 0)
    add_notes(choices, out);
  else
    add_others(readings, choices, out);
  return out;
}

}  // namespace accrete
