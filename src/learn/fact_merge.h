// Merge: facts that were taught elsewhere, taken over as they are. Nothing is learned again.
//
// What is taken are update files of facts: another model's or overlay's, or what it exported. They
// must be made for this base, this reader and this block. Facts are united by their id
// (ledger/facts.h), so the order of the files does not matter and a fact that is there twice is
// there once. Two answers to one question, word for word, are a clash, and so are two versions of a
// document: all of them are found before anything changes.
//
// Non-goals: choosing between near questions (asking does that), rows of memory layers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "ledger/ledger.h"
#include "model/language_model.h"

namespace accrete {

enum class OnClash { kRefuse, kOurs, kTheirs };
// "refuse", "ours", "theirs". Throws kInvalidArgument.
OnClash parse_on_clash(const std::string& name);

struct FactClash {
  std::string question;
  std::string answer, file;        // theirs
  std::string own_answer, update;  // ours
};
struct MergeResult {
  std::string update;                                    // empty: everything is there already
  int64_t files = 0, facts = 0;                          // different ones
  int64_t taken = 0, there = 0, kept = 0, replaced = 0;  // as api::MergeReport
  std::vector<FactClash> clashes;
  std::shared_ptr<const LanguageModel> after;
};
// One update in the ledger of `folder`, a model's or an overlay's. Throws kInvalidArgument (no
// file, one that holds no facts or too many), kConflict (made for another base, reader or block;
// clashes, which the message names; two of the files clash; another writer), kRefused (a probe's
// floor would break), and as read_update does.
MergeResult merge_facts(const std::filesystem::path& folder,
                        std::span<const std::filesystem::path> files, const ModelInState& model_in,
                        OnClash on_clash, const std::string& tool_version,
                        const Reporter& reporter);

// All facts of a model's store (of an overlay its own) as one update that merge_facts() takes.
// Throws kRefused when there are none.
Update facts_in_one(const LanguageModel& model, const std::string& tool_version);

}  // namespace accrete
