#include "ledger/schema.h"

#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

// docs/formats.md explains the columns. STRICT: a column holds its type or NULL, nothing else.
constexpr const char* kTables = R"sql(
CREATE TABLE updates (
  seq INTEGER PRIMARY KEY CHECK (seq >= 1),
  id TEXT NOT NULL UNIQUE,
  time TEXT NOT NULL,
  active INTEGER NOT NULL CHECK (active IN (0, 1)),
  undone INTEGER UNIQUE CHECK (undone IS NULL OR (undone >= 1 AND active = 0)),
  items INTEGER NOT NULL CHECK (items >= 0),
  source TEXT NOT NULL,
  source_digest TEXT NOT NULL,
  parent TEXT NOT NULL,
  seed INTEGER NOT NULL,
  method TEXT NOT NULL,
  tool_version TEXT NOT NULL,
  row_count INTEGER NOT NULL CHECK (row_count >= 1),
  measurements TEXT NOT NULL,
  checksum TEXT NOT NULL,
  tag TEXT UNIQUE
) STRICT;
CREATE TABLE probes (
  name TEXT PRIMARY KEY NOT NULL,
  file TEXT NOT NULL,
  digest TEXT NOT NULL,
  floor REAL,
  base REAL NOT NULL,
  items INTEGER NOT NULL CHECK (items >= 0),
  details TEXT NOT NULL,
  checksum TEXT NOT NULL
) STRICT;
CREATE TABLE leftovers (
  file TEXT PRIMARY KEY NOT NULL
) STRICT;
)sql";

std::string describe_tables(Database& database) {
  std::string all;
  Statement statement(database,
                      "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema "
                      "WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name");
  while (statement.step()) all += statement.text(0) + "\n";
  return all;
}

void check(Database& database) {
  const std::string name = database.path().string();
  database.execute("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;");
  if (database.query_integer("PRAGMA application_id") != kLedgerApplicationId)
    throw Error(ErrorCode::kFormat, accrete::format("{} is not a ledger of accrete", name),
                "restore it from a backup, or retrofit the model again");
  const int64_t version = database.query_integer("PRAGMA user_version");
  if (version > kLedgerSchemaVersion)
    throw Error(ErrorCode::kFormat,
                accrete::format("{} has schema version {}; this accrete knows versions up to {}",
                                name, version, kLedgerSchemaVersion),
                "a newer accrete wrote it: update this one");
  if (version < 1)
    throw Error(ErrorCode::kFormat, accrete::format("{} has schema version {}", name, version),
                "the ledger is damaged; restore it from a backup");
  const std::string state = database.query_text("PRAGMA quick_check(1)");
  if (state != "ok")
    throw Error(ErrorCode::kFormat, accrete::format("{} is damaged: {}", name, state),
                "restore it from a backup");
  Database reference(":memory:", SQLITE_OPEN_READWRITE);
  reference.execute(kTables);
  if (describe_tables(database) != describe_tables(reference))
    throw Error(ErrorCode::kFormat,
                accrete::format("{} does not have the tables of a ledger, or has others", name),
                "restore it from a backup");
}

void remove_database(const fs::path& path) {
  for (const char* suffix : {"", "-journal", "-wal", "-shm"}) {
    std::error_code ignored;
    fs::remove(path.string() + suffix, ignored);
  }
}

bool has_write_ahead_log(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path.string() + "-wal", error);
  return !error && size > 0;
}

// For folders that cannot be written to: SQLite needs a shared-memory file beside a database in WAL
// mode even to read it. Nobody writes there, or a mounted snapshot changes as a whole; still, the
// file is read twice if it changed meanwhile.
Database open_snapshot(const fs::path& path) {
  for (int attempt = 0; attempt < 10; ++attempt) {
    std::error_code ignored;  // a file that has no time is one that read_file refuses
    const auto before = fs::last_write_time(path, ignored);
    const std::string image = read_file(path);
    if (fs::last_write_time(path, ignored) == before && !has_write_ahead_log(path))
      return Database::from_image(path, image);
  }
  throw Error(ErrorCode::kConflict,
              accrete::format("{} keeps changing while it is read", path.string()),
              "try again when the other program has finished");
}

}  // namespace

void create_ledger_database(const fs::path& path) {
  const fs::path temporary = create_temporary_beside(path);
  try {
    {
      Database database(temporary, SQLITE_OPEN_READWRITE);
      database.execute("PRAGMA synchronous = FULL");
      {
        Transaction transaction(database);
        database.execute(kTables);
        database.execute(accrete::format("PRAGMA application_id = {}; PRAGMA user_version = {};",
                                         kLedgerApplicationId, kLedgerSchemaVersion)
                             .c_str());
        transaction.commit();
      }
      // Last and with nothing to follow, so that closing has nothing left to checkpoint.
      if (database.query_text("PRAGMA journal_mode = WAL") != "wal")
        throw Error(ErrorCode::kIo,
                    accrete::format("{} cannot be used with a write-ahead log", path.string()),
                    "keep the model on a local file system");
    }
    rename_durably(temporary, path);
  } catch (...) {
    remove_database(temporary);
    throw;
  }
}

Database open_ledger_database(const fs::path& path, bool writable) {
  if (writable) {
    Database database(path, SQLITE_OPEN_READWRITE);
    check(database);
    if (database.query_text("PRAGMA journal_mode = WAL") != "wal")
      throw Error(ErrorCode::kIo,
                  accrete::format("{} cannot be used with a write-ahead log", path.string()),
                  "keep the model on a local file system");
    database.execute("PRAGMA synchronous = FULL");
    return database;
  }
  try {
    // Opened for writing where that is allowed, only so that the last one out can tidy up the log;
    // query_only keeps a reader from changing anything.
    Database database(path, SQLITE_OPEN_READWRITE);
    check(database);
    database.execute("PRAGMA query_only = ON");
    return database;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kIo || has_write_ahead_log(path)) throw;
  }
  Database database = open_snapshot(path);
  check(database);
  return database;
}

}  // namespace accrete
