#include "base/format.h"
#include "ledger/ledger_impl.h"

namespace accrete {
namespace {

using namespace ledger_files;

// A writer may be replacing a probe: the record first, then the file.
constexpr int kAttempts = 3;

}  // namespace

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
                  accrete::format("there is a probe {} already", shown(record.name)),
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
    Statement insert(impl.database, accrete::format("INSERT OR REPLACE INTO probes ({}) VALUES "
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
                      accrete::format("SELECT {} FROM probes ORDER BY name", kProbeColumns));
  while (statement.step())
    records.push_back(read_probe_row(statement, impl_->database.path(), nullptr));
  return records;
}

std::string Ledger::probe_items(const std::string& name) const {
  const std::scoped_lock guard(impl_->mutex);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::string digest;
    const std::string file = impl_->probe(name, digest).file;
    if (auto items = impl_->items_of(file, digest)) return *std::move(items);
  }
  impl_->throw_no_items(name);
}

Snapshot Ledger::snapshot() const {
  const std::scoped_lock guard(impl_->mutex);
  std::string absent;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Snapshot out;
    {
      const Transaction transaction(impl_->database, Transaction::Kind::kRead);
      out.active = only_active(impl_->updates());
      Statement statement(impl_->database,
                          accrete::format("SELECT {} FROM probes ORDER BY name", kProbeColumns));
      while (statement.step()) {
        StoredProbe& probe = out.probes.emplace_back();
        probe.record = read_probe_row(statement, impl_->database.path(), &probe.digest);
      }
    }
    absent.clear();
    for (StoredProbe& probe : out.probes) {
      auto items = impl_->items_of(probe.record.file, probe.digest);
      if (!items) {
        absent = probe.record.name;
        break;
      }
      probe.items = *std::move(items);
    }
    if (absent.empty()) return out;
  }
  impl_->throw_no_items(absent);
}

}  // namespace accrete
