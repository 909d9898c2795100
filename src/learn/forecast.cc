#include "learn/forecast.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace accrete {
namespace {

struct Outlook {
  int64_t example = 0;
  double s = 0, q = 0, size = 0;  // size: |Delta|
  bool tried = false;
  ExampleState before, after;

  double guess(const Calibration& c) const { return c.a * s + c.c * q; }
};

double normal_cdf(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0));
}

// What the candidate adds to the outputs of a group, by block; blocks where nothing changes are
// absent.
MemoryOutputs difference(const MemoryOutputs& after, const MemoryOutputs& before) {
  MemoryOutputs out;
  for (const auto& [block, y] : after) {
    const auto it = before.find(block);
    out[block] = it == before.end() ? y : y - it->second;
  }
  for (const auto& [block, y] : before)
    if (!after.contains(block)) out[block] = -y;
  return out;
}

std::vector<Outlook> outlooks(WatchedProbe& probe, const Overlay& now, const Overlay& overlay,
                              std::span<const int64_t> which, const Reporter& reporter) {
  const bool text = probe.probe().is_text();
  std::vector<Outlook> out;
  int64_t done = 0;
  for (const auto& group : probe.groups(which)) {
    reporter.check_cancelled();
    const auto before = probe.outputs(now, group);
    const auto delta = difference(probe.outputs(overlay, group), before);
    const auto pass = probe.pass(before, group, text ? Gradient::kNll : Gradient::kMargin);
    const auto B = static_cast<int64_t>(group.size());
    auto s = at::zeros({B}, at::kDouble), q = at::zeros({B}, at::kDouble),
         size = at::zeros({B}, at::kDouble);
    at::Tensor per_token;
    for (const auto& [block, d] : delta) {
      const auto dot = (pass.output_gradient.at(block) * d).sum(2).to(at::kDouble);  // [B, T]
      per_token = per_token.defined() ? per_token + dot : dot;
      size += d.square().sum({1, 2}).to(at::kDouble);
    }
    if (per_token.defined()) {
      s = per_token.sum(1);
      q = text ? 0.5 * per_token.square().sum(1) : size;
    }
    for (int64_t b = 0; b < B; ++b) {
      Outlook o;
      o.example = group[static_cast<size_t>(b)];
      const auto finite = [](double x) { return std::isfinite(x) ? x : 0.0; };
      o.s = finite(s[b].item<double>());
      o.q = finite(q[b].item<double>());
      o.size = finite(std::sqrt(size[b].item<double>()));
      o.before = pass.states[static_cast<size_t>(b)];
      out.push_back(o);
    }
    done += B;
    reporter.report("forecast " + probe.probe().record.name, done,
                    static_cast<int64_t>(which.size()));
  }
  return out;
}

std::vector<int64_t> draw(std::vector<int64_t> from, int64_t most, Rng& rng) {
  if (static_cast<int64_t>(from.size()) <= most) return from;
  rng.shuffle(std::span(from));
  from.resize(static_cast<size_t>(most));
  std::sort(from.begin(), from.end());
  return from;
}

