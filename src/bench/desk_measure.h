// What one method that was taught one set is worth: the row of `bench desk`.
//
// Answers are generated to their natural stop and compared as says_exactly() does. What was not
// taught is unchanged where a method that chooses accepts nothing, for the answer is then the base
// model's by construction; of every other method samples are generated before and after and
// compared word for word.
//
// Non-goals: teaching (desk_methods.h), tables.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "bench/desk_data.h"
#include "bench/desk_methods.h"

namespace accrete {

// How many are generated at most; of more a sample is drawn by the seed.
struct DeskLimits {
  int64_t taught = 300, untaught = 300;
  int64_t variants = 300;  // untaught wordings that are put in other ways
  int64_t unchanged = 60;  // of each kind, of methods that answer everything
  int64_t use = 240;
  int64_t use_tokens = 160;
  int64_t few_tokens = 32;  // of an answer that is only compared
};

// Without section, seed, method.
nlohmann::ordered_json measure_desk(DeskMethod& method, const DeskParts& parts,
                                    const DeskData& data, const DeskLimits& limits,
                                    const Reporter& reporter);

// Share of pairs in which `right` has the higher value, ties counting half; 0.5 without pairs.
double area_under_curve(std::span<const double> right, std::span<const double> wrong);

// The answer stands at the output's beginning, as words (normalize_answer).
bool begins_right(std::string_view output, std::span<const std::string> answers);

}  // namespace accrete
