// A smaller tokenizer out of a larger one: its special tokens, every byte, and its first merges.
//
// Merges are ordered by rank and each needs only those before it, so a prefix of the list is a
// tokenizer of its own: text is split as before, into shorter pieces.
//
// Non-goals: training a tokenizer, choosing merges for a corpus.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

namespace accrete {

// A tokenizer.json (byte-level BPE) cut to at most `vocabulary` tokens, with ids from 0 without
// holes: added tokens, bytes, merged tokens. Nothing is added before or after a text. Throws
// kInvalidArgument when there is no room for added tokens and bytes, kFormat.
nlohmann::json truncate_tokenizer(const nlohmann::json& tokenizer, int64_t vocabulary);

}  // namespace accrete
