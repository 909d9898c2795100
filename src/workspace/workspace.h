// Workspace: a model folder and everything that can be done with it. The one service layer: the
// command line parses and prints, the server speaks HTTP, Python converts; the work is here.
//
//   auto workspace = Workspace::open("my-model");
//   auto report = workspace.teach(read_dataset("facts.jsonl"));
//   auto answer = workspace.ask({"How heavy is the Pellor 300?"});
//
// The network is opened once, when it is first needed; verbs that need none never open it. What was
// taught is a state apart from it: a `State` is a model that nothing changes, and all states of a
// workspace share the network's tensors. Teach, undo, redo, revert and compact put another state in
// its place; who began with one keeps it to the end. Any number of threads may use a workspace:
// they may ask under different states while one of them teaches. One at a time may change the
// folder, across threads and processes (kConflict).
//
// A workspace may be an overlay's (api::OpenOptions::overlay, or overlay()): the same calls, on the
// facts of one person or tenant over what all share. What it teaches goes into the overlay's ledger
// and is heard there alone; its states share the network and every shared fact with the model's.
//
// Options and reports are plain data (accrete/types.h), as JSON by workspace/json.h. Everything
// fails with Error; a call that threw has changed neither the folder nor the state. Besides what is
// said below calls throw kNotFound (no such folder, no model), kIo, kFormat, kInterrupted.
//
// Non-goals: arguments, HTTP, printing; making a model (retrofit, upgrade); benchmarks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "accrete/types.h"
#include "base/progress.h"
#include "io/dataset.h"
#include "io/vector_set.h"
#include "workspace/history.h"

namespace accrete {

class LanguageModel;  // model/language_model.h

// A teach set of items that are in memory, refused in the words that a file's lines are. Messages
// name items as lines, from 1. Throws kInvalidArgument.
Dataset dataset_of(const std::vector<api::Item>& items);

class Workspace {
 public:
  // An immutable snapshot: the network with what was active at one moment. Never null.
  using State = std::shared_ptr<const LanguageModel>;
  // The index of the request, and the text of its answer that became final.
  using Stream = std::function<void(size_t index, std::string_view text)>;

  // Reads nothing yet: now() does, which throws kNotFound, kUnsupported (architecture),
  // kInvalidArgument (device, dtype), kFormat. With an overlay throws as overlay() does.
  static Workspace open(std::filesystem::path folder, const api::OpenOptions& options = {});
  Workspace(Workspace&&) noexcept;
  Workspace& operator=(Workspace&&) noexcept;
  ~Workspace();

  // An overlay of this model, which shares what is open of it. Throws kInvalidArgument (no name for
  // an overlay), kNotFound (hint: how it is made), kConflict (made for another base or reader),
  // kUnsupported (a model without a memory of facts, or this is an overlay's already).
  Workspace overlay(const std::string& name) const;

  const std::filesystem::path& folder() const;  // of the model

  // --- The state ---------------------------------------------------------------------------

  // The state as this workspace knows it; opens the model if it is not open.
  State now() const;
  // Takes over what others committed to the folder. True: there was something.
  bool refresh();
  // Of now(). The name of the state is that of the ledger (state_key).
  api::Info info() const;

  // --- Asking ------------------------------------------------------------------------------
  // `state` empty: now().

  // Answers all requests in one batch. Throws kInvalidArgument (an empty or too long prompt,
  // impossible options), kUnsupported (messages without a chat template).
  std::vector<api::Answer> ask(std::span<const api::Request> requests,
                               const api::AskOptions& options = {}, const Stream& stream = nullptr,
                               const Reporter& reporter = {}, State state = nullptr) const;
  // One question or one turn of a conversation.
  api::Answer ask(const api::Request& request, const api::AskOptions& options = {},
                  const Stream& stream = nullptr, const Reporter& reporter = {},
                  State state = nullptr) const;
  // Throws kUnsupported when the model cannot be talked with.
  void require_chat() const;
  // What `answer` to the request leans on. Of a model with a memory of facts the answer does not
  // matter and may be empty.
  api::Explanation explain(const api::Request& request, const std::string& answer = {},
                           const api::AskOptions& options = {}, State state = nullptr) const;
  // Answers the questions of `data` and measures its texts. `demonstrations`, if any, stand before
  // each question, which is then asked as plain text.
  api::EvalReport eval(const Dataset& data, const api::EvalOptions& options = {},
                       const std::optional<Dataset>& demonstrations = std::nullopt,
                       const Reporter& reporter = {}, State state = nullptr) const;
  // The same of a file. One of questions with choices (measure/abilities.h) is scored by their
  // likelihoods as raw text, and hears no facts. Throws as read_dataset() and read_choices().
  api::EvalReport eval_file(const std::filesystem::path& file, const api::EvalOptions& options = {},
                            const std::optional<Dataset>& demonstrations = std::nullopt,
                            const Reporter& reporter = {}) const;

  // --- Teaching ----------------------------------------------------------------------------

