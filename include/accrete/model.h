// The calls of the C++ interface: making a model, and an open one. See accrete.h, which is to be
// included; options and reports are in types.h.
//
// Non-goals: what is said in accrete.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "accrete/error.h"
#include "accrete/types.h"

namespace accrete::api {

// Gives an ordinary model a memory of facts: `source`, a Hugging Face folder or a .gguf file, is
// left alone, and `folder`, which must not exist or be empty, becomes the new model when it is
// complete. Its answers stay bit-identical until something is taught. Seconds.
// Throws kNotFound (no such source or reader), kConflict (`folder` is in use), kInvalidArgument
// (options that fit no model), kUnsupported (an architecture accrete does not know), kInterrupted.
RetrofitReport retrofit(const std::filesystem::path& source, const std::filesystem::path& folder,
                        const RetrofitOptions& options = {}, const Callbacks& callbacks = {});

// Makes a model anew that an earlier accrete retrofitted, and teaches what its ledger has again.
// Throws as retrofit() does, and kInvalidArgument (there is nothing to upgrade).
UpgradeReport upgrade(const std::filesystem::path& source, const std::filesystem::path& folder,
                      const RetrofitOptions& options = {}, uint64_t seed = 0,
                      const Callbacks& callbacks = {});

// An open model folder. Move-only; a moved-from Model may only be destroyed or assigned to. Any
// number of threads may use one, and any number of Models and processes may have one folder open:
// they see the state at open or at their own last change, or after reload(). A call answers in the
// state that it began with. One at a time may change the folder (kConflict).
//
// Files with items (teach sets, questions) are .jsonl, .json or .txt, each may be .zst
// (docs/formats.md): kNotFound (no such file), kFormat (it is damaged; with its line).
class Model {
 public:
  // Memory-maps the base and sums up the active updates. A folder without a memory can be asked but
  // not taught. With OpenOptions::overlay everything below is of that overlay, which must be there.
  // Throws kNotFound (no such folder or overlay), kUnsupported (architecture), kInvalidArgument
  // (device, dtype, name), kConflict (an overlay of another base).
  static Model open(const std::filesystem::path& folder, const OpenOptions& options = {});
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

  const std::filesystem::path& folder() const;
  Info info() const;

  // Answers a question, or continues it with AskOptions::raw. `stream` is given the text piece by
  // piece, whole UTF-8 characters each, while it is written. Throws kInvalidArgument (an empty or
  // too long prompt, impossible options), kInterrupted.
  Answer ask(const std::string& prompt, const AskOptions& options = {},
             const std::function<void(std::string_view)>& stream = nullptr,
             const Callbacks& callbacks = {}) const;
  // The next turn of a conversation, whose last message is the user's. Also throws kUnsupported (a
  // model without a chat template).
  Answer ask(const std::vector<Message>& messages, const AskOptions& options = {},
             const std::function<void(std::string_view)>& stream = nullptr,
             const Callbacks& callbacks = {}) const;
  // What an answer to the prompt leans on. Of a model with a memory of facts: the fact that answers
  // it, or the nearest; then `answer` does not matter.
  Explanation explain(const std::string& prompt, const std::string& answer = {},
                      const AskOptions& options = {}) const;
  // Answers a file of questions and measures the texts in it. Of questions with choices the
  // likeliest choice is the answer.
  EvalReport eval(const std::filesystem::path& file, const EvalOptions& options = {},
                  const Callbacks& callbacks = {}) const;

