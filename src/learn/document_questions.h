// Questions and answers that the model itself makes of documents: facts that a person can read,
// correct and teach, so that what is asked most needs no text in front of it.
//
// Of each passage the model writes questions, and answers them with the passage in front. A pair is
// kept when the way back holds: among all passages this one is accepted for the question and lies
// first, and the words of the answer stand in it. (Kin: round-trip consistency, Alberti et al.
// 2019.)
//
// The file is a teach set; a line names in its id where the pair comes from. Beside it, until all
// passages are done, FILE.progress names those that are: a run that was stopped goes on.
//
// Non-goals: teaching them (fact_teach.h); models that do not read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/progress.h"
#include "io/dataset.h"
#include "model/language_model.h"

namespace accrete {

struct MadeQuestions {
  int64_t passages = 0;  // of the set
  int64_t before = 0;    // of these done by an earlier run
  int64_t asked = 0;     // questions that the model wrote, in this run
  int64_t kept = 0;      // of these in the file
};

// Makes them of the set's documents, appending to `file`. Throws kUnsupported (a model that does
// not read), kInvalidArgument (no documents, a name that does not end in .jsonl), kConflict (the
// file is there and is not of a run that was stopped), kIo, kInterrupted.
MadeQuestions make_questions(const LanguageModel& model, const Dataset& data,
                             const std::filesystem::path& file, const Reporter& reporter);

// The questions in what a model wrote, one a line: marks of lists and quotes off, no line that is
// no question, that speaks of "the text", or that stands twice.
std::vector<std::string> questions_in(const std::string& written);

}  // namespace accrete
