// Impact forecast: what an update would do to every probe, before it is committed.
//
// An update changes what the memory blocks put out at a probe's tokens by Delta (known exactly: its
// rows, the gate included). To first order an example changes by s = <g, Delta>, g the gradient at
// those outputs of what decides about it: its loss for text, for questions its margin (the lead of
// the right token, which unlike the loss does not vanish where the model is sure). The second-order
// term is q = 1/2 sum_t <g_t, Delta_t>^2 for text (the empirical Fisher matrix, a token a block)
// and q = |Delta|^2 for questions. Some examples are tried exactly; on these the change is fitted
// as a s + c q, and the spread of what is left gives the range of the forecast.
//
// Examples that the update does not touch do not change, and where only a few are touched all are
// tried: then the forecast is exact.
//
// Non-goals: deciding (guard.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/rng.h"
#include "learn/probe_watch.h"

namespace accrete {

struct ForecastOptions {
  int64_t gradient_examples = 96;  // of each probe at most, drawn from those touched
  int64_t exact_examples = 24;     // tried for calibration: half with the worst outlook, half drawn
  bool try_all_when_few = true;    // at most `exact_examples` touched: no gradient is needed
  uint64_t seed = 0;
};

struct ProbeForecast {
  std::string probe;
  int64_t examples = 0;      // of the probe
  int64_t touched = 0;       // read something else
  int64_t tried = 0;         // of these, scored exactly
  double now = 0;            // the probe's score
  double predicted = 0;      // change of the score; low <= predicted <= high
  double low = 0, high = 0;  // about 90 %
  // The change to first order alone, and with the second-order term, both without putting in what
  // the trials found (questions: its coefficient c is still fitted).
  double first_order = 0, second_order = 0;
};

// `overlay` is the state with `change` in it.
ProbeForecast forecast(WatchedProbe& probe, const Overlay& overlay, const Update& change,
                       const ForecastOptions& options, const Reporter& reporter = {});

// a and c of the least squares fit y = a s + c q, pulled gently to a = 1, c = 0 (few points).
struct Calibration {
  double a = 1;
  double c = 0;
  double spread = 0;  // standard deviation of the residuals in units of the examples' scales
};
struct CalibrationPoint {
  double s = 0, q = 0;
  double y = 0;      // the change that was measured
  double scale = 1;  // |Delta| of the example: residuals are taken relative to it
};
Calibration calibrate(const std::vector<CalibrationPoint>& points);

}  // namespace accrete
