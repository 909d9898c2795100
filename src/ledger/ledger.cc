#include "ledger/ledger.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cmath>

#include "base/format.h"
#include "base/utc.h"
#include "io/utf8.h"
#include "ledger/ledger_impl.h"
#include "ledger/overlay_folder.h"

namespace accrete {
namespace {

using namespace ledger_files;

void check_count(int64_t count, size_t available, const char* what, std::string hint) {
  if (count < 1)
    throw Error(ErrorCode::kInvalidArgument, accrete::format("cannot {} {} updates", what, count),
                "give a number from 1");
  if (available < static_cast<size_t>(count))
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("cannot {} {} update(s): there are {}", what, count, available),
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

Ledger::Ledger(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ledger::Ledger(Ledger&&) noexcept = default;
Ledger& Ledger::operator=(Ledger&&) noexcept = default;
Ledger::~Ledger() = default;

Ledger Ledger::create(const fs::path& model) {
  std::error_code ignored;
  if (!fs::is_directory(model, ignored))
    throw Error(ErrorCode::kNotFound, accrete::format("there is no folder {}", model.string()),
                "check the path");
  Ledger made = create_in(model / "accrete");
  sync_folder(model);
  return made;
}

Ledger Ledger::create_in(const fs::path& folder) {
  std::error_code ignored;
  const auto refuse_existing = [&] {
    if (fs::exists(folder / kDatabase, ignored))
      throw Error(ErrorCode::kConflict,
                  accrete::format("{} has a ledger already", folder.parent_path().string()),
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
    return Ledger(std::make_unique<Impl>(folder, Mode::kWrite, std::move(lock)));
  } catch (...) {
    // Newest first. Not once the ledger is there: it is complete, and may hold more by now.
    if (!fs::exists(folder / kDatabase, ignored))
      for (auto path = made.rbegin(); path != made.rend(); ++path) fs::remove(*path, ignored);
    throw;
  }
}

Ledger Ledger::open(const fs::path& model, Mode mode) {
  const fs::path folder = ledger_folder(model);
  std::error_code ignored;
  if (!fs::is_directory(model, ignored))
    throw Error(ErrorCode::kNotFound, accrete::format("there is no folder {}", model.string()),
                "check the path");
  if (!fs::exists(folder / kDatabase, ignored))
    throw Error(ErrorCode::kNotFound,
                accrete::format("{} is not an accrete model: it has no {}", model.string(),
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
  return impl_->updates();
}

std::vector<UpdateRecord> Ledger::active() const {
  return only_active(updates());
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
    throw Error(
        ErrorCode::kFormat,
        accrete::format("the file of update {} is gone: {}", full, path.string()),
        "it was lost, or erased by `accrete compact --erase`: only a backup brings it back");
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
                accrete::format("another update has the tag {}", shown(record.tag)),
                "choose another tag");

  StagedUpdate staged(impl.folder / kUpdates, update);
  record.id = staged.id();
  if (const auto present = impl.select_one("id", record.id)) {
    if (present->record.active)
      throw Error(ErrorCode::kConflict,
                  accrete::format("update {} is in the ledger already, as number {}", record.id,
                                  present->record.order),
                  "it is active: there is nothing to do");
    // The same bytes again: the update that was undone or reverted comes back, in its old place.
    staged.publish();  // its file may have been lost meanwhile
    record = impl.reactivate(record.id);
    impl.extend_state(update, record.id);
    return record;
  }
  record.order = impl.database.query_integer("SELECT coalesce(max(seq), 0) + 1 FROM updates");
  record.time = utc_now();

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
  check_count(count, static_cast<size_t>(available), "undo", "`accrete log` lists them");
  const auto last = impl_->select(accrete::format(
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
  check_count(count, static_cast<size_t>(available), "redo",
              available < count ? impl_->hint_for_redo() : std::string());
  // select() sorts by ledger order, oldest first.
  const auto last = impl_->select(
      accrete::format("WHERE seq IN (SELECT seq FROM updates WHERE undone IS NOT NULL "
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
  // What was undone before a revert is no longer what was taken back last.
  if (!active) impl_->end_redo_order();
  impl_->switch_state(row, active, 0);
  transaction.commit();
}

std::vector<std::pair<std::string, int64_t>> Ledger::erase_inactive() {
  const std::scoped_lock guard(impl_->mutex);
  impl_->check_writable();
  std::vector<std::pair<std::string, int64_t>> erased;
  Transaction transaction(impl_->database);
  impl_->end_redo_order();
  for (const UpdateRow& row : impl_->select("WHERE active = 0")) {
    const fs::path path = impl_->folder / update_path(row.record.id);
    std::error_code error;
    const auto bytes = fs::file_size(path, error);
    if (error) continue;
    erased.emplace_back(row.record.id, static_cast<int64_t>(bytes));
  }
  transaction.commit();
  for (const auto& [id, bytes] : erased) remove_file(impl_->folder / update_path(id));
  sync_folder(impl_->folder / kUpdates);
  return erased;
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
                  accrete::format("update {} has the tag {}", other->record.id, shown(name)),
                  "choose another tag, or take it away there first");
  row.record.tag = name;
  impl_->replace(row);
  transaction.commit();
}

}  // namespace accrete
