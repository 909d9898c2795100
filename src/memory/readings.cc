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
  if (out.fact < 0) add_notes(choices, out);
  return out;
}

}  // namespace accrete
