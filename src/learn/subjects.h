// Subjects of facts, and names to put in their place.
//
// The subject of a fact is what its phrasings share and the phrasings of other facts do not.
// Neighbours are the same phrasings about other subjects: an update that also changes those has
// learned the phrasing, not the fact (design §3).
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

// The longest run of whole words that occurs in every phrasing of `prompts` (>= 2) and that is rare
// elsewhere: in no prompt of more than `most` of `others`. Leading and trailing common words
// ("the", "of") and punctuation are cut. Empty when there is none.
std::string find_subject(std::span<const std::string> prompts,
                         std::span<const std::vector<std::string>> others);

// Fills in `subject` of every fact that has none and for which one is found. An item with one
// phrasing is compared with the other items: the longest run of capitalised or digit-bearing words
// that no other item's prompt has. Returns how many facts have a subject now.
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
