// Databases that are damaged, foreign or edited; folders that cannot be written; full disks.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "base/file.h"
#include "base/format.h"
#include "base/sha256.h"
#include "ledger/schema.h"
#include "ledger_testing.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::difference;
using testing::expect_error;
using testing::folder_difference;
using testing::make_record;
using testing::make_update;
using testing::names_under;
using testing::Operation;
using testing::Reference;
using testing::run_in_child;
using testing::TemporaryFolder;

constexpr auto kRead = Ledger::Mode::kRead;
constexpr auto kWrite = Ledger::Mode::kWrite;

// Exit status of a child for "cannot be tried on this machine".
constexpr int kSkip = 77;

class StorageTest : public ::testing::Test {
 protected:
  StorageTest() : model_(TemporaryFolder::Place::kMemory), folder_(model_.path() / "accrete") {
    Ledger ledger = Ledger::create(model_.path());
    for (uint64_t number = 0; number < 3; ++number) apply(ledger, commit_of(number));
    apply(ledger, {Operation::Kind::kUndo, 0, 1, false, ""});
    apply(ledger, {Operation::Kind::kTag, 0, 0, false, "first"});
    apply(ledger, {Operation::Kind::kAddProbe, 5, 0, false, "probe"});
  }

  static Operation commit_of(uint64_t number) {
    return {Operation::Kind::kCommit, number, 0, false, ""};
  }
  std::optional<ErrorCode> apply(Ledger& ledger, const Operation& op) {
    const auto result = testing::apply(ledger, state_, op);
    if (!result.error) state_.apply(op);
    return result.error;
  }

  // Changes the database behind the ledger's back.
  void edit(const std::string& sql) const {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open((folder_ / "ledger.db").c_str(), &db), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(db) << ": " << sql;
    sqlite3_close(db);
  }

  std::string refused_in_both_modes(ErrorCode code = ErrorCode::kFormat) const {
    const std::string message = expect_error(code, [&] { Ledger::open(model_.path(), kRead); });
    EXPECT_EQ(expect_error(code, [&] { Ledger::open(model_.path(), kWrite); }), message);
    EXPECT_NE(message.find("ledger.db"), std::string::npos) << message;
    return message;
  }

  void expect_intact() const {
    EXPECT_EQ(difference(Ledger::open(model_.path(), kRead), state_), "");
    const Ledger ledger = Ledger::open(model_.path(), kWrite);
    EXPECT_EQ(difference(ledger, state_), "");
    EXPECT_EQ(folder_difference(ledger, state_), "");
  }

  TemporaryFolder model_;
  fs::path folder_;
  Reference state_;
};

TEST_F(StorageTest, DatabaseIsSetUpAsPromised) {
  Database database = open_ledger_database(folder_ / "ledger.db", true);
  EXPECT_EQ(database.query_text("PRAGMA journal_mode"), "wal");
  EXPECT_EQ(database.query_integer("PRAGMA synchronous"), 2);  // FULL
  EXPECT_EQ(database.query_integer("PRAGMA user_version"), kLedgerSchemaVersion);
  EXPECT_EQ(database.query_text("PRAGMA integrity_check"), "ok");
}

TEST_F(StorageTest, NothingIsLeftOpen) {
  // After the last one has closed it, the database is one file that can be copied.
  EXPECT_FALSE(fs::exists(folder_ / "ledger.db-wal"));
  EXPECT_FALSE(fs::exists(folder_ / "ledger.db-shm"));
  expect_intact();
  EXPECT_FALSE(fs::exists(folder_ / "ledger.db-wal"));
}

TEST_F(StorageTest, NewerSchema) {
  edit("PRAGMA user_version = 2");
  const std::string message = refused_in_both_modes();
  EXPECT_NE(message.find("newer"), std::string::npos) << message;
  edit("PRAGMA user_version = 1");
  expect_intact();
}

