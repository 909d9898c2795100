// What a method of continual learning looks like to a benchmark: it is given items, again and
// again, and changes a model in memory.
//
// The model's folder is never written. A learner's destructor puts the model back as it was, so
// that many can be tried on one.
//
// Non-goals: scoring (bench/forgetting.h), transactions (teach.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/progress.h"
#include "io/dataset.h"

namespace accrete {

struct LearnerCost {
  int64_t tokens = 0;          // passed forward and backward
  int64_t parameters = 0;      // numbers that differ from the model it began with, or may
  std::vector<double> losses;  // of every step, before it
  bool low_precision = false;  // its products were taken in bfloat16
};

class Learner {
 public:
  virtual ~Learner() = default;

  // Learns `items` in `passes` passes over them, on top of what it has learned so far; what
  // earlier calls were given is not seen again, but for what a method keeps of it by itself. Two
  // calls with the same items are one with the passes of both. Throws kRefused (diverged),
  // kInterrupted.
  virtual void learn(std::span<const Item> items, int64_t passes, const Reporter& reporter) = 0;
  virtual LearnerCost cost() const = 0;
};

}  // namespace accrete