  // One transaction: learn, measure what the probes keep, commit; now() has it from then on. Throws
  // kRefused (a floor would break, max_seconds passed), kInvalidArgument, kConflict.
  api::TeachReport teach(const Dataset& data, const api::TeachOptions& options = {},
                         const Reporter& reporter = {});
  // Takes away what was taught from a document, or from all below a folder, by its name as teach
  // read it. An update like any other: undo brings it back. Throws kNotFound (no such document),
  // kUnsupported, kConflict.
  api::ForgetReport forget(const std::string& source);
  // Writes a teach set of questions and answers that the model makes of the set's documents, to be
  // read, corrected and taught; nothing is changed. Goes on where a run was stopped. Throws
  // kUnsupported (a model that does not read), kConflict (`file` is there and whole).
  api::MadeReport make_questions(const Dataset& data, const std::filesystem::path& file,
                                 const Reporter& reporter = {}) const;
  // Takes over facts that were taught elsewhere, from files of facts_file() or updates: one update,
  // and nothing is learned. Throws as merge_facts() of learn/fact_merge.h, kUnsupported (a model
  // without a memory of facts). Of a model of vectors an update for each file, as merge_vectors()
  // of vector/vector_merge.h; what counts as a fact then is a set of rows.
  api::MergeReport merge(std::span<const std::filesystem::path> files,
                         const api::MergeOptions& options = {}, const Reporter& reporter = {});
  // Writes all facts of the model, of an overlay its own, into one file that merge() takes, in the
  // place of one that is there. Throws kRefused (there are none), kUnsupported.
  api::FactsFile facts_file(const std::filesystem::path& file) const;
  // What it would do; nothing is changed.
  api::PlanReport plan(const Dataset& data, const api::TeachOptions& options = {},
                       const Reporter& reporter = {}) const;

  // --- Models of vectors -------------------------------------------------------------------
  // A policy, a classifier or a table model (docs/domains.md): what they are taught and asked are
  // rows of numbers. What has to do with text throws kUnsupported of them, and these of others;
  // history, audit, digest, check and info are for all.

  // By the folder alone.
  bool takes_vectors() const;
  // As teach, plan and add_probe above. Also throws kInvalidArgument (a set that does not fit the
  // model), kConflict (it was taught already; the same input as another class).
  api::TeachReport teach(const VectorSet& set, const api::TeachOptions& options = {},
                         const Reporter& reporter = {});
  api::PlanReport plan(const VectorSet& set, const api::TeachOptions& options = {},
                       const Reporter& reporter = {}) const;
  api::ProbeInfo add_probe(const VectorSet& set, const api::ProbeOptions& options,
                           const Reporter& reporter = {});
  // What the model answers to each row of the set, whose targets do not matter.
  std::vector<api::Action> act(const VectorSet& set) const;
  // How well it does on the set, by the set's metric or the model's. In [0, 1].
  double score(const VectorSet& set) const;

  // --- What was taught ---------------------------------------------------------------------

  // log, show and tag, which change no state: of the ledger as it is now.
  const History& history() const;
  // As History has them, and now() follows.
  api::ActiveReport undo(int64_t n = 1);
  api::ActiveReport redo(int64_t n = 1);
  api::ActiveReport revert(const std::string& id, bool again = false);

  // An update, "base" or "state" beside another; `b` empty: all other active updates.
  api::DiffReport diff(const std::string& a, const std::string& b = {}) const;
  // At most `most` of what can be many (subjects, overlaps, contested slots, anomalies).
  api::AuditReport audit(size_t most = 10) const;
  // Folds all active updates into one, without a bit of the state changing. With `erase` the files
  // of all that is not active are removed too: what was corrected, undone or forgotten is gone from
  // the disk and cannot come back. Throws kRefused when there is nothing to fold and nothing to
  // erase.
  api::CompactReport compact(const Reporter& reporter = {}, bool erase = false);
  // Of the update files, checked; reads every weight.
  api::Digest digest() const;
  // A folder that transformers loads; `to` must not exist or be empty. Throws kInvalidArgument,
  // kUnsupported.
  api::ExportReport export_to(const std::filesystem::path& to, const Reporter& reporter = {}) const;

  // --- Probes ------------------------------------------------------------------------------
  // A list and removal: history().

  // Throws kConflict (the name is taken, somebody is changing the folder), kInvalidArgument.
  api::ProbeInfo add_probe(const Dataset& data, const api::ProbeOptions& options,
                           const Reporter& reporter = {});
  // Of the questions that the model answers right today: one of the answers and no more in the
  // first line (with `raw` it may go on). Throws kRefused when there are none.
  api::DiscoverReport discover_probe(const Dataset& data, const api::ProbeOptions& options,
                                     const std::optional<Dataset>& demonstrations = std::nullopt,
                                     const Reporter& reporter = {});
  // Runs every probe, state and probes of one moment.
  api::CheckReport check(const Reporter& reporter = {}) const;

 private:
  struct Impl;
  explicit Workspace(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace accrete
