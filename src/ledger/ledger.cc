#include "ledger/ledger.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cmath>
#include <ctime>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "io/utf8.h"
#include "ledger/records.h"
#include "ledger/schema.h"
#include "ledger/sqlite.h"
#include "ledger/state_file.h"
#include "ledger/writer_lock.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDatabase = "ledger.db";
constexpr const char* kLock = "lock";
constexpr const char* kUpdates = "updates";
constexpr const char* kProbes = "probes";
// A probe's new items wait under `<file>.new` until the record that names their digest is stored.
constexpr std::string_view kPending = ".new";

std::string now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[sizeof("2000-01-01T00:00:00Z")];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

std::string update_path(const std::string& id) {
  return std::string(kUpdates) + "/" + update_file_name(id);
}

// True if it was not there before.
bool make_folder(const fs::path& path) {
  std::error_code error;
  const bool made = fs::create_directory(path, error);
  if (error)
    throw Error(ErrorCode::kIo,
                fmt::format("cannot make the folder {}: {}", path.string(), error.message()),
                "check the permissions of the model's folder and the free disk space");
  return made;
}

// Gone is gone: a file that somebody else removed is no failure.
void remove_file(const fs::path& path) {
  std::error_code error;
  fs::remove(path, error);
  if (error)
    throw Error(ErrorCode::kIo, fmt::format("cannot remove {}: {}", path.string(), error.message()),
                "check the permissions of the file's folder");
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error))
    files.push_back(entry->path());
  if (error)
    throw Error(ErrorCode::kIo, fmt::format("cannot list {}: {}", folder.string(), error.message()),
                "check the permissions of the folder");
  return files;
}

void check_count(int64_t count, size_t available, const char* what) {
  if (count < 1)
    throw Error(ErrorCode::kInvalidArgument, fmt::format("cannot {} {} updates", what, count),
                "give a number from 1");
  if (available < static_cast<size_t>(count))
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("cannot {} {} update(s): there are {}", what, count, available),
                "`accrete log` lists them");
}

[[noreturn]] void throw_not_found(const std::string& id, std::string hint) {
  throw Error(ErrorCode::kNotFound, fmt::format("there is no update {}", shown(id)),
              std::move(hint));
}

}  // namespace

std::string state_key(const std::vector<UpdateRecord>& active) {
  Sha256 hash;
  for (const UpdateRecord& record : active) hash.update(record.id).update("\n");
  return hash.hex();
}

std::vector<std::string> folds_of(const UpdateRecord& record) {
  std::vector<std::string> ids;
  const auto folds = record.measurements.find("folds");
  if (folds == record.measurements.end() || !folds->is_array()) return ids;
  for (const auto& fold : *folds)
    if (fold.is_object() && fold.contains("id") && fold["id"].is_string())
      ids.push_back(fold["id"].get<std::string>());
  return ids;
}

struct Ledger::Impl {
  fs::path folder;
  Mode mode;
  std::unique_ptr<WriterLock> lock;  // before the database: it is released after that is closed
  Database database;
  // One connection and several statements a call: calls from several threads take turns.
  std::mutex mutex;

  Impl(fs::path f, Mode m, std::unique_ptr<WriterLock> l)
      : folder(std::move(f)),
        mode(m),
        lock(std::move(l)),
        database(open_ledger_database(folder / kDatabase, m == Mode::kWrite)) {}

