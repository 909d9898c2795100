// What stands behind a ledger: its connection, the rows of its tables, and the files beside it.
// ledger.cc (updates) and ledger_probes.cc (probes) are written with it; nobody else includes it.
//
// Non-goals: locking between threads: every call of Ledger takes `mutex` first.
#pragma once

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/utf8.h"
#include "ledger/ledger.h"
#include "ledger/records.h"
#include "ledger/schema.h"
#include "ledger/sqlite.h"
#include "ledger/state_file.h"
#include "ledger/writer_lock.h"

namespace accrete {
namespace ledger_files {

namespace fs = std::filesystem;

inline constexpr const char* kDatabase = "ledger.db";
inline constexpr const char* kLock = "lock";
inline constexpr const char* kUpdates = "updates";
inline constexpr const char* kProbes = "probes";
// A probe's new items wait under `<file>.new` until the record that names their digest is stored.
inline constexpr std::string_view kPending = ".new";

inline std::string update_path(const std::string& id) {
  return std::string(kUpdates) + "/" + update_file_name(id);
}

// True if it was not there before.
inline bool make_folder(const fs::path& path) {
  std::error_code error;
  const bool made = fs::create_directory(path, error);
  if (error)
    throw Error(ErrorCode::kIo,
                accrete::format("cannot make the folder {}: {}", path.string(), error.message()),
                "check the permissions of the model's folder and the free disk space");
  return made;
}

// Gone is gone: a file that somebody else removed is no failure.
inline void remove_file(const fs::path& path) {
  std::error_code error;
  fs::remove(path, error);
  if (error)
    throw Error(ErrorCode::kIo,
                accrete::format("cannot remove {}: {}", path.string(), error.message()),
                "check the permissions of the file's folder");
}

inline std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error))
    files.push_back(entry->path());
  if (error)
    throw Error(ErrorCode::kIo,
                accrete::format("cannot list {}: {}", folder.string(), error.message()),
                "check the permissions of the folder");
  return files;
}

inline std::vector<UpdateRecord> only_active(std::vector<UpdateRecord> records) {
  std::erase_if(records, [](const UpdateRecord& record) { return !record.active; });
  return records;
}

[[noreturn]] inline void throw_not_found(const std::string& id, std::string hint) {
  throw Error(ErrorCode::kNotFound, accrete::format("there is no update {}", shown(id)),
              std::move(hint));
}

}  // namespace ledger_files

struct Ledger::Impl {
  ledger_files::fs::path folder;
  Mode mode;
  std::unique_ptr<WriterLock> lock;  // before the database: it is released after that is closed
  Database database;
  // One connection and several statements a call: calls from several threads take turns.
  std::mutex mutex;

  Impl(ledger_files::fs::path f, Mode m, std::unique_ptr<WriterLock> l)
      : folder(std::move(f)),
        mode(m),
        lock(std::move(l)),
        database(open_ledger_database(folder / ledger_files::kDatabase, m == Mode::kWrite)) {}