// Of a question with several answers the one that stands best decides; the others are left out.
std::vector<int64_t> best_answers(WatchedProbe& probe, std::vector<int64_t> touched,
                                  const Reporter& reporter) {
  if (probe.probe().is_text()) return touched;
  std::map<int64_t, std::vector<int64_t>> by_item;
  for (const int64_t e : touched)
    by_item[probe.examples()[static_cast<size_t>(e)].item].push_back(e);
  std::vector<int64_t> several;
  for (const auto& [item, own] : by_item)
    if (own.size() > 1) several.insert(several.end(), own.begin(), own.end());
  if (several.empty()) return touched;
  const auto states = probe.states_now(several, reporter);
  std::map<int64_t, double> margin;
  for (size_t k = 0; k < several.size(); ++k) margin[several[k]] = states[k].margin;
  std::vector<int64_t> out;
  for (const auto& [item, own] : by_item)
    out.push_back(*std::max_element(own.begin(), own.end(),
                                    [&](int64_t a, int64_t b) { return margin[a] < margin[b]; }));
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

Calibration calibrate(const std::vector<CalibrationPoint>& points) {
  Calibration out;
  if (points.empty()) return out;
  // Weighted by 1 / scale^2; the ridge is as much as two points of the mean size.
  double ss = 0, sq = 0, qq = 0, sy = 0, qy = 0;
  for (const auto& p : points) {
    const double w = 1 / std::max(p.scale * p.scale, 1e-12);
    ss += w * p.s * p.s;
    sq += w * p.s * p.q;
    qq += w * p.q * p.q;
    sy += w * p.s * (p.y - p.s);
    qy += w * p.q * (p.y - p.s);
  }
  const auto n = static_cast<double>(points.size());
  const double rs = 2 * ss / n, rq = 2 * qq / n;
  const double det = (ss + rs) * (qq + rq) - sq * sq;
  if (det > 1e-30 * std::max(1.0, ss * qq)) {
    out.a = 1 + (sy * (qq + rq) - qy * sq) / det;
    out.c = (qy * (ss + rs) - sy * sq) / det;
  } else if (ss > 0) {
    out.a = 1 + sy / (ss + rs);
  }
  double sum = 0;
  for (const auto& p : points) {
    const double r = (p.y - out.a * p.s - out.c * p.q) / std::max(p.scale, 1e-6);
    sum += r * r;
  }
  out.spread = std::sqrt(sum / std::max(1.0, n - 1));
  return out;
}

ProbeForecast forecast(WatchedProbe& probe, const Overlay& overlay, const Update& change,
                       const ForecastOptions& options, const Reporter& reporter) {
  ProbeForecast out;
  const bool text = probe.probe().is_text();
  out.probe = probe.probe().record.name;
  out.examples = static_cast<int64_t>(probe.examples().size());
  out.now = probe.score_now(reporter);
  const auto touched = probe.touched(overlay, change, reporter);
  out.touched = static_cast<int64_t>(touched.size());
  if (touched.empty()) return out;
  if (options.try_all_when_few && out.touched <= options.exact_examples) {
    const auto states = probe.states(overlay, touched, reporter);
    out.tried = out.touched;
    out.predicted = probe.score_with(touched, states, reporter) - out.now;
    out.low = out.high = out.first_order = out.second_order = out.predicted;
    return out;
  }

  Rng rng = Rng(options.seed).split(23);
  const auto deciding = best_answers(probe, touched, reporter);
  const auto drawn = draw(deciding, options.gradient_examples, rng);
  const double scale_up = static_cast<double>(deciding.size()) / static_cast<double>(drawn.size());
  auto items = outlooks(probe, probe.overlay_now(), overlay, drawn, reporter);

  // Worst outlook first: the smallest margin that is left, or the greatest loss.
  const auto outlook = [text](const Outlook& o) {
    return text ? -(o.s + o.q) : (o.before.exact ? o.before.margin + o.s : 1e9 - o.s);
  };
  std::stable_sort(items.begin(), items.end(),
                   [&](const Outlook& a, const Outlook& b) { return outlook(a) < outlook(b); });
  std::vector<size_t> trial;
  const size_t most = std::min(items.size(), static_cast<size_t>(options.exact_examples));
  for (size_t k = 0; k < (most + 1) / 2; ++k) trial.push_back(k);
  std::vector<size_t> rest;
  for (size_t k = trial.size(); k < items.size(); ++k) rest.push_back(k);
  rng.shuffle(std::span(rest));
  for (size_t k = 0; trial.size() < most; ++k) trial.push_back(rest[k]);
  std::vector<int64_t> tried;
  for (const size_t k : trial) tried.push_back(items[k].example);
  const auto states = probe.states(overlay, tried, reporter);
  std::vector<CalibrationPoint> points;
  for (size_t k = 0; k < trial.size(); ++k) {
    Outlook& o = items[trial[k]];
    o.tried = true;
    o.after = states[k];
    const double y = text ? o.after.nll - o.before.nll : o.after.margin - o.before.margin;
    points.push_back({o.s, o.q, y, o.size});
  }
  out.tried = static_cast<int64_t>(trial.size());
  const Calibration fit = calibrate(points);

  double sum = 0, variance = 0, first = 0, second = 0, square = 0;
  for (const Outlook& o : items) {
    double change_of_example = 0;
    if (text) {
      first += o.s;
      second += o.s + o.q;
      change_of_example = o.tried ? o.after.nll - o.before.nll : o.guess(fit);
      if (!o.tried) variance += std::pow(fit.spread * o.size, 2);
    } else {
      const double was = o.before.exact;
      first += (o.before.margin + o.s > 0) - was;
      second += (o.before.margin + o.guess(fit) > 0) - was;
      double right = o.after.exact;
      if (!o.tried) {
        const double sigma = std::max(fit.spread * o.size, 1e-9);
        right = normal_cdf((o.before.margin + o.guess(fit)) / sigma);
        variance += right * (1 - right);
      }
      change_of_example = right - was;
    }
    sum += change_of_example;
    square += change_of_example * change_of_example;
  }
  const auto n = static_cast<double>(items.size());
  // What was not drawn may differ from what was.
  const double undrawn = static_cast<double>(deciding.size()) - n;
  if (undrawn > 0)
    variance += undrawn * scale_up * std::max(0.0, square / n - (sum / n) * (sum / n)) +
                (text ? 0 : undrawn / n);
  const double unit = probe.unit();
  out.predicted = sum * scale_up * unit;
  const double half = 1.645 * std::sqrt(variance) * unit;
  out.low = out.predicted - half;
  out.high = out.predicted + half;
  out.first_order = first * scale_up * unit;
  out.second_order = second * scale_up * unit;
  return out;
}

}  // namespace accrete