  void check_writable() const {
    if (mode != Mode::kWrite)
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} was opened for reading only", folder.string()),
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
      fs::remove(folder / kStateFile, ignored);
    }
  }

  std::vector<UpdateRow> select(std::string_view condition) {
    std::vector<UpdateRow> rows;
    Statement statement(
        database, fmt::format("SELECT {} FROM updates {} ORDER BY seq", kUpdateColumns, condition));
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
        database, fmt::format("SELECT {} FROM updates WHERE {} = ?1", kUpdateColumns, column));
    statement.bind(1, value);
    if (!statement.step()) return std::nullopt;
    return read_update_row(statement, database.path());
  }

  UpdateRow find(const std::string& id) {
    if (id.empty()) throw_not_found(id, "give an id, the beginning of one, or a tag");
    if (auto exact = select_one("id", id)) return *exact;
    if (auto tagged = select_one("tag", id)) return *tagged;
    if (id.find_first_not_of("0123456789abcdef") != std::string::npos || is_update_id(id))
      throw_not_found(id, "`accrete log` lists ids and tags");
    constexpr size_t kMinPrefix = 4;
    if (id.size() < kMinPrefix)
      throw_not_found(id, fmt::format("give at least {} digits of an id", kMinPrefix));
    const auto matches = select(fmt::format("WHERE substr(id, 1, {}) = '{}'", id.size(), id));
    if (matches.empty()) throw_not_found(id, "`accrete log` lists ids and tags");
    if (matches.size() > 1)
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} is the beginning of {} ids, {} and {} among them", id,
                              matches.size(), matches[0].record.id, matches[1].record.id),
                  "give more digits");
    return matches.front();
  }

  void insert(const UpdateRow& row) {
    Statement statement(database,
                        fmt::format("INSERT INTO updates ({}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, "
                                    "?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
                                    kUpdateColumns));
    bind_update_row(statement, row);
    statement.run();
  }

  // Stores a row that is there already: as a whole, since the checksum depends on every column.
  void replace(const UpdateRow& row) {
    Statement statement(database, fmt::format("UPDATE updates SET ({}) = (?1, ?2, ?3, ?4, ?5, ?6, "
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
    set_state(row, active, undone);
    for (const std::string& id : folds_of(row.record)) set_state(find(id), !active, 0);
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
      if (!is_referenced(file)) remove_file(folder / file);
    }
    if (!files.empty()) database.execute("DELETE FROM leftovers");
  }

  // Puts a probe's waiting items in place if their record was stored, else removes them.
  void settle_pending_probes() {
    for (const fs::path& path : files_in(folder / kProbes)) {
      const std::string name = path.filename().string();
      if (!name.ends_with(kPending)) continue;
      const std::string file =
          std::string(kProbes) + "/" + name.substr(0, name.size() - kPending.size());
      Statement statement(database, "SELECT digest FROM probes WHERE file = ?1");
      if (statement.bind(1, file).step() && statement.text(0) == sha256_hex(read_file(path)))
        rename_durably(path, folder / file);
      else
        remove_file(path);
    }
  }

  void tidy() {
    for (const char* name : {kUpdates, kProbes}) make_folder(folder / name);
    for (const fs::path& part : {folder / kUpdates, folder / kProbes})
      for (const fs::path& path : files_in(part))
        if (is_temporary_name(path.filename().string())) remove_file(path);
    remove_unfinished_files(folder);
    settle_pending_probes();
    remove_leftovers();
  }

  static void remove_unfinished_files(const fs::path& folder) {
    // A database's temporary name goes on with -journal, -wal or -shm.
    for (const fs::path& path : files_in(folder))
      for (const char* name : {kDatabase, kStateFile})
        if (path.filename().string().starts_with(std::string(name) + ".tmp-")) remove_file(path);
  }

  void record_update(const UpdateRecord& record) {
    Transaction transaction(database);
    // What had been undone can no longer be redone: the order went on without it.
    for (const UpdateRow& row : select("WHERE undone IS NOT NULL")) set_state(row, false, 0);
    insert({record, 0});
    for (const std::string& id : folds_of(record)) {
      const UpdateRow row = find(id);
      if (!row.record.active)
        throw Error(ErrorCode::kConflict, fmt::format("update {} is not active", id),
                    "fold what is active only");
      set_state(row, false, 0);
    }
    delete_leftover(update_path(record.id));
    transaction.commit();
  }

  UpdateRecord reactivate(const std::string& id) {
    Transaction transaction(database);
    for (const UpdateRow& row : select("WHERE undone IS NOT NULL")) set_state(row, false, 0);
    switch_state(find(id), true, 0);
    transaction.commit();
    return find(id).record;
  }

  ProbeRecord probe(const std::string& name, std::string& digest) {
    Statement statement(database,
                        fmt::format("SELECT {} FROM probes WHERE name = ?1", kProbeColumns));
    if (!statement.bind(1, name).step())
      throw Error(ErrorCode::kNotFound, fmt::format("there is no probe {}", shown(name)),
                  "`accrete probe list` lists them");
    return read_probe_row(statement, database.path(), &digest);
  }
};

