// Processes that are killed, and processes that meet.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include "base/file.h"
#include "base/format.h"
#include "ledger_testing.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::apply;
using testing::difference;
using testing::expect_error;
using testing::folder_difference;
using testing::make_record;
using testing::make_update;
using testing::Operation;
using testing::Reference;
using testing::start_child;
using testing::TemporaryFolder;
using testing::wait_for;

class Pipe {
 public:
  Pipe() {
    if (::pipe(ends_) != 0) throw std::runtime_error("pipe");
  }
  ~Pipe() {
    ::close(ends_[0]);
    close_writing();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void put() const { (void)!::write(ends_[1], "x", 1); }
  // Waits for a byte; false when all writers are gone.
  bool get() const {
    char c = 0;
    return ::read(ends_[0], &c, 1) == 1;
  }
  void close_writing() {
    if (ends_[1] >= 0) ::close(ends_[1]);
    ends_[1] = -1;
  }

 private:
  int ends_[2];
};

// A child does random operations and says so after each; it is killed at some moment. Then the
// ledger must be what it was after the last one that was announced, or after the one that followed.
void kill_at_random_times(TemporaryFolder::Place place, int rounds, uint64_t seed) {
  const TemporaryFolder model(place);
  {
    const Ledger ledger = Ledger::create(model.path());
  }
  Rng rng(seed);
  Reference state;
  uint64_t next_number = 0;
  int operations = 0;
  int cut_short = 0;  // rounds in which the operation under way did take place
  int in_flight = 0;  // and those that left something to tidy up
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE(round);
    const Rng plan = rng.split(static_cast<uint64_t>(round));
    Pipe done;
    const pid_t child = start_child([&] {
      Ledger ledger = Ledger::open(model.path(), Ledger::Mode::kWrite);
      Rng random = plan;
      Reference reference = state;
      uint64_t number = next_number;
      for (;;) {
        const Operation op = testing::random_operation(random, reference, number);
        const auto got = apply(ledger, reference, op);
        if (!(got == reference.apply(op))) return 1;
        done.put();
      }
    });
    done.close_writing();
    std::this_thread::sleep_for(std::chrono::microseconds(rng.below(25000)));
    ::kill(child, SIGKILL);
    const int status = wait_for(child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself: " << WEXITSTATUS(status);

    Rng replay = plan;
    while (done.get()) {
      state.apply(testing::random_operation(replay, state, next_number));
      ++operations;
    }
    // First as a reader, which tidies nothing up.
    Reference after = state;
    uint64_t number_after = next_number;
    after.apply(testing::random_operation(replay, after, number_after));
    const Ledger reader = Ledger::open(model.path(), Ledger::Mode::kRead);
    const std::string from_before = difference(reader, state);
    if (!from_before.empty()) {
      ASSERT_EQ(difference(reader, after), "") << "and from the state before: " << from_before;
      ++cut_short;
    }
    const auto names = testing::names_under(model.path() / "accrete");
    const Ledger ledger = Ledger::open(model.path(), Ledger::Mode::kWrite);
    if (!from_before.empty()) {
      state = after;
      next_number = number_after;
    }
    ASSERT_EQ(difference(ledger, state), "");
    ASSERT_EQ(folder_difference(ledger, state), "");
    if (testing::names_under(model.path() / "accrete") != names) ++in_flight;
    // A number that was drawn but not committed must not come back as another update's.
    next_number = std::max(next_number, number_after);
  }
  ::testing::Test::RecordProperty("operations", operations);
  printf("%d kills, %d operations, %d done but not announced, %d left something to tidy up\n",
         rounds, operations, cut_short, in_flight);
  EXPECT_GT(operations, rounds / 2);  // else the children never got to work
}

TEST(LedgerCrash, KilledAtRandomTimes) {
  // Several short lives rather than a long one: checking every file after every kill takes time.
  for (uint64_t seed = 1; seed <= 8; ++seed)
    kill_at_random_times(TemporaryFolder::Place::kMemory, 30, seed);
}

TEST(LedgerCrash, KilledAtRandomTimesOnDisk) {
  kill_at_random_times(TemporaryFolder::Place::kDisk, 60, 6);
}

TEST(LedgerCrash, KilledWhileCreating) {
  Rng rng(3);
  int complete = 0;
  for (int round = 0; round < 60; ++round) {
    const TemporaryFolder model(TemporaryFolder::Place::kMemory);
    const pid_t child = start_child([&] {
      const Ledger ledger = Ledger::create(model.path());
      return 0;
    });
    std::this_thread::sleep_for(std::chrono::microseconds(rng.below(4000)));
    ::kill(child, SIGKILL);
    wait_for(child);
    if (fs::exists(model.path() / "accrete" / "ledger.db")) {
      ++complete;
      expect_error(ErrorCode::kConflict, [&] { Ledger::create(model.path()); });
    } else {
      expect_error(ErrorCode::kNotFound, [&] { Ledger::open(model.path(), Ledger::Mode::kWrite); });
      const Ledger again = Ledger::create(model.path());
    }
    const Ledger ledger = Ledger::open(model.path(), Ledger::Mode::kWrite);
    EXPECT_EQ(difference(ledger, Reference()), "");
    EXPECT_EQ(folder_difference(ledger, Reference()), "");
  }
  EXPECT_GT(complete, 0);
  EXPECT_LT(complete, 60);
}

TEST(LedgerCrash, FilesOfOthersAreLeftAlone) {
  const TemporaryFolder model;
  {
    const Ledger ledger = Ledger::create(model.path());
  }
  const fs::path folder = model.path() / "accrete";
  const std::string id = write_update(folder / "updates", make_update(1));
  write_file_atomically(folder / "probes" / "mine.jsonl", "x\n");
  write_file_atomically(folder / "updates" / "torn.safetensors.tmp-abc123", "x");
  write_file_atomically(folder / "probes" / "gone.jsonl.new", "x");
  {
    const Ledger ledger = Ledger::open(model.path(), Ledger::Mode::kWrite);
  }
  EXPECT_TRUE(fs::exists(folder / "updates" / update_file_name(id)));
  EXPECT_TRUE(fs::exists(folder / "probes" / "mine.jsonl"));
  EXPECT_FALSE(fs::exists(folder / "updates" / "torn.safetensors.tmp-abc123"));
  EXPECT_FALSE(fs::exists(folder / "probes" / "gone.jsonl.new"));
}

TEST(LedgerProcesses, SecondWriterIsToldWhoWrites) {
  const TemporaryFolder model;
  {
    const Ledger ledger = Ledger::create(model.path());
  }
  Pipe ready;
  const pid_t child = start_child([&] {
    const Ledger ledger = Ledger::open(model.path(), Ledger::Mode::kWrite);
    ready.put();
    ::pause();
    return 0;
  });
  ASSERT_TRUE(ready.get());
  for (int i = 0; i < 3; ++i) {
    const std::string message = expect_error(
        ErrorCode::kConflict, [&] { Ledger::open(model.path(), Ledger::Mode::kWrite); });
    EXPECT_NE(message.find(accrete::format("process {} ", child)), std::string::npos) << message;
  }
  EXPECT_TRUE(Ledger::open(model.path(), Ledger::Mode::kRead).updates().empty());
  ::kill(child, SIGKILL);
  wait_for(child);
  Ledger ledger = Ledger::open(model.path(), Ledger::Mode::kWrite);  // no stale lock
  // Nor a second writer in this process, nor one that a fork made.
  const std::string message =
      expect_error(ErrorCode::kConflict, [&] { Ledger::open(model.path(), Ledger::Mode::kWrite); });
  EXPECT_NE(message.find(accrete::format("process {} ", ::getpid())), std::string::npos) << message;
  expect_error(ErrorCode::kConflict, [&] { Ledger::create(model.path()); });
}

TEST(LedgerProcesses, OnlyOneOfManyCreators) {
  for (int round = 0; round < 10; ++round) {
    const TemporaryFolder model(TemporaryFolder::Place::kMemory);
    std::vector<pid_t> children;
    for (int i = 0; i < 6; ++i)
      children.push_back(start_child([&] {
        try {
          const Ledger ledger = Ledger::create(model.path());
          return 10;
        } catch (const Error& error) {
          return error.code() == ErrorCode::kConflict ? 0 : 1;
        }
      }));
    int created = 0;
    for (const pid_t child : children) {
      const int status = wait_for(child);
      ASSERT_TRUE(WIFEXITED(status));
      ASSERT_TRUE(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 10) << WEXITSTATUS(status);
      created += WEXITSTATUS(status) == 10;
    }
    EXPECT_EQ(created, 1);
    EXPECT_EQ(Ledger::open(model.path(), Ledger::Mode::kWrite).updates().size(), 0U);
  }
}

TEST(LedgerProcesses, ManyWritersTakeTurns) {
  const TemporaryFolder model(TemporaryFolder::Place::kMemory);
  {
    const Ledger ledger = Ledger::create(model.path());
  }
  constexpr uint64_t kWriters = 4;
  constexpr uint64_t kCommits = 10;
  std::vector<pid_t> children;
  for (uint64_t writer = 0; writer < kWriters; ++writer)
    children.push_back(start_child([&model, writer] {
      for (uint64_t done = 0; done < kCommits;) {
        try {
          Ledger ledger = Ledger::open(model.path(), Ledger::Mode::kWrite);
          const uint64_t number = 100 * writer + done;
          ledger.commit(make_update(number), make_record(number));
          ++done;
        } catch (const Error& error) {
          if (error.code() != ErrorCode::kConflict) throw;
          ::usleep(500);
        }
      }
      return 0;
    }));
  for (const pid_t child : children) EXPECT_EQ(wait_for(child), 0);
  const auto updates = Ledger::open(model.path(), Ledger::Mode::kRead).updates();
  EXPECT_EQ(updates.size(), kWriters * kCommits);
}

// Readers, old and new, while a writer commits, comes and goes.
TEST(LedgerProcesses, ReadersWorkDuringWrites) {
  const TemporaryFolder model(TemporaryFolder::Place::kMemory);
  {
    const Ledger ledger = Ledger::create(model.path());
  }
  constexpr uint64_t kCommits = 200;
  const pid_t child = start_child([&] {
    for (uint64_t done = 0; done < kCommits;) {
      Ledger ledger = Ledger::open(model.path(), Ledger::Mode::kWrite);
      ProbeRecord probe;
      probe.name = std::string(1, 'p');  // g++ 12 sees an overflow in a literal here
      for (int i = 0; i < 5; ++i, ++done) {
        ledger.commit(make_update(done), make_record(done));
        ledger.add_probe(probe, std::string(done + 1, 'x'), true);
      }
    }
    return 0;
  });
  const Ledger old = Ledger::open(model.path(), Ledger::Mode::kRead);
  size_t seen = 0;
  size_t seen_probe = 0;
  int reads = 0;
  std::atomic<bool> over{false};
  // A second thread on the same object.
  std::thread thread([&] {
    size_t before = 0;
    while (!over) {
      const size_t n = old.updates().size();
      EXPECT_GE(n, before);
      before = n;
    }
  });
  while (seen < kCommits && !::testing::Test::HasFailure()) {
    const auto updates = old.updates();
    EXPECT_GE(updates.size(), seen);
    seen = updates.size();
    const Ledger fresh = Ledger::open(model.path(), Ledger::Mode::kRead);
    EXPECT_GE(fresh.updates().size(), seen);
    if (seen > 0) {
      EXPECT_TRUE(testing::same(old.load(updates.back().id), make_update(seen - 1)));
    }
    if (!fresh.probes().empty()) {
      const std::string items = fresh.probe_items("p");
      EXPECT_GE(items.size(), seen_probe);
      seen_probe = items.size();
    }
    ++reads;
    int status = 0;
    if (::waitpid(child, &status, WNOHANG) == child) {
      EXPECT_EQ(status, 0);
      EXPECT_EQ(old.updates().size(), kCommits);
      break;
    }
  }
  over = true;
  thread.join();
  printf("%d rounds of reads during %zu commits\n", reads, static_cast<size_t>(kCommits));
}

TEST(LedgerProcesses, ReadersMayNotWrite) {
  const TemporaryFolder model;
  {
    Ledger::create(model.path()).commit(make_update(1), make_record(1));
  }
  Ledger reader = Ledger::open(model.path(), Ledger::Mode::kRead);
  const auto refused = [](auto&& action) { expect_error(ErrorCode::kInvalidArgument, action); };
  refused([&] { reader.commit(make_update(2), make_record(2)); });
  refused([&] { reader.undo(); });
  refused([&] { reader.redo(); });
  refused([&] { reader.set_active(reader.updates()[0].id, false); });
  refused([&] { reader.tag(reader.updates()[0].id, "t"); });
  refused([&] { reader.add_probe({}, ""); });
  refused([&] { reader.remove_probe("p"); });
  EXPECT_EQ(reader.active().size(), 1U);
}

}  // namespace
}  // namespace accrete
