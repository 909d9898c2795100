// The digest of a state as the ledger's update files say it: SHA-256 over the base, the memory
// layers and what the active updates add. LanguageModel::state_digest() is the same of a model that
// is open.
//
// Non-goals: the names of states (ledger.h, state_key).
#pragma once

#include <string>

#include "ledger/ledger.h"
#include "model/language_model.h"

namespace accrete {

// `model` was opened without updates. Every update file is read and checked against its id, but the
// rows of gated updates stay in their files: memory is needed for those without a gate alone.
// Throws as Ledger::load does, kFormat (an update of another model).
std::string state_digest(const LanguageModel& model, const Ledger& ledger);

}  // namespace accrete
