// What is in a memory of facts: audit, diff and compact of models whose facts are addressed by the
// question.
//
// Non-goals: rows and slots (audit.h, compact.h), asking.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/progress.h"
#include "learn/compact.h"
#include "ledger/ledger.h"
#include "memory/fact_store.h"
#include "model/language_model.h"

namespace accrete {

struct FactsOfUpdate {
  std::string update, tag, source;
  int64_t taught = 0;  // facts in its file
  int64_t active = 0;  // of these in the state: the others were corrected or taught again since
  int64_t wordings = 0;
  int64_t bytes = 0;  // of its file
};
struct FactsOfSubject {
  std::string subject;  // empty: facts about nothing in particular
  int64_t facts = 0;
};
struct PassagesOfDocument {
  std::string document, update;
  int64_t passages = 0;
};
struct FactAudit {
  std::vector<FactsOfUpdate> updates;    // in ledger order
  std::vector<FactsOfSubject> subjects;  // most facts first
  int64_t facts = 0, wordings = 0, left = 0, bytes = 0;
  int64_t passages = 0;
  std::vector<PassagesOfDocument> documents;  // by name
  std::vector<std::string> anomalies;         // in words
};
// At most `most` subjects and anomalies. Throws as Ledger::load does.
FactAudit audit_facts(const Ledger& ledger, size_t most = 10);

// Two sets of facts side by side.
struct FactDifference {
  struct Line {
    std::string question, a, b;  // answers; empty: not there
  };
  int64_t facts_a = 0, facts_b = 0;
  int64_t shared = 0;         // the same wordings and answer in both
  std::vector<Line> changed;  // a question that both have, with two answers
  std::vector<Line> only_a, only_b;
};
FactDifference compare_facts(const std::vector<TaughtItem>& a, const std::vector<TaughtItem>& b);
// An update's facts by id, beginning of an id or tag; `base`: none; `state`: those of the state but
// for update `except`.
std::vector<TaughtItem> facts_named(const Ledger& ledger, const std::string& name,
                                    const std::string& except = {});

// Folds all active updates into one of the facts that the state has. As compact() says.
CompactResult compact_facts(const std::filesystem::path& folder, const ModelInState& model_in,
                            const std::string& tool_version, const Reporter& reporter);

// Appends a fact to an update: its texts, keys and values.
void append_fact(const StoredFact& from, Update& to);

// The update that first taught a fact of the state: behind a fold, the member that it came with.
UpdateRecord origin_of(const Ledger& ledger, const StoredFact& fact);

}  // namespace accrete
