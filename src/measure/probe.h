// Probes: what must be preserved, as a named set of items with a metric and a floor.
//
// Items are facts (metric `exact`: share answered right, teacher-forced) or texts (metric
// `bits_per_byte`). A probe's score `now` is held against its `base`, measured when it was made.
//
// Non-goals: storing (ledger/), deciding (learn/).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "ledger/ledger.h"
#include "model/examples.h"
#include "model/language_model.h"

namespace accrete {

struct Probe {
  ProbeRecord record;
  Dataset data;
  std::string digest;  // of the items as the ledger stores them; empty: it is not stored
  bool raw = false;
  std::string prefix;  // few-shot demonstrations before every prompt

  bool is_text() const { return data.items.front().kind == Item::Kind::kText; }
  ExampleOptions example_options() const;
};

// Those of a snapshot of `ledger`, which names the files in messages. Throws kFormat.
std::vector<Probe> probes_of(const Ledger& ledger, const Snapshot& snapshot);
// Those of the ledger as it is now. Throws as Ledger::snapshot does, kFormat.
std::vector<Probe> load_probes(const Ledger& ledger);

// The probe's score: share exact, or bits per byte (lower is better).
double probe_score(const LanguageModel& model, const Probe& probe, const Reporter& reporter = {});
// How well `now` holds against the base: now / base for shares, base / now for bits per byte; 1 is
// unchanged.
double probe_kept(const Probe& probe, double now);
// probe_kept(now) >= floor, or there is no floor.
bool probe_holds(const Probe& probe, double now);

// The few-shot text "Question: q?\nAnswer: a\n\n..." of demonstrations, ending where a question
// goes; empty for none.
struct FewShot {
  std::string before;  // demonstrations and "Question: "
  std::string after;   // "\nAnswer:"
};
FewShot make_few_shot(std::span<const Item> demonstrations);
// The prompt of a question in that form; adds a missing question mark.
std::string few_shot_prompt(const FewShot& few_shot, const std::string& question);

// Keeps of `items` those the model answers right now; with few-shot demonstrations as raw text. The
// kept items' prompts are final (few-shot text included) and their first answer is the one the
// model gives.
std::vector<Item> discover(const LanguageModel& model, std::span<const Item> items,
                           const std::optional<FewShot>& few_shot, bool raw,
                           const Reporter& reporter = {});

// One line of JSON per item, as read_dataset reads it.
std::string to_jsonl(std::span<const Item> items);

}  // namespace accrete