TEST_F(StorageTest, ForeignDatabases) {
  edit("PRAGMA application_id = 0");
  refused_in_both_modes();
  edit(
      accrete::format("PRAGMA application_id = {}; PRAGMA user_version = 0", kLedgerApplicationId));
  refused_in_both_modes();
  edit("PRAGMA user_version = 1");
  for (const char* sql : {"CREATE TABLE extra (x)", "CREATE VIEW v AS SELECT 1",
                          "CREATE TRIGGER t AFTER INSERT ON updates BEGIN DELETE FROM updates; END",
                          "CREATE INDEX i ON updates (time)"}) {
    edit(sql);
    refused_in_both_modes();
    edit(
        "DROP TABLE IF EXISTS extra; DROP VIEW IF EXISTS v; DROP TRIGGER IF EXISTS t; "
        "DROP INDEX IF EXISTS i");
    expect_intact();
  }
  edit("DROP TABLE leftovers");
  refused_in_both_modes();
}

TEST_F(StorageTest, NotADatabase) {
  for (const std::string& content :
       {std::string(), std::string("x"), std::string("not a database at all\n"),
        std::string(100000, '\0'), std::string("SQLite format 3\0", 16)}) {
    write_file_atomically(folder_ / "ledger.db", content);
    refused_in_both_modes();
  }
  fs::remove(folder_ / "ledger.db");
  fs::create_directory(folder_ / "ledger.db");
  for (const auto mode : {kRead, kWrite}) EXPECT_THROW(Ledger::open(model_.path(), mode), Error);
}

// Whatever is flipped or cut off: an error of ours, or the state as it was; never another state.
TEST_F(StorageTest, DamagedDatabases) {
  const std::string good = read_file(folder_ / "ledger.db");
  Rng rng(4);
  int refused = 0;
  int changed = 0;
  constexpr int kRounds = 1000;
  for (int round = 0; round < kRounds; ++round) {
    std::string bad = good;
    if (round % 4 == 0) {
      bad.resize(rng.below(bad.size()));
    } else if (round % 4 == 1) {
      const size_t begin = rng.below(bad.size());
      const size_t n = std::min<size_t>(1 + rng.below(600), bad.size() - begin);
      for (size_t i = begin; i < begin + n; ++i) bad[i] = static_cast<char>(rng.next_u32());
    } else {
      bad[rng.below(bad.size())] ^= static_cast<char>(1U << rng.below(8));
    }
    write_file_atomically(folder_ / "ledger.db", bad);
    fs::remove(folder_ / "ledger.db-wal");
    fs::remove(folder_ / "ledger.db-shm");
    const auto mode = round % 2 == 0 ? kRead : kWrite;
    try {
      const Ledger ledger = Ledger::open(model_.path(), mode);
      if (!difference(ledger, state_).empty()) ++changed;
    } catch (const Error& error) {
      EXPECT_NE(error.code(), ErrorCode::kInternal) << error.what();
      ++refused;
    }
  }
  printf("%d damaged databases: %d refused, %d with another state\n", kRounds, refused, changed);
  EXPECT_GT(refused, kRounds / 5);
  EXPECT_EQ(changed, 0);
  fs::remove(folder_ / "ledger.db-wal");
  fs::remove(folder_ / "ledger.db-shm");
  write_file_atomically(folder_ / "ledger.db", good);
  expect_intact();
}

