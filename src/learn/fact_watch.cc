#include "learn/fact_watch.h"

#include <set>

#include "base/error.h"
#include "base/format.h"
#include "learn/fact_keys.h"
#include "measure/probe.h"
#include "model/ask.h"
#include "model/fact_memory.h"

namespace accrete {

std::vector<Probe> probes_for(const LanguageModel& model, const Ledger& ledger,
                              const Snapshot& snapshot) {
  std::vector<Probe> out = probes_of(ledger, snapshot);
  if (!model.has_facts() || model.facts().shared() == nullptr) return out;
  std::set<std::string> own;
  for (const Probe& probe : out) own.insert(probe.record.name);
  for (Probe& probe : load_probes(Ledger::open(model.folder(), Ledger::Mode::kRead)))
    if (!own.contains(probe.record.name)) out.push_back(std::move(probe));
  return out;
}

std::vector<WatchedFactProbe> watch_fact_probes(const LanguageModel& model,
                                                std::vector<Probe> probes,
                                                const Reporter& reporter) {
  std::vector<WatchedFactProbe> out;
  for (Probe& probe : probes) {
    WatchedFactProbe watched;
    watched.digest = probe.digest;
    watched.base = probe.record.details.value("base_answers", std::string());
    if (watched.base.empty()) watched.base = base_answers(model, probe, reporter);
    watched.probe = std::move(probe);
    watched.before = fact_probe_state(model, watched.probe, watched.base, reporter);
    out.push_back(std::move(watched));
  }
  return out;
}

void ask_probes(const LanguageModel& trial, std::vector<WatchedFactProbe>& probes,
                const Reporter& reporter) {
  for (WatchedFactProbe& watched : probes)
    watched.after = fact_probe_state(trial, watched.probe, watched.base, reporter);
}

namespace {

// What item `i` of a probe asks, without the examples or the conversation before it.
std::string asked_last(const Probe& probe, size_t i) {
  const Item& item = probe.data.items[i];
  AskRequest request;
  request.raw = probe.raw;
  if (item.kind == Item::Kind::kMessages) {
    request.messages.assign(item.messages.begin(), item.messages.end() - 1);
  } else {
    request.text = probe_question(item);
    request.messages = {{"user", request.text}};
  }
  return question_of(request).text;
}

}  // namespace

void require_floors(const std::vector<WatchedFactProbe>& probes) {
  for (const WatchedFactProbe& watched : probes) {
    if (probe_holds(watched.probe, watched.after.score)) continue;
    std::string lines;
    for (size_t i = 0; i < watched.after.chosen.size() && lines.size() < 200; ++i)
      if (watched.after.exact[i] < watched.before.exact[i])
        lines += (lines.empty() ? "" : ", ") + quoted(asked_last(watched.probe, i));
    throw Error(
        ErrorCode::kRefused,
        accrete::format("the floor of probe {} would break: {:.4f} of its base, {:.4f} is the "
                        "floor; nothing was changed. It would change: {}",
                        watched.probe.record.name, probe_kept(watched.probe, watched.after.score),
                        *watched.probe.record.floor, lines),
        "leave these questions out, or lower the probe's floor");
  }
}

}  // namespace accrete
