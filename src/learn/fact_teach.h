// Teach and plan for a memory of facts (model/fact_memory.h): one transaction, as learn/teach.h
// says, of which this is the part for models whose facts are addressed by the question.
//
// What a teach can change is known exactly: the questions that its keys accept. So a forecast is no
// estimate, and a probe costs what its questions cost to read, unless one is accepted.
//
// Non-goals: rows and slots (teach.cc).
#pragma once

#include "learn/fact_lessons.h"
#include "learn/fact_values.h"
#include "learn/teach.h"

namespace accrete {

// Keys and values of lessons, as an update without metadata.
struct FactProposal {
  Update update;
  std::vector<uint8_t> exact;   // by wording of all lessons with a value: said exactly, afresh
  std::vector<uint8_t> before;  // the same without the values
  int64_t steps = 0, tokens = 0;
};
// `model` with its facts now. Throws kInterrupted.
FactProposal propose_facts(const LanguageModel& model, std::span<const FactLesson> lessons,
                           const FactValueOptions& options, const Reporter& reporter);

// What an update of facts says of the model that it is for, and where it comes from: what the same
// teach gives again, and no times. `accrete merge` compares it.
Metadata fact_metadata(const LanguageModel& model, const UpdateRecord& record);

// `folder` of the model or an overlay (ledger/overlay_folder.h). `model_in` is called once, after
// its ledger was opened.
TeachResult teach_facts(const std::filesystem::path& folder, const Dataset& data,
                        const ModelInState& model_in, const TeachOptions& options,
                        const Reporter& reporter);
PlanResult plan_facts(const std::filesystem::path& folder, const Dataset& data,
                      const ModelInState& model_in, const TeachOptions& options,
                      const Reporter& reporter);

struct ForgetResult {
  std::string update;
  std::vector<std::string> documents;
  int64_t passages = 0;
  std::shared_ptr<const LanguageModel> after;
};
// Takes what was taught from a document, or from all below a folder, away by an update of its own.
// Throws kNotFound, kConflict (another writer).
ForgetResult forget_documents(const std::filesystem::path& folder, const std::string& source,
                              const ModelInState& model_in, const std::string& tool_version);

}  // namespace accrete
