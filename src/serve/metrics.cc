#include "serve/metrics.h"

#include <array>

#include "base/format.h"

namespace accrete::serve {
namespace {

constexpr std::array kBounds = {0.005, 0.01, 0.025, 0.05, 0.1,  0.25, 0.5,
                                1.0,   2.5,  5.0,   10.0, 30.0, 60.0};

void write(std::string& out, const std::string& name, const char* type,
           const std::map<std::string, double>& values) {
  out += accrete::format("# TYPE {} {}\n", name, type);
  for (const auto& [labels, value] : values)
    out += labels.empty() ? accrete::format("{} {:.17g}\n", name, value)
                          : accrete::format("{}{{{}}} {:.17g}\n", name, labels, value);
}

}  // namespace

void Metrics::add(const std::string& name, const std::string& labels, double by) {
  const std::lock_guard lock(mutex_);
  counters_[name][labels] += by;
}

void Metrics::set(const std::string& name, const std::string& labels, double value) {
  const std::lock_guard lock(mutex_);
  gauges_[name][labels] = value;
}

void Metrics::observe(const std::string& name, double seconds) {
  const std::lock_guard lock(mutex_);
  Histogram& h = histograms_[name];
  h.counts.resize(kBounds.size());
  for (size_t i = 0; i < kBounds.size(); ++i)
    if (seconds <= kBounds[i]) ++h.counts[i];
  ++h.count;
  h.sum += seconds;
}

std::string Metrics::text() const {
  const std::lock_guard lock(mutex_);
  std::string out;
  for (const auto& [name, values] : counters_) write(out, name, "counter", values);
  for (const auto& [name, values] : gauges_) write(out, name, "gauge", values);
  for (const auto& [name, h] : histograms_) {
    out += accrete::format("# TYPE {} histogram\n", name);
    for (size_t i = 0; i < kBounds.size(); ++i)
      out += accrete::format("{}_bucket{{le=\"{:g}\"}} {}\n", name, kBounds[i], h.counts[i]);
    out += accrete::format("{}_bucket{{le=\"+Inf\"}} {}\n{}_sum {:.17g}\n{}_count {}\n", name,
                           h.count, name, h.sum, name, h.count);
  }
  return out;
}

}  // namespace accrete::serve
