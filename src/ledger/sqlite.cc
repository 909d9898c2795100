#include "ledger/sqlite.h"

#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/format.h"

namespace accrete {
namespace {

// Long enough for a checkpoint on a slow disk; another accrete never holds the database longer.
constexpr int kBusyTimeoutMs = 10000;

}  // namespace

Database::Database(const std::filesystem::path& path, int flags) : path_(path) {
  const int rc = sqlite3_open_v2(path.c_str(), &handle_, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  if (handle_ == nullptr) throw Error(ErrorCode::kInternal, "SQLite has no memory");
  sqlite3_extended_result_codes(handle_, 1);
  sqlite3_busy_timeout(handle_, kBusyTimeoutMs);
  if (rc == SQLITE_OK) return;
  try {
    fail(sqlite3_extended_errcode(handle_));
  } catch (...) {  // the destructor does not run when a constructor throws
    sqlite3_close_v2(handle_);
    throw;
  }
}

Database Database::from_image(const std::filesystem::path& path, std::string_view image) {
  Database database(":memory:", SQLITE_OPEN_READWRITE);
  database.path_ = path;
  auto* copy = static_cast<unsigned char*>(sqlite3_malloc64(image.size() + 1));
  if (copy == nullptr) throw Error(ErrorCode::kInternal, "SQLite has no memory");
  std::memcpy(copy, image.data(), image.size());
  // A database in memory has no write-ahead log: say in the header (the file format's bytes 18, 19)
  // that this one does not need any.
  if (image.size() >= 20) copy[18] = copy[19] = 1;
  const auto size = static_cast<sqlite3_int64>(image.size());
  const int rc = sqlite3_deserialize(database.handle_, "main", copy, size, size,
                                     SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_READONLY);
  if (rc != SQLITE_OK) database.fail(rc);
  return database;
}

Database::Database(Database&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), path_(std::move(other.path_)) {}

Database& Database::operator=(Database&& other) noexcept {
  std::swap(handle_, other.handle_);
  std::swap(path_, other.path_);
  return *this;
}

Database::~Database() {
  sqlite3_close_v2(handle_);
}

void Database::fail(int code) const {
  const std::string message = accrete::format("{}: {}", path_.string(), sqlite3_errmsg(handle_));
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_MISMATCH:
      throw Error(ErrorCode::kFormat, message,
                  "the ledger is damaged or not one of accrete's; restore it from a backup");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      throw Error(ErrorCode::kConflict, message,
                  "another program holds the ledger; wait for it to finish");
    case SQLITE_FULL:
      throw Error(ErrorCode::kIo, message, "free some disk space and run the command again");
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_AUTH:
      throw Error(ErrorCode::kIo, message,
                  "check the permissions of the file and of its folder, and the free disk space");
    case SQLITE_IOERR:
      throw Error(ErrorCode::kIo, message,
                  "check the free disk space, the limits on file sizes and the state of the disk");
    default:
      throw Error(ErrorCode::kInternal, accrete::format("{} (SQLite code {})", message, code));
  }
}

void Database::execute(const char* sql) {
  const int rc = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  if (rc != SQLITE_OK) fail(rc);
}

int64_t Database::query_integer(const char* sql) {
  Statement statement(*this, sql);
  return statement.step() ? statement.integer(0) : 0;
}

std::string Database::query_text(const char* sql) {
  Statement statement(*this, sql);
  return statement.step() ? statement.text(0) : std::string();
}

Statement::Statement(Database& database, std::string_view sql) : database_(database) {
  const int rc = sqlite3_prepare_v2(database.handle(), sql.data(), static_cast<int>(sql.size()),
                                    &handle_, nullptr);
  if (rc != SQLITE_OK) database.fail(rc);
}

Statement& Statement::bind(int parameter, int64_t value) {
  if (const int rc = sqlite3_bind_int64(handle_, parameter, value); rc != SQLITE_OK)
    database_.fail(rc);
  return *this;
}

Statement& Statement::bind(int parameter, double value) {
  if (const int rc = sqlite3_bind_double(handle_, parameter, value); rc != SQLITE_OK)
    database_.fail(rc);
  return *this;
}

Statement& Statement::bind(int parameter, std::string_view value) {
  // A null pointer would bind NULL, and an empty view may hold one.
  const char* data = value.data() == nullptr ? "" : value.data();
  const int rc =
      sqlite3_bind_text64(handle_, parameter, data, value.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  if (rc != SQLITE_OK) database_.fail(rc);
  return *this;
}

Statement& Statement::bind_null(int parameter) {
  if (const int rc = sqlite3_bind_null(handle_, parameter); rc != SQLITE_OK) database_.fail(rc);
  return *this;
}

bool Statement::step() {
  const int rc = sqlite3_step(handle_);
  if (rc == SQLITE_ROW) return true;
  if (rc == SQLITE_DONE) return false;
  database_.fail(rc);
}

void Statement::check_type(int column, int type) const {
  if (sqlite3_column_type(handle_, column) == type) return;
  throw Error(ErrorCode::kFormat,
              accrete::format("{}: the column '{}' holds a value of the wrong type",
                              database_.path().string(), sqlite3_column_name(handle_, column)),
              "the ledger is damaged; restore it from a backup");
}

int64_t Statement::integer(int column) const {
  check_type(column, SQLITE_INTEGER);
  return sqlite3_column_int64(handle_, column);
}

double Statement::real(int column) const {
  check_type(column, SQLITE_FLOAT);
  return sqlite3_column_double(handle_, column);
}

std::string Statement::text(int column) const {
  check_type(column, SQLITE_TEXT);
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(handle_, column));
  return {data, static_cast<size_t>(sqlite3_column_bytes(handle_, column))};
}

Transaction::Transaction(Database& database, Kind kind) : database_(database) {
  database_.execute(kind == Kind::kWrite ? "BEGIN IMMEDIATE" : "BEGIN");
}

Transaction::~Transaction() {
  // SQLite has rolled back by itself after some errors. A failing ROLLBACK changes nothing either:
  // what was not committed is not in the file.
  if (database_.in_transaction())
    sqlite3_exec(database_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

void Transaction::commit() {
  database_.execute("COMMIT");
}

}  // namespace accrete
