// What was taught and what is kept, as plain data: updates, differences, audits, overlays, merges,
// probes. A part of types.h, which says how names and shares are meant.
//
// Non-goals: behaviour; types of libtorch or of a JSON library.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace accrete::api {

// --- What was taught ---------------------------------------------------------------------------

// One update in the ledger.
struct UpdateInfo {
  std::string id;      // 16 hex digits
  std::string time;    // UTC, ISO 8601
  bool active = true;  // false: undone
  int64_t items = 0;
  int64_t rows = 0;
  std::string source;  // the teach set's path, or "memory"
  std::string tag;     // may be empty
  int64_t order = 0;   // 1, 2, ...
  std::string digest;  // of the teach set
  std::string parent;  // the update before it when it was made; empty: the base
  uint64_t seed = 0;
  std::string method;
  std::string tool_version;
  std::string measurements;  // a JSON object: learned, kept, seconds, ...
};

// An update with what it was taught.
struct UpdateDetails {
  struct Lesson {
    int64_t line = 0;
    std::vector<std::string> prompts, answers;  // of a fact
    std::string subject;                        // may be empty
    std::string excerpt;                        // of a text or conversation
    bool verbatim = false;                      // the answer is written word for word
    bool leave = false;                         // a question that is left to the model: no answers
    // Of a passage, whose pieces are `prompts`; without any, documents that were forgotten.
    std::string document, section;
    int64_t forgotten = 0;  // passages
  };
  UpdateInfo update;
  std::vector<Lesson> taught;
};

// What undo, redo and revert did.
struct ActiveReport {
  std::string done;              // "undone", "redone", "reverted", "activated"
  std::vector<std::string> ids;  // undone: newest first; redone: oldest first
  int64_t active = 0;            // updates that are active now
};

struct TagReport {
  std::string id;
  std::string tag;  // empty: it was taken away
};

// SHA-256 in hex, over the names, types, shapes and bytes of every tensor. Equal: the same model.
struct Digest {
  std::string base;   // what teaching never changes
  std::string state;  // with the active updates
};

// Two sets of facts, or of rows, side by side.
struct DiffReport {
  struct Line {
    std::string question, a, b;  // answers; empty: not there
  };
  struct Facts {
    int64_t a = 0, b = 0, shared = 0;
    std::vector<Line> changed, only_a, only_b;
  };
  struct Block {
    int64_t block = 0;
    int64_t rows_a = 0, rows_b = 0, shared = 0;
    double norm_a = 0, norm_b = 0, norm_difference = 0;
  };
  struct Rows {
    Block all;  // summed
    std::vector<Block> blocks;
    double cosine = 0;                     // over the shared rows
    int64_t anchors_a = 0, anchors_b = 0;  // places that it speaks at
    int64_t anchors_near = 0;              // of a, within `radius` of one of b
    double radius = 0;                     // the gate's
  };
  std::string a, b;  // full names
  std::optional<Facts> facts;
  std::optional<Rows> rows;
};

struct AuditReport {
  struct FactUpdate {
    std::string id, tag, source;
    int64_t facts = 0;   // in the state; the others were corrected or taught again since
    int64_t taught = 0;  // in its file
    int64_t wordings = 0;
    int64_t bytes = 0;  // of its file
  };
  struct Subject {
    std::string subject;  // empty: facts about nothing in particular
    int64_t facts = 0;
  };
  struct Document {
    std::string source;  // a path, an address
    int64_t passages = 0;
    std::string update;  // that taught it
  };
  struct Facts {
    int64_t facts = 0, wordings = 0;
    int64_t passages = 0;
    std::vector<Document> documents;  // by name
    int64_t left = 0;                 // questions that are left to the model, among `facts`
    int64_t bytes = 0;
    std::vector<FactUpdate> updates;  // in ledger order
    std::vector<Subject> subjects;    // most facts first
  };
  struct RowUpdate {
    std::string id, tag, source;
    int64_t items = 0, rows = 0;
    int64_t exclusive = 0;  // that no other active update writes
    int64_t anchors = 0;    // 0: it speaks everywhere
    double norm = 0, largest_row = 0;
  };
  struct Block {
    int64_t block = 0, used = 0, slots = 0;
    double norm = 0, largest_row = 0;
  };
  struct Shared {
    std::string a, b;
    int64_t shared = 0;
    double cosine = 0;
  };
  struct Contested {
    int64_t block = 0, slot = 0;
    std::vector<std::string> updates;
    double norm = 0, sum_of_norms = 0;
  };
  struct Rows {
    std::vector<RowUpdate> updates;  // in ledger order
    std::vector<Block> blocks;
    std::vector<Shared> overlaps;      // most shared slots first
    std::vector<Contested> contested;  // most updates first
  };
  struct VectorUpdate {
    std::string id, tag, source, task;
    int64_t rows = 0;                  // that it was taught
    std::vector<std::string> outputs;  // that they were of
    bool sums = false;                 // it holds their sums, not its rows
    int64_t bytes = 0;                 // of its file
  };
  struct Vectors {
    std::vector<VectorUpdate> updates;  // in ledger order
    std::vector<std::string> outputs;   // of the state
    int64_t columns = 0, used = 0;      // slots, and those that any row uses
    int64_t rows = 0, bytes = 0;        // of all updates
  };
  std::optional<Facts> facts;  // one of the three
  std::optional<Rows> rows;
  std::optional<Vectors> vectors;
  std::vector<std::string> anomalies;  // in words
};

