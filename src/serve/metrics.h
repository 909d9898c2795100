// Counters, gauges and histograms of a server, as Prometheus' text.
//
// Non-goals: a registry of types; families are made when they are first named.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace accrete::serve {

// Safe from any thread.
class Metrics {
 public:
  // `labels` as they are written: `route="/v1/models",code="200"`; may be empty.
  void add(const std::string& name, const std::string& labels, double by = 1);
  void set(const std::string& name, const std::string& labels, double value);
  void observe(const std::string& name, double seconds);
  std::string text() const;

 private:
  struct Histogram {
    std::vector<uint64_t> counts;
    uint64_t count = 0;
    double sum = 0;
  };
  mutable std::mutex mutex_;
  std::map<std::string, std::map<std::string, double>> counters_, gauges_;
  std::map<std::string, Histogram> histograms_;
};

}  // namespace accrete::serve
