// SQLite's C interface with destructors and exceptions: what the ledger needs and no more.
//
// Every failure is an accrete::Error that names the database: kFormat for a damaged or foreign one,
// kIo where the operating system refused, kConflict where another process holds it too long.
//
// Non-goals: a general wrapper, statement caches, threads (the ledger serialises its calls).
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace accrete {

class Database {
 public:
  // `flags` are SQLITE_OPEN_*.
  Database(const std::filesystem::path& path, int flags);
  // A read-only database in memory from the bytes of a file; `path` names it in messages.
  static Database from_image(const std::filesystem::path& path, std::string_view image);
  Database(Database&& other) noexcept;
  Database& operator=(Database&& other) noexcept;
  ~Database();

  // One or more statements without results or parameters.
  void execute(const char* sql);
  int64_t query_integer(const char* sql);
  std::string query_text(const char* sql);

  bool in_transaction() const { return sqlite3_get_autocommit(handle_) == 0; }
  // Whether the last failure leaves open what the disk holds: after a failed sync, a transaction
  // that was reported as failed may still turn up once the process has died.
  bool last_failure_is_uncertain() const {
    return sqlite3_extended_errcode(handle_) == SQLITE_IOERR_FSYNC;
  }
  sqlite3* handle() const { return handle_; }
  const std::filesystem::path& path() const { return path_; }

  // Throws the Error for SQLite's result code.
  [[noreturn]] void fail(int code) const;

 private:
  Database() = default;
  sqlite3* handle_ = nullptr;
  std::filesystem::path path_;
};

// A prepared statement. Parameters are numbered from 1, columns from 0, as in SQLite.
class Statement {
 public:
  Statement(Database& database, std::string_view sql);
  ~Statement() { sqlite3_finalize(handle_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(int parameter, int64_t value);
  Statement& bind(int parameter, double value);
  Statement& bind(int parameter, std::string_view value);
  Statement& bind_null(int parameter);

  // True: a row is there. False: done.
  bool step();
  void run() {
    while (step()) {
    }
  }

  // Throw kFormat where the column holds another type: a foreign hand wrote the row.
  int64_t integer(int column) const;
  double real(int column) const;
  std::string text(int column) const;
  bool is_null(int column) const { return sqlite3_column_type(handle_, column) == SQLITE_NULL; }

 private:
  void check_type(int column, int type) const;
  Database& database_;
  sqlite3_stmt* handle_ = nullptr;
};

// Rolled back unless committed. kWrite holds off other writers from its beginning; all that is read
// in a kRead is of one moment, whatever others commit meanwhile.
class Transaction {
 public:
  enum class Kind { kWrite, kRead };
  explicit Transaction(Database& database, Kind kind = Kind::kWrite);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Database& database_;
};

}  // namespace accrete
