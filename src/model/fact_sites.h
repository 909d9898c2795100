// Where the vectors of a fact's value are added.
//
// The first `at_end` vectors belong to the last tokens of the prompt (in a chat the assistant's
// header), the last vector to the last token; vector at_end + j to the token before which
// (j + 1) * every tokens of the answer stand. Token 0 of a text is never written at: its state is
// an outlier that all others lean on.
//
// Non-goals: what the vectors are.
#pragma once

#include <cstdint>

namespace accrete {

struct FactSites {
  int64_t block = 0;  // whose output they are added to
  int64_t at_end = 3;
  int64_t every = 10;

  // How many vectors an answer of so many tokens, its end included, has.
  int64_t vectors(int64_t answer) const { return at_end + (answer - 1) / every; }
  // The token of vector j behind a prompt of so many tokens; below 1: it has no place.
  int64_t token(int64_t prompt, int64_t j) const {
    return j < at_end ? prompt - at_end + j : prompt - 1 + (j - at_end + 1) * every;
  }
};

}  // namespace accrete