TEST_F(StorageTest, EditedRowsAreRefused) {
  const std::string good = read_file(folder_ / "ledger.db");
  const auto refused = [&](const char* sql) {
    edit("PRAGMA ignore_check_constraints = ON; " + std::string(sql));
    for (const auto mode : {kRead, kWrite}) {
      try {
        const Ledger ledger = Ledger::open(model_.path(), mode);
        ledger.updates();
        ledger.probes();
        ADD_FAILURE() << "accepted: " << sql;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kFormat) << sql << ": " << error.what();
      }
    }
    fs::remove(folder_ / "ledger.db-wal");
    fs::remove(folder_ / "ledger.db-shm");
    write_file_atomically(folder_ / "ledger.db", good);
  };
  refused("UPDATE updates SET id = 'x' WHERE seq = 1");
  refused("UPDATE updates SET id = '../../../etc/pass' WHERE seq = 1");
  refused("UPDATE updates SET id = '0123456789abcdef' WHERE seq = 1");
  refused("UPDATE updates SET seq = 9 WHERE seq = 3");
  refused("UPDATE updates SET seq = -1 WHERE seq = 1");
  refused("DELETE FROM updates WHERE seq = 2");
  refused("UPDATE updates SET time = 'yesterday'");
  refused("UPDATE updates SET time = '2001-01-01T00:00:00Z'");
  refused("UPDATE updates SET active = 2");
  refused("UPDATE updates SET active = 0");
  refused("UPDATE updates SET active = 1, undone = NULL");
  refused("UPDATE updates SET undone = 5 WHERE seq = 3");
  refused("UPDATE updates SET undone = 0 WHERE seq = 3");
  refused("UPDATE updates SET undone = 7 WHERE seq = 1");
  refused("UPDATE updates SET items = items + 1");
  refused("UPDATE updates SET items = -1");
  refused("UPDATE updates SET source = 'other'");
  refused("UPDATE updates SET source = CAST(x'ff' AS TEXT)");
  refused("UPDATE updates SET source_digest = ''");
  refused("UPDATE updates SET parent = 'me'");
  refused("UPDATE updates SET seed = 0");
  refused("UPDATE updates SET method = ''");
  refused("UPDATE updates SET tool_version = '9'");
  refused("UPDATE updates SET row_count = 0");
  refused("UPDATE updates SET measurements = '{'");
  refused("UPDATE updates SET measurements = '[]'");
  refused("UPDATE updates SET measurements = '{}'");
  refused("UPDATE updates SET measurements = '{\"a\":1,\"a\":2}'");
  refused("UPDATE updates SET checksum = ''");
  refused("UPDATE updates SET tag = '' WHERE seq = 1");
  refused("UPDATE updates SET tag = 'a b' WHERE seq = 1");
  refused("UPDATE updates SET tag = 'other' WHERE seq = 1");
  refused("UPDATE updates SET tag = NULL WHERE seq = 1");
  refused("UPDATE probes SET file = '../../secret'");
  refused("UPDATE probes SET file = 'probes/other.jsonl'");
  refused("UPDATE probes SET name = 'a/b', file = 'probes/a/b.jsonl'");
  refused("UPDATE probes SET digest = 'x'");
  refused("UPDATE probes SET base = 0.25");
  refused("UPDATE probes SET floor = 0.25");
  refused("UPDATE probes SET items = 7");
  refused("UPDATE probes SET details = '{}' || ' '");
  refused("UPDATE probes SET base = 9e999");
  refused("UPDATE probes SET floor = -9e999");
  refused("UPDATE probes SET items = -1");
  refused("UPDATE probes SET details = 'null'");
  expect_intact();
  // A row that names a file to remove must not reach outside.
  write_file_atomically(model_ / "precious", "x");
  for (const char* file : {"../precious", "probes/../../precious", "updates/../../precious",
                           "/etc/passwd", "ledger.db", ""}) {
    edit(accrete::format("INSERT INTO leftovers VALUES ('{}')", file));
    expect_error(ErrorCode::kFormat, [&] { Ledger::open(model_.path(), kWrite); });
    edit("DELETE FROM leftovers");
  }
  EXPECT_EQ(read_file(model_ / "precious"), "x");
  expect_intact();
}

