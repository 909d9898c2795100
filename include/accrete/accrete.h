// accrete as a library: give a language model a memory, teach it facts, ask it, take them back.
//
//   accrete::retrofit("SmolLM2-135M-Instruct.gguf", "my-model");
//   auto model = accrete::Model::open("my-model");
//   model.teach("facts.jsonl");
//   std::cout << model.ask("Where was Ada Lovelace born?").text;
//   model.undo();
//
// A small facade over what the command line does, without a tensor in it: compiling against it
// needs the standard library alone, linking needs libtorch (find_package(accrete) sees to it).
// Everything fails with accrete::Error (error.h): a code, a message, a hint; a call that threw has
// changed nothing. The codes named below are those a caller may want to tell apart; any call may
// also throw kIo, kFormat (damaged files) and kInternal.
//
// On a machine that has other work to do, run your program with OMP_WAIT_POLICY=passive (the
// command line sees to it itself): libtorch's idle threads spin otherwise, and teaching may take
// several times as long.
//
// The names live in accrete::api and are visible as accrete::Model and so on.
//
// Non-goals: tensors, probes and benchmarks (the command line has them), a stable binary interface.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "accrete/error.h"

namespace accrete::api {

// "0.1.0": of the library, also recorded with every update.
std::string_view version();

// How far a long operation is.
struct Progress {
  std::string_view stage;  // "fit keys", "write", ...: one after the other
  int64_t done = 0;        // of `total`, in whatever the stage counts
  int64_t total = 0;       // 0: not known
  std::string detail;      // "loss 0.31", ...; may be empty
};

// For long operations; both may be empty. They are called by the thread that called the operation.
struct Callbacks {
  std::function<void(const Progress&)> progress;
  // Asked between steps, a few times a second. True: the operation throws kInterrupted.
  std::function<bool()> cancelled;
};

// --- Making a model --------------------------------------------------------------------------

struct RetrofitOptions {
  // The sentence encoder that reads questions, a folder of the BERT family. Empty: the one that is
  // installed with accrete, or the one that $ACCRETE_READER names.
  std::filesystem::path reader = {};
  std::optional<int64_t> block = {};  // whose output values are added to; empty: chosen by depth
  std::string tell = {};              // "value", "note", "both"; empty: by what the model can
  double caution = 0;                 // above 0: accept fewer questions as taught; log-odds
  std::string device = "cpu";         // "cpu", "cuda", "cuda:N"
  int threads = 0;                    // 0: every core this process may use
};

struct RetrofitReport {
  int64_t block = 0;  // whose output values are added to
  std::string tell;   // how an accepted fact is told
  double seconds = 0;
};

// Gives an ordinary model a memory of facts: `source`, a Hugging Face folder or a .gguf file, is
// left alone, and `folder`, which must not exist or be empty, becomes the new model when it is
// complete. Its answers stay bit-identical until something is taught. Seconds.
// Throws kNotFound (no such source or reader), kConflict (`folder` is in use), kInvalidArgument
// (options that fit no model), kUnsupported (an architecture accrete does not know), kInterrupted.
RetrofitReport retrofit(const std::filesystem::path& source, const std::filesystem::path& folder,
                        const RetrofitOptions& options = {}, const Callbacks& callbacks = {});

// --- Asking ----------------------------------------------------------------------------------

struct OpenOptions {
  std::string device = "cpu";     // "cpu", "cuda", "cuda:N"
  std::string dtype = "float32";  // "float32", "bfloat16", "float16"
  int threads = 0;                // of the whole process; 0: every core it may use
};

struct AskOptions {
  int64_t max_tokens = 256;            // longest answer
  double temperature = 0;              // 0: greedy, always the same answer
  int64_t top_k = 0;                   // choose among the k best tokens; 0: all
  double top_p = 1;                    // choose within this probability mass, (0, 1]
  double min_p = 0;                    // drop tokens below this share of the best one's probability
  double repetition_penalty = 1;       // > 1: say less of what was said; 1: off
  std::vector<std::string> stop = {};  // the answer ends before the first of these
  uint64_t seed = 0;                   // matters with temperature > 0
  bool raw = false;                    // continue the prompt as it is, without the chat template
  double caution = 0;                  // above 0: accept fewer questions as taught; log-odds
};

struct Answer {
  std::string text;
  bool fact = false;  // it was answered by what was taught
  int64_t tokens = 0;
  std::string finish_reason;  // "stop": it ended; "length": max_tokens were written
};

// --- Teaching --------------------------------------------------------------------------------

struct Message {
  std::string role = {};  // "system", "user", "assistant"
  std::string content = {};
};

// One thing to learn, as one line of a teach set: a fact (prompts and answers), a conversation
// (messages) or running text. Fill in one of the three kinds.
struct Item {
  std::vector<std::string> prompts = {};  // phrasings of one question; several make it stick better
  std::vector<std::string> answers = {};  // the first is taught, the others count as right too
  std::string subject = {};               // whom it is about, as in the prompts; empty: found
  bool verbatim = false;                  // its answer is written word for word
  bool leave = false;                     // without answers: a question that is left to the model
  std::vector<std::string> asked = {};    // phrasings to measure with, never taught; may be empty
  std::vector<Message> messages = {};     // ends with the assistant, whose turns are learned
  std::string text = {};
};

struct TeachOptions {
  bool raw = false;   // prompts as they are, without the chat template: for sentences to complete
  uint64_t seed = 0;  // the same seed, set and state give the same update
  double max_seconds = 0;  // refuse rather than take longer; 0: no limit
  int64_t slots = 0;       // rows per memory layer at most; 0: by the size of the set
  // Which slots are written: "interference", or for comparison "tfidf", "gradient", "fisher", "tf",
  // "random", "all".
  std::string ranking = "interference";
  std::optional<double> lambda = {};  // learning (small, 1e-6) against keeping (large, 1e-4)
  std::optional<int64_t> steps = {};  // of a subject at most, for each fact about it
};

// A share is in [0, 1]: of phrasings that are answered exactly.
struct Change {
  double before = 0;
  double after = 0;
};

// What a probe of the model measured: a share, or bits per byte for running text.
struct Kept {
  double before = 0;
  double after = 0;
  double kept = 1;              // `after` relative to the probe's base; 1: nothing was lost
  std::optional<double> floor;  // smallest `kept` that is allowed; empty: none
};

struct TeachReport {
  std::string update;  // id, for log() and the command line
  int64_t items = 0;
  Change learned;                    // in the taught phrasings
  std::optional<Change> asked;       // in those that are asked and never taught, if there are any
  std::map<std::string, Kept> kept;  // by probe
  std::vector<std::string> remarks;  // on the set, in words
  int64_t rows = 0;                  // keys and value vectors written
  int64_t parameters = 0;            // numbers in them
  double seconds = 0;
  int64_t peak_bytes = 0;  // largest resident memory of the process so far
};

// One update in the ledger.
struct UpdateInfo {
  std::string id;      // 16 hex digits
  std::string time;    // UTC, ISO 8601
  bool active = true;  // false: undone
  int64_t items = 0;
  int64_t rows = 0;
  std::string source;  // the teach set's path, or "memory"
  std::string tag;     // may be empty
};

// SHA-256 in hex, over the names, types, shapes and bytes of every tensor. Equal: the same model.
struct Digest {
  std::string base;   // what teaching never changes
  std::string state;  // with the active updates
};

// An open model folder. Move-only; a moved-from Model may only be destroyed or assigned to. Not for
// two threads at once, but any number of Models and processes may have one folder open: they see
// the state at open or at their own last change, or after reload(). One at a time may change it.
class Model {
 public:
  // Memory-maps the base and sums up the active updates. A folder without memory layers can be
  // asked but not taught. Throws kNotFound (no such folder), kUnsupported (architecture),
  // kInvalidArgument (device, dtype).
  static Model open(const std::filesystem::path& folder, const OpenOptions& options = {});
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

