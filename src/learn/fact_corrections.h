// Which facts that are there a teach corrects.
//
// A new fact with another answer replaces an old one when it holds one of its wordings word for
// word, or when each is taken for the other: most wordings of the new one are accepted as the old
// one, most of the old one as the new one in its place, and both by a margin. One side alone is not
// enough: "How long does a calibration take?" is often taken for "How often is it calibrated?".
// What lies near and stays is remarked on. A lesson may also name what it corrects ("corrects").
//
// With the same answer the two become one fact with the wordings of both, by the same rule; and a
// lesson whose wordings are all there already is left out.
//
// An overlay's lessons replace its own facts alone. A shared fact with another answer stays, and
// the lesson takes its wordings, so that in this overlay all of them are answered by the lesson.
//
// Non-goals: two answers in one file (fact_lessons.h refuses them), the ledger.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "learn/earlier.h"
#include "learn/fact_lessons.h"
#include "model/language_model.h"

namespace accrete {

// Says what the lessons replace, gives them the wordings of what they correct, takes out those that
// say nothing new, and adds remarks. `source_of`: the file that an update was taught from. Returns
// the corrections. Throws kInvalidArgument where nothing answers what a lesson says it corrects.
std::vector<Conflict> find_corrections(
    const LanguageModel& model, FactLessons& lessons,
    const std::function<std::string(const std::string&)>& source_of);

}  // namespace accrete