Ledger::Ledger(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ledger::Ledger(Ledger&&) noexcept = default;
Ledger& Ledger::operator=(Ledger&&) noexcept = default;
Ledger::~Ledger() = default;

Ledger Ledger::create(const fs::path& model) {
  std::error_code ignored;
  if (!fs::is_directory(model, ignored))
    throw Error(ErrorCode::kNotFound, fmt::format("there is no folder {}", model.string()),
                "check the path");
  const fs::path folder = model / "accrete";
  const auto refuse_existing = [&] {
    if (fs::exists(folder / kDatabase, ignored))
      throw Error(ErrorCode::kConflict, fmt::format("{} has a ledger already", model.string()),
                  "choose another folder, or remove its folder `accrete` to start over");
  };
  refuse_existing();

  std::vector<fs::path> made;  // to be removed again if anything fails
  std::unique_ptr<WriterLock> lock;
  try {
    if (make_folder(folder)) made.push_back(folder);
    lock = std::make_unique<WriterLock>(folder / kLock);
    if (lock->created()) made.push_back(folder / kLock);
    refuse_existing();  // another process may have been first
    Impl::remove_unfinished_files(folder);
    for (const char* name : {kUpdates, kProbes})
      if (make_folder(folder / name)) made.push_back(folder / name);
    create_ledger_database(folder / kDatabase);
    sync_folder(model);
    return Ledger(std::make_unique<Impl>(folder, Mode::kWrite, std::move(lock)));
  } catch (...) {
    // Newest first. Not once the ledger is there: it is complete, and may hold more by now.
    if (!fs::exists(folder / kDatabase, ignored))
      for (auto path = made.rbegin(); path != made.rend(); ++path) fs::remove(*path, ignored);
    throw;
  }
}

Ledger Ledger::open(const fs::path& model, Mode mode) {
  const fs::path folder = model / "accrete";
  std::error_code ignored;
  if (!fs::is_directory(model, ignored))
    throw Error(ErrorCode::kNotFound, fmt::format("there is no folder {}", model.string()),
                "check the path");
  if (!fs::exists(folder / kDatabase, ignored))
    throw Error(ErrorCode::kNotFound,
                fmt::format("{} is not an accrete model: it has no {}", model.string(),
                            (fs::path("accrete") / kDatabase).string()),
                "make one from an ordinary model with `accrete retrofit`");
  std::unique_ptr<WriterLock> lock;
  if (mode == Mode::kWrite) lock = std::make_unique<WriterLock>(folder / kLock);
  auto impl = std::make_unique<Impl>(folder, mode, std::move(lock));
  if (mode == Mode::kWrite) impl->tidy();
  return Ledger(std::move(impl));
}

fs::path Ledger::folder() const {
  return impl_->folder;
}

std::vector<UpdateRecord> Ledger::updates() const {
  const std::scoped_lock guard(impl_->mutex);
  std::vector<UpdateRecord> records;
  for (UpdateRow& row : impl_->select("")) records.push_back(std::move(row.record));
  // Updates are never deleted, so a hole in the numbers is a row that was taken out.
  for (size_t i = 0; i < records.size(); ++i)
    if (records[i].order != static_cast<int64_t>(i + 1))
      throw Error(
          ErrorCode::kFormat,
          fmt::format("{}: update number {} is missing", impl_->database.path().string(), i + 1),
          "the ledger is damaged; restore it from a backup");
  return records;
}

std::vector<UpdateRecord> Ledger::active() const {
  auto records = updates();
  std::erase_if(records, [](const UpdateRecord& record) { return !record.active; });
  return records;
}

UpdateRecord Ledger::find(const std::string& id) const {
  const std::scoped_lock guard(impl_->mutex);
  return impl_->find(id).record;
}

Update Ledger::load(const std::string& id) const {
  const std::string full = find(id).id;
  const fs::path path = impl_->folder / update_path(full);
  try {
    return read_update(path, full);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNotFound) throw;
    throw Error(ErrorCode::kFormat,
                fmt::format("the file of update {} is gone: {}", full, path.string()),
                "restore it from a backup, or revert the update");
  }
}