TEST_F(StorageTest, TamperedUpdateFilesAreRefused) {
  const Ledger ledger = Ledger::open(model_.path(), kRead);
  const std::string id = state_.entries[1].id;
  const fs::path file = folder_ / "updates" / update_file_name(id);
  const std::string good = read_file(file);
  std::string flipped = good;
  flipped[flipped.size() - 2] ^= 1;  // a value: still a well-formed update
  for (const std::string& bad :
       {flipped, good.substr(0, good.size() - 1), std::string(),
        read_file(folder_ / "updates" / update_file_name(state_.entries[0].id))}) {
    write_file_atomically(file, bad);
    const std::string message = expect_error(ErrorCode::kFormat, [&] { ledger.load(id); });
    EXPECT_NE(message.find(id), std::string::npos) << message;
  }
  fs::remove(file);
  expect_error(ErrorCode::kFormat, [&] { ledger.load(id); });
  EXPECT_TRUE(testing::same(ledger.load("first"), make_update(0)));
  write_file_atomically(file, good);
  EXPECT_TRUE(testing::same(ledger.load(id), make_update(1)));
}

TEST_F(StorageTest, TamperedProbesAreRefused) {
  const Ledger ledger = Ledger::open(model_.path(), kRead);
  const fs::path file = folder_ / "probes" / "probe.jsonl";
  const std::string good = read_file(file);
  write_file_atomically(file, good + " ");
  expect_error(ErrorCode::kFormat, [&] { ledger.probe_items("probe"); });
  expect_error(ErrorCode::kFormat, [&] { ledger.snapshot(); });
  fs::remove(file);
  expect_error(ErrorCode::kFormat, [&] { ledger.probe_items("probe"); });
  expect_error(ErrorCode::kFormat, [&] { ledger.snapshot(); });
  write_file_atomically(file, good);
  EXPECT_EQ(ledger.probe_items("probe"), good);
  EXPECT_EQ(ledger.snapshot().probes.at(0).items, good);
}

// Between the commit of a probe's record and the rename of its items, those in place are the old
// ones: what is read belongs to the record.
TEST_F(StorageTest, AProbesItemsAreThoseOfItsRecordWhileTheyWait) {
  const fs::path file = folder_ / "probes" / "probe.jsonl";
  const std::string good = read_file(file);
  write_file_atomically(file.string() + ".new", good);
  write_file_atomically(file, "{\"prompt\": \"old\", \"completion\": \"old\"}\n");
  const Ledger ledger = Ledger::open(model_.path(), kRead);
  const Snapshot snapshot = ledger.snapshot();
  ASSERT_EQ(snapshot.probes.size(), 1U);
  EXPECT_EQ(snapshot.probes[0].items, good);
  EXPECT_EQ(snapshot.probes[0].digest, sha256_hex(good));
  EXPECT_EQ(snapshot.probes[0].record.name, "probe");
  EXPECT_EQ(state_key(snapshot.active), state_key(ledger.active()));
}

// A child that may not write here: root may write anywhere, so it becomes somebody else.
int become_powerless() {
  if (::geteuid() != 0) return 0;
  return ::setgid(65534) == 0 && ::setuid(65534) == 0 ? 0 : kSkip;
}

void allow_writing(const fs::path& folder, bool allow) {
  ::chmod(folder.c_str(), allow ? 0755 : 0555);
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    ::chmod(entry.path().c_str(),
            entry.is_directory() ? (allow ? 0755 : 0555) : (allow ? 0644 : 0444));
}

TEST_F(StorageTest, ReadOnlyFolderIsRead) {
  const auto before = names_under(model_.path());
  allow_writing(model_.path(), false);
  const int status = run_in_child([&] {
    if (become_powerless() != 0) return kSkip;
    const Ledger ledger = Ledger::open(model_.path(), kRead);
    EXPECT_EQ(difference(ledger, state_), "");
    EXPECT_TRUE(testing::same(ledger.load("first"), make_update(0)));
    const std::string message =
        expect_error(ErrorCode::kIo, [&] { Ledger::open(model_.path(), kWrite); });
    EXPECT_NE(message.find("permissions"), std::string::npos) << message;
    return 0;
  });
  allow_writing(model_.path(), true);
  EXPECT_EQ(names_under(model_.path()), before);
  expect_intact();
  if (status == kSkip) GTEST_SKIP() << "cannot give up root's rights here";
  EXPECT_EQ(status, 0);
}