  // One transaction: learn, measure what was learned and what the model's probes kept, commit; this
  // Model answers with it from then on. Throws kRefused (a probe would fall below its floor, or
  // max_seconds passed), kInvalidArgument (nothing to teach, one question with two answers, a model
  // without a memory), kConflict (somebody else is changing the folder, or this very update is in
  // the ledger), kInterrupted.
  TeachReport teach(const std::filesystem::path& file, const TeachOptions& options = {},
                    const Callbacks& callbacks = {});
  // The same from memory. Messages name items as lines, from 1.
  TeachReport teach(const std::vector<Item>& items, const TeachOptions& options = {},
                    const Callbacks& callbacks = {});
  // Writes a teach set of questions and answers that the model makes of a file's documents, or of
  // those below a folder, to be read, corrected and taught. Goes on where a run was stopped. Throws
  // kUnsupported (a model that does not read), kConflict (`file` is there and whole).
  MadeReport make_questions(const std::filesystem::path& documents,
                            const std::filesystem::path& file, const Callbacks& callbacks = {});
  // Takes away what was taught from a document, or from all documents below a folder, by its name
  // as teach() read it; undo() brings it back. Throws kNotFound.
  ForgetReport forget(const std::string& source);
  // Takes over facts that were taught elsewhere, from files that facts_file() wrote or updates, as
  // one update; nothing is learned. Throws kConflict (made for another model; a question has
  // another answer here, unless options say what to do), kInvalidArgument, kRefused.
  MergeReport merge(const std::vector<std::filesystem::path>& files,
                    const MergeOptions& options = {}, const Callbacks& callbacks = {});
  // Writes all facts, of an overlay its own, into one file. Throws kRefused when there are none.
  FactsFile facts_file(const std::filesystem::path& file) const;
  // What a teach would do to every probe, and what it would correct; nothing is changed. Throws as
  // teach() does.
  PlanReport plan(const std::filesystem::path& file, const TeachOptions& options = {},
                  const Callbacks& callbacks = {}) const;
  PlanReport plan(const std::vector<Item>& items, const TeachOptions& options = {},
                  const Callbacks& callbacks = {}) const;

  // Takes the last n active updates back, exactly, and returns their ids, newest first. Throws
  // kInvalidArgument when there are fewer, kConflict, kNotFound (a model without a memory).
  std::vector<std::string> undo(int64_t n = 1);
  // Puts the last n undone ones back, unless something was taught or reverted since; ids, oldest
  // first. Throws as undo() does.
  std::vector<std::string> redo(int64_t n = 1);
  // Takes one update back, anywhere in the order; with `again` brings it back. Returns its id.
  // Throws kNotFound, kInvalidArgument (it is so already), kConflict.
  std::string revert(const std::string& update, bool again = false);
  // Gives an update a name that is taken for its id everywhere; an empty one takes it away. Throws
  // kNotFound, kInvalidArgument (no name for a tag), kConflict (another update has it).
  void tag(const std::string& update, const std::string& name);

  // Every update, oldest first, undone ones too; empty for a model without a memory.
  std::vector<UpdateInfo> log() const;
  // One update, with what it was taught. Throws kNotFound.
  UpdateDetails show(const std::string& update) const;
  // Two updates side by side, or "base", or "state"; `b` empty: all other active updates.
  DiffReport diff(const std::string& a, const std::string& b = {}) const;
  // What is in the memory, and what looks odd; at most `most` of what can be many.
  AuditReport audit(size_t most = 10) const;
  // Folds all active updates into one, without a bit of the state changing. With `erase` the files
  // of all that is not active are removed too: what was corrected, undone or forgotten is gone from
  // the disk. Throws kRefused when there is nothing to fold (and nothing to erase).
  CompactReport compact(const Callbacks& callbacks = {}, bool erase = false);
  // Writes a folder that transformers loads; it must not exist or be empty. Throws
  // kInvalidArgument, kUnsupported.
  ExportReport export_to(const std::filesystem::path& folder,
                         const Callbacks& callbacks = {}) const;
  // Reads every weight: seconds on a large model.
  Digest digest() const;

  // Adds the items of a file as a probe, which teaches keep above its floor. Throws kConflict (the
  // name is taken), kInvalidArgument (the name, an item without an answer).
  ProbeInfo add_probe(const std::filesystem::path& file, const ProbeOptions& options,
                      const Callbacks& callbacks = {});
  // The same of those questions that the model answers exactly today, asked behind the
  // demonstrations of another file if one is given. Throws kRefused when there are none.
  DiscoverReport discover_probe(const std::filesystem::path& file, const ProbeOptions& options,
                                const std::filesystem::path& demonstrations = {},
                                const Callbacks& callbacks = {});
  std::vector<ProbeInfo> probes() const;
  void remove_probe(const std::string& name);  // throws kNotFound
  // Measures every probe.
  CheckReport check(const Callbacks& callbacks = {}) const;

  // Overlays of the folder's model: facts of one person or tenant (OpenOptions::overlay). Throw
  // kInvalidArgument (no name for one), kNotFound, kConflict (it is there, or in use),
  // kUnsupported.
  OverlayInfo create_overlay(const std::string& name);
  std::vector<OverlayInfo> overlays() const;
  ErasedOverlay erase_overlay(const std::string& name);  // on the disk too

  // Takes over what others changed in the folder.
  void reload();

 private:
  struct Impl;
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace accrete::api