struct CompactReport {
  std::vector<std::string> updates;         // the folds that were committed
  std::vector<std::string> folded;          // what they stand for, in ledger order
  std::string digest_before, digest_after;  // of the state; equal
  int64_t rows_before = 0, rows_after = 0;
  int64_t bytes_before = 0, bytes_after = 0;  // of the update files that a model reads
  std::vector<std::string> erased;  // updates that are not active and whose files are gone
  int64_t erased_bytes = 0;
};

struct ExportReport {
  std::string folder;
  std::vector<std::string> updates;  // ids, in ledger order
  std::vector<std::string> files;    // names in the folder, sorted
};

// --- Overlays and merging --------------------------------------------------------------------

struct OverlayInfo {
  std::string name;
  std::string created;  // UTC, ISO 8601
  int64_t updates = 0;  // that are active
  int64_t facts = 0, passages = 0;
  int64_t bytes = 0;    // of its files
  std::string problem;  // why it cannot be used, in words; empty: it can
};

// What was removed from the disk.
struct ErasedOverlay {
  std::string name;
  int64_t files = 0, bytes = 0;
};

// The facts of a model or an overlay in one file, which merge() takes.
struct FactsFile {
  std::string file;
  std::string id;  // of its bytes
  int64_t facts = 0;
  int64_t bytes = 0;
};

struct MergeOptions {
  // Of a question that has another answer already: "refuse" all, keep "ours", take "theirs".
  std::string on_conflict = "refuse";
};

struct MergeReport {
  struct Clash {  // one question with two answers
    std::string question;
    std::string answer, file;        // in the file
    std::string own_answer, update;  // here
  };
  std::string update;    // id; empty: everything is there already
  int64_t files = 0;     // different ones
  int64_t facts = 0;     // different ones in them
  int64_t taken = 0;     // that are new here
  int64_t there = 0;     // that were here
  int64_t kept = 0;      // left out for a fact of ours
  int64_t replaced = 0;  // of ours that theirs stand in the place of
  std::vector<Clash> clashes;
};

// --- Probes --------------------------------------------------------------------------------------

// What must be kept: a named set of items with what the model scored when it was made.
struct ProbeOptions {
  std::string name;             // letters, digits, '_', '.', '-'
  std::optional<double> floor;  // smallest share of today's score that a teach may leave
  bool raw = false;             // prompts as they are, without the chat template
  bool replace = false;         // a probe of that name
};

struct ProbeInfo {
  std::string name;
  int64_t items = 0;
  double base = 0;  // its score when it was made
  std::optional<double> floor;
};

struct DiscoverReport {
  std::string name;
  int64_t asked = 0;
  int64_t kept = 0;  // answered right, and in the probe
};

struct CheckReport {
  struct Probe {
    std::string name;
    double base = 0, now = 0;
    double kept = 1;  // `now` relative to `base`
    std::optional<double> floor;
    bool holds = true;
  };
  std::vector<Probe> probes;  // by name
  bool holds = true;          // all of them
};

}  // namespace accrete::api