UpdateRecord Ledger::commit(const Update& update, UpdateRecord record) {
  const std::scoped_lock guard(impl_->mutex);
  Impl& impl = *impl_;
  impl.check_writable();
  record.rows = rows_of(update);
  record.active = true;
  record.source = well_formed(record.source);
  check_new_record(record);
  if (!record.tag.empty() && impl.select_one("tag", record.tag))
    throw Error(ErrorCode::kConflict,
                fmt::format("another update has the tag {}", shown(record.tag)),
                "choose another tag");

  StagedUpdate staged(impl.folder / kUpdates, update);
  record.id = staged.id();
  if (const auto present = impl.select_one("id", record.id)) {
    if (present->record.active)
      throw Error(ErrorCode::kConflict,
                  fmt::format("update {} is in the ledger already, as number {}", record.id,
                              present->record.order),
                  "it is active: there is nothing to do");
    // The same bytes again: the update that was undone or reverted comes back, in its old place.
    staged.publish();  // its file may have been lost meanwhile
    record = impl.reactivate(record.id);
    impl.extend_state(update, record.id);
    return record;
  }
  record.order = impl.database.query_integer("SELECT coalesce(max(seq), 0) + 1 FROM updates");
  record.time = now();

  // First what to remove if we die, then the file, then the record: see ledger.h.
  const std::string file = update_path(record.id);
  std::error_code ignored;
  const bool there =
      fs::exists(impl.folder / file, ignored);  // somebody's copy: not ours to remove
  if (!there) impl.insert_leftover(file);
  try {
    staged.publish();
    impl.record_update(record);
  } catch (...) {
    // Left to the next writer where only the disk knows whether the transaction took place.
    if (!there && !impl.database.last_failure_is_uncertain())
      fs::remove(impl.folder / file, ignored);
    throw;
  }
  impl.extend_state(update, record.id);
  return record;
}

std::vector<std::string> Ledger::undo(int64_t count) {
  const std::scoped_lock guard(impl_->mutex);
  impl_->check_writable();
  Transaction transaction(impl_->database);
  const auto available =
      impl_->database.query_integer("SELECT count(*) FROM updates WHERE active = 1");
  check_count(count, static_cast<size_t>(available), "undo");
  const auto last = impl_->select(fmt::format(
      "WHERE seq IN (SELECT seq FROM updates WHERE active = 1 ORDER BY seq DESC LIMIT {})", count));
  int64_t place = impl_->database.query_integer("SELECT coalesce(max(undone), 0) FROM updates");
  std::vector<std::string> ids;
  for (auto row = last.rbegin(); row != last.rend(); ++row) {
    impl_->switch_state(*row, false, ++place);
    ids.push_back(row->record.id);
  }
  transaction.commit();
  return ids;
}

std::vector<std::string> Ledger::redo(int64_t count) {
  const std::scoped_lock guard(impl_->mutex);
  impl_->check_writable();
  Transaction transaction(impl_->database);
  const auto available =
      impl_->database.query_integer("SELECT count(*) FROM updates WHERE undone IS NOT NULL");
  check_count(count, static_cast<size_t>(available), "redo");
  // select() sorts by ledger order, oldest first.
  const auto last =
      impl_->select(fmt::format("WHERE seq IN (SELECT seq FROM updates WHERE undone IS NOT NULL "
                                "ORDER BY undone DESC LIMIT {})",
                                count));
  std::vector<std::string> ids;
  for (const UpdateRow& row : last) {
    impl_->switch_state(row, true, 0);
    ids.push_back(row.record.id);
  }
  transaction.commit();
  return ids;
}

void Ledger::set_active(const std::string& id, bool active) {
  const std::scoped_lock guard(impl_->mutex);
  impl_->check_writable();
  Transaction transaction(impl_->database);
  const UpdateRow row = impl_->find(id);
  if (row.record.active == active) return;
  impl_->switch_state(row, active, 0);
  transaction.commit();
}

