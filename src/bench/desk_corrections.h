// Corrections: facts are taught, some of them are taught again with other answers, and the new
// answers are asked for, and all the others. By whole teaches on a folder of the benchmark's own,
// for finding what a fact corrects is a part of teach.
//
// Non-goals: methods without updates.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/progress.h"
#include "bench/desk_data.h"
#include "model/language_model.h"

namespace accrete {

// {"corrected", "replaced", "new_taught", "new_untaught", "old_said", "others_unchanged",
// "others_questions", "seconds", "correct_seconds", "bytes_a_fact"}. The model's folder is not
// changed. Throws what teach throws.
nlohmann::ordered_json measure_corrections(const LanguageModel& model, const OpenOptions& open,
                                           const DeskSet& set, const Reporter& reporter);

}  // namespace accrete
