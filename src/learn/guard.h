// The guard: no update is committed that breaks a floor, and one that would is mended if it can be.
//
// A candidate is checked on the examples at risk first (a rolling sample and what broke before),
// then on whole probes: of these only what the candidate touches has to be computed
// (probe_watch.h). When a floor breaks, states near the proposal are tried, each one solve or one
// scaling away: the facts that speak where the damage is left out, a larger lambda, smaller rows.
// Of those that hold every floor the one that learned most wins. When too little of the set would
// be left, nothing is committed, with the reason.
//
// Non-goals: making proposals (propose.h), committing (teach.h).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "learn/forecast.h"
#include "learn/probe_watch.h"
#include "learn/propose.h"

namespace accrete {

using WatchedProbes = std::vector<std::unique_ptr<WatchedProbe>>;

struct BrokenFloor {
  std::string probe;
  double kept = 0;
  double floor = 0;
};

struct Guarded {
  Update update;
  Overlay overlay;  // the state with it
  Variant variant;
  std::string change;  // what was changed about the proposal, in words; empty: nothing
  std::map<std::string, double> after;  // score of every probe
  double learned = 0;
  int64_t candidates = 0;  // states that were tried
};

struct GuardSetup {
  const LanguageModel* model = nullptr;  // its overlay is the state now
  WatchedProbes* probes = nullptr;
  // Share of taught phrasings that are answered under a state.
  std::function<double(const Overlay&)> learned;
  double learned_before = 0;
  double least_share = 0.5;  // of items, and of what the whole proposal would learn
  int64_t most_candidates = 12;
};

// The proposal or the best of its variants. Throws kRefused, naming the probe, its floor and, where
// it is known, the lines that break it.
Guarded guard_floors(const GuardSetup& setup, const Proposal& proposal, const Reporter& reporter);

// A rolling sample of every probe: cheap enough to be looked at during training. Each call takes
// the next `examples` of each probe that has a floor, of running text a quarter as many, which are
// long; those that broke once stay in.
class RollingCheck {
 public:
  RollingCheck(WatchedProbes& probes, int64_t examples, uint64_t seed);
  // False: by what has been looked at, some probe has fallen below its floor, or is about to.
  bool holds(const Overlay& overlay, const Reporter& reporter = {});
  // That a call passes, about.
  double tokens() const;

 private:
  struct Roll {
    std::vector<int64_t> order;  // a random order of the examples
    size_t next = 0;
    std::set<int64_t> suspects;
  };
  // How many of a probe's examples a call takes.
  size_t examples_of(const WatchedProbe& probe) const;

  WatchedProbes& probes_;
  std::vector<Roll> rolls_;
  size_t examples_;
};

}  // namespace accrete
