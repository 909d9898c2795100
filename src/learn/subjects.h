// Subjects of facts, and names to put in their place.
//
// The subject of a fact is what its phrasings share and the phrasings of other facts do not.
// Neighbours are the same phrasings about other subjects: an update that also changes those has
// learned the phrasing, not the fact.
//
// Non-goals: named-entity recognition; types of names.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/rng.h"
#include "io/dataset.h"

namespace accrete {

// The longest run of whole words that occurs in every phrasing of `prompts` and is rare among
// `others` (the prompts of the other facts). Of a single phrasing only a name will do: words in
// capitals or with digits. Failing that, the rarest shared words, or of one phrasing the rarest
// word; empty when the prompts share nothing.
std::string find_subject(std::span<const std::string> prompts,
                         std::span<const std::vector<std::string>> others);

// Fills in `subject` of every fact that has none and for which one is found; a conversation of one
// question and one answer becomes a fact. Returns how many facts have a subject now.
int64_t fill_subjects(std::span<Item> items);

// Names in running text: runs of 1 to 4 capitalised words inside sentences, distinct, sorted.
// `limit` of them are drawn by `rng`.
std::vector<std::string> find_names(std::span<const std::string> documents, size_t limit, Rng rng);

// Prompts of `items` with their subject replaced by names that are not subjects of the set;
// `per_prompt` of each distinct phrasing. In a stable order.
std::vector<std::string> make_neighbours(std::span<const Item> items,
                                         std::span<const std::string> names, int64_t per_phrasing,
                                         Rng rng);

}  // namespace accrete
