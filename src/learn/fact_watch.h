// The probes that a change of a memory of facts is measured by, before and after it.
//
// Of an overlay these are its own and the model's: what all rely on is kept in it too. Of two with
// one name its own counts.
//
// Non-goals: what a probe scores (measure/fact_probe.h), memory layers (probe_watch.h).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/progress.h"
#include "ledger/ledger.h"
#include "measure/fact_probe.h"
#include "model/language_model.h"

namespace accrete {

// The probes of a snapshot of `ledger`, and where `model` is an overlay those of the model itself.
// Throws as probes_of does.
std::vector<Probe> probes_for(const LanguageModel& model, const Ledger& ledger,
                              const Snapshot& snapshot);

// One probe and how it stands before and after.
struct WatchedFactProbe {
  Probe probe;
  std::string base, digest;
  FactProbeState before, after;
};
// As `model` answers them now.
std::vector<WatchedFactProbe> watch_fact_probes(const LanguageModel& model,
                                                std::vector<Probe> probes,
                                                const Reporter& reporter);
// As it would answer them.
void ask_probes(const LanguageModel& trial, std::vector<WatchedFactProbe>& probes,
                const Reporter& reporter);
// Throws kRefused when a floor would break, with the questions that would be answered otherwise.
void require_floors(const std::vector<WatchedFactProbe>& probes);

}  // namespace accrete