  void check_writable() const {
    if (mode != Mode::kWrite)
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("{} was opened for reading only", folder.string()),
                  "open the ledger with Mode::kWrite");
  }

  // The state file follows where it can. It is derived: what goes wrong with it is no failure.
  void extend_state(const Update& update, const std::string& id) {
    if (!update.facts.empty()) return;  // they are read from their own files
    try {
      std::vector<std::string> before = active_ids();
      if (before.empty() || before.back() != id) return;
      before.pop_back();
      append_state(folder, before, {id, &update});
    } catch (const Error&) {
      std::error_code ignored;
      ledger_files::fs::remove(folder / kStateFile, ignored);
    }
  }

  std::vector<UpdateRow> select(std::string_view condition) {
    std::vector<UpdateRow> rows;
    Statement statement(database, accrete::format("SELECT {} FROM updates {} ORDER BY seq",
                                                  kUpdateColumns, condition));
    while (statement.step()) rows.push_back(read_update_row(statement, database.path()));
    return rows;
  }

  // In ledger order.
  std::vector<std::string> active_ids() {
    std::vector<std::string> ids;
    Statement statement(database, "SELECT id FROM updates WHERE active = 1 ORDER BY seq");
    while (statement.step()) ids.push_back(statement.text(0));
    return ids;
  }

  std::optional<UpdateRow> select_one(std::string_view column, const std::string& value) {
    Statement statement(
        database, accrete::format("SELECT {} FROM updates WHERE {} = ?1", kUpdateColumns, column));
    statement.bind(1, value);
    if (!statement.step()) return std::nullopt;
    return read_update_row(statement, database.path());
  }

  UpdateRow find(const std::string& id) {
    if (id.empty()) ledger_files::throw_not_found(id, "give an id, the beginning of one, or a tag");
    if (auto exact = select_one("id", id)) return *exact;
    if (auto tagged = select_one("tag", id)) return *tagged;
    if (id.find_first_not_of("0123456789abcdef") != std::string::npos || is_update_id(id))
      ledger_files::throw_not_found(id, "`accrete log` lists ids and tags");
    constexpr size_t kMinPrefix = 4;
    if (id.size() < kMinPrefix)
      ledger_files::throw_not_found(
          id, accrete::format("give at least {} digits of an id", kMinPrefix));
    const auto matches = select(accrete::format("WHERE substr(id, 1, {}) = '{}'", id.size(), id));
    if (matches.empty()) ledger_files::throw_not_found(id, "`accrete log` lists ids and tags");
    if (matches.size() > 1)
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("{} is the beginning of {} ids, {} and {} among them", id,
                                  matches.size(), matches[0].record.id, matches[1].record.id),
                  "give more digits");
    return matches.front();
  }

  void insert(const UpdateRow& row) {
    Statement statement(
        database, accrete::format("INSERT INTO updates ({}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, "
                                  "?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
                                  kUpdateColumns));
    bind_update_row(statement, row);
    statement.run();
  }

  // Stores a row that is there already: as a whole, since the checksum depends on every column.
  void replace(const UpdateRow& row) {
    Statement statement(database,
                        accrete::format("UPDATE updates SET ({}) = (?1, ?2, ?3, ?4, ?5, ?6, "
                                        "?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) "
                                        "WHERE seq = ?1",
                                        kUpdateColumns));
    bind_update_row(statement, row);
    statement.run();
  }

  // `undone` is the place in the redo order, 0 for none.
  void set_state(UpdateRow row, bool active, int64_t undone) {
    row.record.active = active;
    row.undone = undone;
    replace(row);
  }

  // The same, and the opposite for the updates that it folds: of a fold and what it folds only one
  // is active.
  void switch_state(const UpdateRow& row, bool active, int64_t undone) {
    const auto folded = folds_of(row.record);
    // What was erased cannot be active again.
    for (const std::string& id : folded) {
      std::error_code ignored;
      if (!active && !ledger_files::fs::exists(folder / ledger_files::update_path(id), ignored))
        throw Error(ErrorCode::kRefused,
                    accrete::format("update {} stands for updates that were erased: it cannot be "
                                    "taken back",
                                    row.record.id),
                    "`accrete forget` takes documents away, another answer corrects a fact");
    }
    set_state(row, active, undone);
    for (const std::string& id : folded) set_state(find(id), !active, 0);
  }

  // What had been undone can no longer be redone: the order went on without it.
  void end_redo_order() {
    for (const UpdateRow& row : select("WHERE undone IS NOT NULL")) set_state(row, false, 0);
  }

  // How to get back what redo does not: updates that were reverted, or undone before the redo order
  // ended. What an active fold stands for is not gone.
  std::string hint_for_redo() {
    constexpr size_t kMost = 3;
    std::vector<std::string> folded, ids;
    for (const UpdateRow& row : select("WHERE active = 1"))
      for (std::string& id : folds_of(row.record)) folded.push_back(std::move(id));
    for (const UpdateRow& row : select("WHERE active = 0 AND undone IS NULL"))
      if (std::find(folded.begin(), folded.end(), row.record.id) == folded.end())
        ids.push_back(row.record.id);
    if (ids.empty()) return "`accrete log` lists them";
    if (ids.size() == 1)
      return accrete::format("`accrete revert MODEL {} --again` brings back what was reverted",
                             ids.front());
    std::string named;
    for (size_t i = ids.size(); i > 0 && i + kMost > ids.size(); --i)
      named += (named.empty() ? "" : ", ") + ids[i - 1];
    return accrete::format(
        "`accrete revert MODEL ID --again` brings back what was reverted, or undone before: {}{}",
        named, ids.size() > kMost ? ", ...; `accrete log` lists them all" : "");
  }

  void insert_leftover(const std::string& file) {
    Statement(database, "INSERT OR IGNORE INTO leftovers (file) VALUES (?1)").bind(1, file).run();
  }

  void delete_leftover(const std::string& file) {
    Statement(database, "DELETE FROM leftovers WHERE file = ?1").bind(1, file).run();
  }

  bool is_referenced(const std::string& file) {
    Statement probe(database, "SELECT 1 FROM probes WHERE file = ?1");
    if (probe.bind(1, file).step()) return true;
    Statement update(database,
                     "SELECT 1 FROM updates WHERE ?1 = 'updates/' || id || '.safetensors'");
    return update.bind(1, file).step();
  }

  // Removes the files that were about to be recorded when a writer died, and those whose record it
  // had just removed.
  void remove_leftovers() {
    std::vector<std::string> files;
    {
      Statement statement(database, "SELECT file FROM leftovers ORDER BY file");
      while (statement.step()) files.push_back(statement.text(0));
    }
    for (const std::string& file : files) {
      check_own_file(file, database.path());
      if (!is_referenced(file)) ledger_files::remove_file(folder / file);
    }
    if (!files.empty()) database.execute("DELETE FROM leftovers");
  }

  // Puts a probe's waiting items in place if their record was stored, else removes them.
  void settle_pending_probes() {
    for (const ledger_files::fs::path& path :
         ledger_files::files_in(folder / ledger_files::kProbes)) {
      const std::string name = path.filename().string();
      if (!name.ends_with(ledger_files::kPending)) continue;
      const std::string file = std::string(ledger_files::kProbes) + "/" +
                               name.substr(0, name.size() - ledger_files::kPending.size());
      Statement statement(database, "SELECT digest FROM probes WHERE file = ?1");
      if (statement.bind(1, file).step() && statement.text(0) == sha256_hex(read_file(path)))
        rename_durably(path, folder / file);
      else
        ledger_files::remove_file(path);
    }
  }

  void tidy() {
    for (const char* name : {ledger_files::kUpdates, ledger_files::kProbes})
      ledger_files::make_folder(folder / name);
    for (const ledger_files::fs::path& part :
         {folder / ledger_files::kUpdates, folder / ledger_files::kProbes})
      for (const ledger_files::fs::path& path : ledger_files::files_in(part))
        if (is_temporary_name(path.filename().string())) ledger_files::remove_file(path);
    remove_unfinished_files(folder);
    settle_pending_probes();
    remove_leftovers();
  }

  static void remove_unfinished_files(const ledger_files::fs::path& folder) {
    // A database's temporary name goes on with -journal, -wal or -shm.
    for (const ledger_files::fs::path& path : ledger_files::files_in(folder))
      for (const char* name : {ledger_files::kDatabase, kStateFile})
        if (path.filename().string().starts_with(std::string(name) + ".tmp-"))
          ledger_files::remove_file(path);
  }

  void record_update(const UpdateRecord& record) {
    Transaction transaction(database);
    end_redo_order();
    insert({record, 0});
    for (const std::string& id : folds_of(record)) {
      const UpdateRow row = find(id);
      if (!row.record.active)
        throw Error(ErrorCode::kConflict, accrete::format("update {} is not active", id),
                    "fold what is active only");
      set_state(row, false, 0);
    }
    delete_leftover(ledger_files::update_path(record.id));
    transaction.commit();
  }

  UpdateRecord reactivate(const std::string& id) {
    Transaction transaction(database);
    end_redo_order();
    switch_state(find(id), true, 0);
    transaction.commit();
    return find(id).record;
  }

  std::vector<UpdateRecord> updates() {
    std::vector<UpdateRecord> records;
    for (UpdateRow& row : select("")) records.push_back(std::move(row.record));
    // Updates are never deleted, so a hole in the numbers is a row that was taken out.
    for (size_t i = 0; i < records.size(); ++i)
      if (records[i].order != static_cast<int64_t>(i + 1))
        throw Error(
            ErrorCode::kFormat,
            accrete::format("{}: update number {} is missing", database.path().string(), i + 1),
            "the ledger is damaged; restore it from a backup");
    return records;
  }

  // The items of that digest: in place, or waiting for it. Null: a writer replaces them just now,
  // or they are gone.
  std::optional<std::string> items_of(const std::string& file, const std::string& digest) const {
    const ledger_files::fs::path place = folder / file;
    for (const ledger_files::fs::path& path :
         {place, ledger_files::fs::path(place.string() + std::string(ledger_files::kPending))}) {
      std::error_code ignored;
      if (!ledger_files::fs::exists(path, ignored)) continue;
      try {
        std::string items = read_file(path);
        if (sha256_hex(items) == digest) return items;
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kNotFound) throw;  // renamed since we looked
      }
    }
    return std::nullopt;
  }

  [[noreturn]] void throw_no_items(const std::string& name) const {
    throw Error(
        ErrorCode::kFormat,
        accrete::format("the items of probe {} in {} are gone, or not those that were recorded",
                        name, (folder / probe_file(name)).string()),
        "restore the file, or replace the probe");
  }

  ProbeRecord probe(const std::string& name, std::string& digest) {
    Statement statement(database,
                        accrete::format("SELECT {} FROM probes WHERE name = ?1", kProbeColumns));
    if (!statement.bind(1, name).step())
      throw Error(ErrorCode::kNotFound, accrete::format("there is no probe {}", shown(name)),
                  "`accrete probe list` lists them");
    return read_probe_row(statement, database.path(), &digest);
  }
};

}  // namespace accrete