TEST_F(StorageTest, ReadOnlyFolderIsReadWhileSomeoneElseWrites) {
  Ledger writer = Ledger::open(model_.path(), kWrite);
  apply(writer, commit_of(7));  // in the log, not yet in the database
  allow_writing(model_.path(), false);
  const int status = run_in_child([&] {
    if (become_powerless() != 0) return kSkip;
    EXPECT_EQ(difference(Ledger::open(model_.path(), kRead), state_), "");
    return 0;
  });
  allow_writing(model_.path(), true);
  if (status == kSkip) GTEST_SKIP() << "cannot give up root's rights here";
  EXPECT_EQ(status, 0);
}

TEST(Storage, CreateInAReadOnlyFolderLeavesNothing) {
  const TemporaryFolder model;
  allow_writing(model.path(), false);
  const int status = run_in_child([&] {
    if (become_powerless() != 0) return kSkip;
    expect_error(ErrorCode::kIo, [&] { Ledger::create(model.path()); });
    return 0;
  });
  allow_writing(model.path(), true);
  EXPECT_TRUE(names_under(model.path()).empty());
  if (status == kSkip) GTEST_SKIP() << "cannot give up root's rights here";
  EXPECT_EQ(status, 0);
}

// Every write fails from some size on: each operation either takes place or is a clean error.
TEST_F(StorageTest, LimitedFileSizes) {
  int failed = 0;
  int done = 0;
  uint64_t number = 100;
  for (rlim_t limit = 0; limit <= 80000; limit += limit < 8192 ? 512 : 4096) {
    SCOPED_TRACE(limit);
    Operation op = limit % 1024 == 0
                       ? commit_of(number++)
                       : Operation{Operation::Kind::kAddProbe, number++, 0, true, "probe"};
    const int status = run_in_child([&] {
      testing::limit_file_size(limit);
      try {
        Ledger ledger = Ledger::open(model_.path(), kWrite);
        const auto error = testing::apply(ledger, state_, op).error;
        if (error && *error != ErrorCode::kIo) return 2;
        // The same object still reads what it should, and can be closed.
        Reference now = state_;
        if (!error) now.apply(op);
        EXPECT_EQ(difference(ledger, now), "");
        return error ? 10 : 20;
      } catch (const Error& error) {  // from open
        EXPECT_EQ(error.code(), ErrorCode::kIo) << error.what();
        return ::testing::Test::HasFailure() ? 1 : 10;
      }
    });
    ASSERT_TRUE(status == 10 || status == 20) << status;
    if (status == 20) state_.apply(op);
    ++(status == 20 ? done : failed);
    expect_intact();
  }
  printf("%d failed, %d done\n", failed, done);
  EXPECT_GT(failed, 0);
  EXPECT_GT(done, 0);
}

TEST(Storage, CreateWithLimitedFileSizes) {
  int failed = 0;
  for (rlim_t limit = 0; limit <= 60000; limit += limit < 4096 ? 512 : 4096) {
    SCOPED_TRACE(limit);
    const TemporaryFolder model(TemporaryFolder::Place::kMemory);
    const int status = run_in_child([&] {
      testing::limit_file_size(limit);
      try {
        const Ledger ledger = Ledger::create(model.path());
        return 20;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kIo) << error.what();
        return ::testing::Test::HasFailure() ? 1 : 10;
      }
    });
    ASSERT_TRUE(status == 10 || status == 20) << status;
    if (status == 20) {
      EXPECT_TRUE(Ledger::open(model.path(), kWrite).updates().empty());
      continue;
    }
    ++failed;
    // Either nothing at all, or (where opening the finished ledger failed) a whole one.
    if (!names_under(model.path()).empty())
      EXPECT_TRUE(Ledger::open(model.path(), kWrite).updates().empty());
    else
      Ledger::create(model.path());
  }
  EXPECT_GT(failed, 0);
}