  const std::filesystem::path& folder() const;

  // Answers a question, or continues it with AskOptions::raw. `stream` is given the text piece by
  // piece, whole UTF-8 characters each, while it is written. Throws kInvalidArgument (an empty or
  // too long prompt, impossible options), kInterrupted.
  Answer ask(const std::string& prompt, const AskOptions& options = {},
             const std::function<void(std::string_view)>& stream = nullptr,
             const Callbacks& callbacks = {}) const;

  // One transaction: write few rows, measure what was learned and what the model's probes kept,
  // commit; this Model answers with it from then on. The file is a teach set, .jsonl, .json or
  // .txt, each may be .zst (docs/formats.md). Throws kRefused (a probe would fall below its floor,
  // or max_seconds passed), kInvalidArgument (nothing to teach, one question with two answers, a
  // model without memory layers), kNotFound (no such file), kFormat (the file is damaged; with its
  // line), kConflict (somebody else is changing the folder, or this very update is in the ledger),
  // kInterrupted.
  TeachReport teach(const std::filesystem::path& file, const TeachOptions& options = {},
                    const Callbacks& callbacks = {});
  // The same from memory. Messages name items as lines, from 1.
  TeachReport teach(const std::vector<Item>& items, const TeachOptions& options = {},
                    const Callbacks& callbacks = {});

  // Takes the last n active updates back, exactly, and returns their ids, newest first. Throws
  // kInvalidArgument when there are fewer, kConflict, kNotFound (a model without memory layers).
  std::vector<std::string> undo(int64_t n = 1);
  // Puts the last n undone ones back, unless something was taught since; ids, oldest first. Throws
  // as undo() does.
  std::vector<std::string> redo(int64_t n = 1);

  // Every update, oldest first, undone ones too; empty for a model without memory layers.
  std::vector<UpdateInfo> log() const;

  // Reads every weight: seconds on a large model.
  Digest digest() const;

  // Takes over what others changed in the folder.
  void reload();

 private:
  struct Impl;
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace accrete::api

// The library's own sources have other types of some of these names.
#ifndef ACCRETE_INTERNAL
namespace accrete {
using namespace api;  // NOLINT(google-build-using-namespace)
}
#endif
