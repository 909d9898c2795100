// How many slips of typing lie between two words: insertions, deletions, substitutions and swaps of
// neighbours (Damerau 1964).
//
// Non-goals: spelling of questions (memory/spelling.h).
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace accrete {

// 3 stands for more than two.
size_t slips(std::string_view a, std::string_view b);

// Of `known` the one with the fewest slips from `word`, one or two of them, and fewer than a third
// of its letters; empty: none is near.
std::string nearest_word(std::string_view word, std::span<const std::string> known);

}  // namespace accrete