void Ledger::tag(const std::string& id, const std::string& name) {
  const std::scoped_lock guard(impl_->mutex);
  impl_->check_writable();
  check_tag(name);
  Transaction transaction(impl_->database);
  UpdateRow row = impl_->find(id);
  if (!name.empty())
    if (const auto other = impl_->select_one("tag", name);
        other && other->record.id != row.record.id)
      throw Error(ErrorCode::kConflict,
                  fmt::format("update {} has the tag {}", other->record.id, shown(name)),
                  "choose another tag, or take it away there first");
  row.record.tag = name;
  impl_->replace(row);
  transaction.commit();
}

void Ledger::add_probe(ProbeRecord record, const std::string& jsonl, bool replace) {
  const std::scoped_lock guard(impl_->mutex);
  Impl& impl = *impl_;
  impl.check_writable();
  record.file = probe_file(record.name);
  check_new_record(record);
  {
    Statement statement(impl.database, "SELECT 1 FROM probes WHERE name = ?1");
    if (statement.bind(1, record.name).step() && !replace)
      throw Error(ErrorCode::kConflict,
                  fmt::format("there is a probe {} already", shown(record.name)),
                  "choose another name, or replace it");
  }
  // The record names the digest of the items, and the items get their name after it: whenever this
  // stops, the next writer finds old items with the old record, or new ones with the new.
  impl.settle_pending_probes();
  const fs::path file = impl.folder / record.file;
  const fs::path pending = file.string() + std::string(kPending);
  write_file_atomically(pending, jsonl);
  try {
    Transaction transaction(impl.database);
    Statement insert(impl.database, fmt::format("INSERT OR REPLACE INTO probes ({}) VALUES "
                                                "(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                                                kProbeColumns));
    bind_probe_row(insert, record, sha256_hex(jsonl));
    insert.run();
    impl.delete_leftover(record.file);
    transaction.commit();
  } catch (...) {
    if (!impl.database.last_failure_is_uncertain()) {
      std::error_code ignored;
      fs::remove(pending, ignored);
    }
    throw;
  }
  try {
    rename_durably(pending, file);
  } catch (const Error&) {  // it is recorded and can be read; the next writer tries again
  }
}

void Ledger::remove_probe(const std::string& name) {
  const std::scoped_lock guard(impl_->mutex);
  Impl& impl = *impl_;
  impl.check_writable();
  std::string digest;
  const ProbeRecord record = impl.probe(name, digest);
  {
    Transaction transaction(impl.database);
    Statement(impl.database, "DELETE FROM probes WHERE name = ?1").bind(1, name).run();
    impl.insert_leftover(record.file);
    transaction.commit();
  }
  try {
    impl.remove_leftovers();
  } catch (const Error&) {  // it is recorded as removed; the next writer tries again
  }
}

std::vector<ProbeRecord> Ledger::probes() const {
  const std::scoped_lock guard(impl_->mutex);
  std::vector<ProbeRecord> records;
  Statement statement(impl_->database,
                      fmt::format("SELECT {} FROM probes ORDER BY name", kProbeColumns));
  while (statement.step())
    records.push_back(read_probe_row(statement, impl_->database.path(), nullptr));
  return records;
}

std::string Ledger::probe_items(const std::string& name) const {
  const std::scoped_lock guard(impl_->mutex);
  // A writer may be replacing the probe: the record first, then the file.
  for (int attempt = 0; attempt < 3; ++attempt) {
    std::string digest;
    const fs::path file = impl_->folder / impl_->probe(name, digest).file;
    for (const fs::path& path : {file, fs::path(file.string() + std::string(kPending))}) {
      std::error_code ignored;
      if (!fs::exists(path, ignored)) continue;
      try {
        std::string items = read_file(path);
        if (sha256_hex(items) == digest) return items;
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kNotFound) throw;  // renamed since we looked
      }
    }
  }
  throw Error(ErrorCode::kFormat,
              fmt::format("the items of probe {} in {} are gone, or not those that were recorded",
                          name, (impl_->folder / probe_file(name)).string()),
              "restore the file, or replace the probe");
}

}  // namespace accrete
