// Keys of facts: their wordings as the reader reads them, whole and with the subject masked, and
// their answers; and what keys say about a teach set before anything is learned.
//
// Non-goals: choosing by keys (memory/fact_store.h), values (fact_values.h).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ledger/update_file.h"
#include "model/reader.h"

namespace accrete {

// How many remarks a teach makes at most.
inline constexpr size_t kMostRemarks = 20;

// A text as remarks quote it.
std::string quoted(const std::string& text);

// Keys of one wording each, appended to `facts`.
void append_keys(const Reader& reader, std::span<const TaughtItem> items, UpdateFacts& facts);

// Facts whose wordings ask different things, and pairs of facts that lie closer to one another than
// to themselves. `facts` has the keys of `items`.
void remark_on_keys(const UpdateFacts& facts, const std::vector<TaughtItem>& items,
                    std::vector<std::string>& remarks);

}  // namespace accrete