bool write_text(const char* path, const std::string& text) {
  const int fd = ::open(path, O_WRONLY);
  if (fd < 0) return false;
  const bool ok = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(fd);
  return ok;
}

// Mounts a small disk of the process's own over `folder`, if that is allowed.
bool mount_small_disk(const fs::path& folder, size_t bytes) {
  const auto uid = ::getuid();
  const auto gid = ::getgid();
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  if (!write_text("/proc/self/setgroups", "deny") ||
      !write_text("/proc/self/uid_map", accrete::format("0 {} 1", uid)) ||
      !write_text("/proc/self/gid_map", accrete::format("0 {} 1", gid)))
    return false;
  return ::mount("tmpfs", folder.c_str(), "tmpfs", 0, accrete::format("size={}", bytes).c_str()) ==
         0;
}

// Leaves `bytes` free on the disk of `folder`, by a file that takes the rest.
void leave_free(const fs::path& folder, size_t bytes) {
  fs::remove(folder / "ballast");
  const size_t available = fs::space(folder).available;
  if (available <= bytes) return;
  std::ofstream(folder / "ballast") << std::string(available - bytes, 'x');
}

TEST(Storage, FullDisk) {
  const TemporaryFolder disk;
  const int status = run_in_child([&] {
    constexpr size_t kDisk = 2 << 20;
    if (!mount_small_disk(disk.path(), kDisk)) return kSkip;
    const fs::path model = disk / "model";
    fs::create_directory(model);

    int failed_creates = 0;
    for (size_t room = 0; room < 100000; room += 4096) {
      leave_free(disk.path(), room);
      try {
        Ledger::create(model);
        break;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kIo) << error.what();
        ++failed_creates;
        if (!names_under(model).empty()) break;  // made, but could not be opened
      }
    }
    EXPECT_GT(failed_creates, 0);

    Reference state;
    uint64_t number = 0;
    int failed = 0;
    int done = 0;
    // With the ledger held open, and opened anew each time.
    for (const bool hold : {false, true}) {
      fs::remove(disk / "ballast");
      std::optional<Ledger> held;
      if (hold) held = Ledger::open(model, kWrite);
      for (size_t room = 0; room <= 120000; room += 4096) {
        const Operation operations[] = {
            {Operation::Kind::kCommit, number++, 0, false, ""},
            {Operation::Kind::kAddProbe, number, 0, true, "probe"},
            {Operation::Kind::kUndo, 0, 1, false, ""},
        };
        for (const Operation& op : operations) {
          leave_free(disk.path(), room);
          const Reference before = state;
          try {
            std::optional<Ledger> fresh;
            if (!hold) fresh = Ledger::open(model, kWrite);
            Ledger& ledger = hold ? *held : *fresh;
            const auto got = testing::apply(ledger, state, op);
            if (!got.error || *got.error != ErrorCode::kIo) {
              EXPECT_EQ(got.error, state.apply(op).error);
              ++done;
            } else {
              ++failed;
            }
            EXPECT_EQ(difference(ledger, state), "") << "with " << room << " bytes left";
          } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::kIo) << error.what();
            EXPECT_EQ(state, before);
            ++failed;
          }
          // A reader works on a full disk too.
          EXPECT_EQ(difference(Ledger::open(model, kRead), state), "") << room;
          if (::testing::Test::HasFailure()) return 1;
        }
      }
      held.reset();
      fs::remove(disk / "ballast");
      const Ledger ledger = Ledger::open(model, kWrite);
      EXPECT_EQ(difference(ledger, state), "");
      EXPECT_EQ(folder_difference(ledger, state), "");
    }
    printf("%d creates failed; %d operations failed, %d done\n", failed_creates, failed, done);
    EXPECT_GT(failed, 0);
    EXPECT_GT(done, 0);
    return 0;
  });
  if (status == kSkip) GTEST_SKIP() << "cannot mount a small disk here";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace accrete
