// The benchmark of documents: people's questions about passages that were taught, asked closed
// book, with the right text in the context, with what the index finds first, and as `ask` answers.
//
// Of a set every third document is not taught: its questions have no answer in what was, though its
// neighbours, often about the same thing, are there. They must not be answered from these.
//
// Non-goals: teaching the answers; tables (verbs/bench_documents.cc).
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/progress.h"
#include "model/language_model.h"

namespace accrete {

struct DocumentBenchOptions {
  // Lines of question, answers, and context or text, title; or a folder of documents, which are
  // all taught, with questions.jsonl: question, answers and source, the name of the document.
  // Without answers: nothing that is taught answers it, though it looks so.
  std::filesystem::path data;
  std::filesystem::path unrelated;  // lines of question
  std::string half = "test";        // of the documents: "dev" the first, "test" the other, "all"
  int64_t questions = 100;  // that are answered in each way; choices are made for all of them
  std::vector<std::string> methods;  // closed, context, top1, top3, accrete; empty: all
  std::filesystem::path features;    // if given: evidence and truth to fit by, and no more
};

// One row for each method. Throws kInvalidArgument, kFormat, kInterrupted.
nlohmann::ordered_json run_document_bench(const LanguageModel& model,
                                          const DocumentBenchOptions& options,
                                          const Reporter& reporter);

}  // namespace accrete
