// The ledger: which updates a model has, in which order, which are active, and what was measured.
//
// SQLite (WAL, synchronous FULL) in `<model>/accrete/ledger.db` beside `updates/` and `probes/`.
// State is always base + the sum of the active updates' deltas in ledger order. A commit writes and
// syncs the update file first, then one SQLite transaction: a crash at any point leaves the old
// state or the new one (an orphan update file is harmless and removed by the next writer; the
// ledger notes beforehand what it is about to write, so files that others put there are left
// alone). One writer at a time, across processes (an advisory lock on `<model>/accrete/lock`);
// readers never block.
//
// Every call that changes something is one transaction: when it throws, nothing has changed. Rows
// are checked when they are read, and refused with kFormat if anything about them is off.
//
// An object may be shared between threads (its calls take turns). Do not use it in a forked child.
//
// Non-goals: tensors of the model, computing digests of a state (model/ does).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "ledger/update_file.h"

namespace accrete {

struct UpdateRecord {
  std::string id;
  int64_t order = 0;  // 1, 2, ...; ledger order
  std::string time;   // UTC, ISO 8601
  bool active = true;
  int64_t items = 0;          // taught items
  std::string source;         // the teach set's path as given
  std::string source_digest;  // SHA-256 of its bytes in hex; may be empty
  std::string parent;         // id of the update before it when it was made; empty: the base
  uint64_t seed = 0;
  std::string method;  // ranking and solver, in words of the CLI
  std::string tool_version;
  int64_t rows = 0;
  nlohmann::json measurements = nlohmann::json::object();  // learned, kept, seconds, ...
  std::string tag;                                         // may be empty
};

struct ProbeRecord {
  std::string name;             // [A-Za-z0-9_.-]+, at most 128
  std::string file;             // relative to <model>/accrete/
  std::optional<double> floor;  // smallest allowed score relative to `base`; nullopt: report only
  double base = 0;              // score when it was added
  int64_t items = 0;
  nlohmann::json details = nlohmann::json::object();
};

// A probe with its items, which are those that its record names by their digest.
struct StoredProbe {
  ProbeRecord record;
  std::string items;   // JSONL
  std::string digest;  // SHA-256 of the items in hex
};

// What the ledger says at one moment.
struct Snapshot {
  std::vector<UpdateRecord> active;  // in ledger order
  std::vector<StoredProbe> probes;   // by name
};

// Names the state that these active updates make, in ledger order: SHA-256 of their ids in hex.
// Equal names: equal states. Measurements carry it to say what they were taken of.
std::string state_key(const std::vector<UpdateRecord>& active);

// The updates that this one stands for, oldest first: `measurements["folds"]`, a list of objects
// with their `id`. A fold is the sum of what it folds; committing or reactivating it deactivates
// them, and taking it back reactivates them, in the same transaction.
std::vector<std::string> folds_of(const UpdateRecord& record);

class Ledger {
 public:
  enum class Mode { kRead, kWrite };
  // Makes `<model>/accrete/{ledger.db,updates,probes}`, completely or not at all, and opens it for
  // writing. Throws kConflict if there is a ledger or somebody is making one, kNotFound (no such
  // folder), kIo.
  static Ledger create(const std::filesystem::path& model);
  // The same in `folder` itself, an overlay's (overlay_folder.h).
  static Ledger create_in(const std::filesystem::path& folder);
  // kWrite takes the writer's lock and removes leftovers of a crash. Throws kNotFound (not an
  // accrete model: hint `accrete retrofit`), kConflict (another process is writing; its pid),
  // kFormat (a damaged database or a newer schema), kIo. kRead sees what writers commit meanwhile,
  // unless it cannot write to the folder and no writer has it open: then it sees the state at open.
  // `model` may be an overlay's folder too.
  static Ledger open(const std::filesystem::path& model, Mode mode);
  Ledger(Ledger&&) noexcept;
  Ledger& operator=(Ledger&&) noexcept;
  ~Ledger();

  std::vector<UpdateRecord> updates() const;  // in ledger order
  std::vector<UpdateRecord> active() const;
  // By id, unique id prefix (>= 4 digits) or tag; a tag wins over a prefix. Throws kNotFound,
  // kInvalidArgument (ambiguous).
  UpdateRecord find(const std::string& id) const;
  // The update's deltas, its file checked against its id. Throws kFormat if it was tampered with or
  // is gone, and as find() does.
  Update load(const std::string& id) const;

  // Commits: file, then record (id, order, time, rows filled in here; it is active). Returns the
  // record as stored: what is not UTF-8 in `source` has become U+FFFD. Updates that were undone and
  // not redone are dropped from the redo order but stay in the log. An update that is there already
  // but not active becomes active again: its record, in its old place, is returned unchanged (so a
  // `tag` that is given then is not set). Throws kConflict when it is active or its tag is taken,
  // kInvalidArgument (fields that do not fit their description above), kIo.
  UpdateRecord commit(const Update& update, UpdateRecord record);
  // Deactivates the last `count` active updates; returns their ids, newest first. Throws
  // kInvalidArgument when there are fewer.
  std::vector<std::string> undo(int64_t count = 1);
  // Reactivates the last `count` undone ones and returns their ids in ledger order; only those
  // undone since the last commit or revert. Throws kInvalidArgument when there are fewer, with a
  // hint that names the reverted ones.
  std::vector<std::string> redo(int64_t count = 1);
  // Deactivates (or, with active = true, reactivates) one update anywhere in the order; nothing
  // happens if it is in that state. What is deactivated here is not for redo() to bring back, nor
  // what was undone before it; what is reactivated here leaves the redo order. Throws as find()
  // does.
  void set_active(const std::string& id, bool active);
  // Removes the files of all updates that are not active, so that what they taught is gone: they
  // stay in the log and cannot come back. A call that was stopped is completed by the next. Returns
  // the ids of those that had a file, and its bytes. Throws kIo.
  std::vector<std::pair<std::string, int64_t>> erase_inactive();
  // Gives the update a tag in place of the one it had; an empty name takes it away. Letters,
  // digits,
  // '_', '.', '-', at most 128, and not 16 hex digits. Throws as find() does, kInvalidArgument,
  // kConflict (another update has it).
  void tag(const std::string& id, const std::string& name);

  // Probes: the items file is written to `accrete/probes/<name>.jsonl` (atomically) and recorded
  // with its digest; `file` is filled in here. Throws kConflict if the name exists, unless
  // `replace`, kInvalidArgument (a bad name, scores that are not finite).
  void add_probe(ProbeRecord record, const std::string& jsonl, bool replace = false);
  // Record and file. Throws kNotFound.
  void remove_probe(const std::string& name);
  std::vector<ProbeRecord> probes() const;  // by name
  // Throws kNotFound, kFormat (the file is not the one that was recorded).
  std::string probe_items(const std::string& name) const;
  // Updates and probes of one moment, whatever a writer does meanwhile. Throws as updates() and
  // probe_items() do.
  Snapshot snapshot() const;

  std::filesystem::path folder() const;  // <model>/accrete, or an overlay's

 private:
  struct Impl;
  explicit Ledger(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace accrete
