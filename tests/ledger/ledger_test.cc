// What the ledger does, one behaviour at a time.
#include "ledger/ledger.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <regex>

#include "base/file.h"
#include "ledger_testing.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::make_record;
using testing::make_update;
using testing::TemporaryFolder;

class LedgerTest : public ::testing::Test {
 protected:
  LedgerTest() : model_(TemporaryFolder::Place::kMemory), ledger_(Ledger::create(model_.path())) {}

  std::string commit(uint64_t number) {
    return ledger_.commit(make_update(number), make_record(number)).id;
  }
  std::vector<std::string> active() const {
    std::vector<std::string> ids;
    for (const UpdateRecord& record : ledger_.active()) ids.push_back(record.id);
    return ids;
  }
  void reopen() {
    {
      const Ledger closed = std::move(ledger_);
    }
    ledger_ = Ledger::open(model_.path(), Ledger::Mode::kWrite);
  }

  TemporaryFolder model_;
  Ledger ledger_;
};

using Ids = std::vector<std::string>;

TEST_F(LedgerTest, StartsEmpty) {
  EXPECT_TRUE(ledger_.updates().empty());
  EXPECT_TRUE(ledger_.active().empty());
  EXPECT_TRUE(ledger_.probes().empty());
  EXPECT_EQ(ledger_.folder(), model_.path() / "accrete");
  for (const char* name : {"ledger.db", "updates", "probes"})
    EXPECT_TRUE(fs::exists(ledger_.folder() / name)) << name;
  expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.undo(); });
  expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.redo(); });
}

TEST_F(LedgerTest, CommitStoresTheRecord) {
  UpdateRecord given = make_record(3);
  given.parent = "0123456789abcdef";
  given.tag = "v1.0-first_try";
  given.active = false;  // filled in: a commit is active
  given.id = "nonsense";
  given.order = 99;
  given.rows = 12345;
  const UpdateRecord stored = ledger_.commit(make_update(3), given);
  EXPECT_EQ(stored.id, testing::id_of(3));
  EXPECT_EQ(stored.order, 1);
  EXPECT_EQ(stored.rows, 6);
  EXPECT_TRUE(stored.active);
  EXPECT_TRUE(std::regex_match(stored.time, std::regex(R"(20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ)")))
      << stored.time;
  reopen();
  const auto updates = ledger_.updates();
  ASSERT_EQ(updates.size(), 1U);
  const UpdateRecord& got = updates[0];
  EXPECT_EQ(got.id, stored.id);
  EXPECT_EQ(got.order, 1);
  EXPECT_EQ(got.time, stored.time);
  EXPECT_EQ(got.rows, 6);
  EXPECT_EQ(got.items, given.items);
  EXPECT_EQ(got.source, given.source);
  EXPECT_EQ(got.source_digest, given.source_digest);
  EXPECT_EQ(got.parent, given.parent);
  EXPECT_EQ(got.seed, UINT64_MAX - 3);
  EXPECT_EQ(got.method, given.method);
  EXPECT_EQ(got.tool_version, given.tool_version);
  EXPECT_EQ(got.measurements, given.measurements);
  EXPECT_EQ(got.tag, given.tag);
  EXPECT_TRUE(testing::same(ledger_.load(got.id), make_update(3)));
}

TEST_F(LedgerTest, FieldsMayBeEmptyOrOdd) {
  UpdateRecord record;
  record.source = "caf\xe9/\xff.jsonl";  // a path in Latin-1: any bytes may be a path
  record.method = std::string("nul \0 and 'quotes'; DROP TABLE updates;--", 41);
  record.measurements = {{"nan", std::nan("")}, {"text", "☃"}, {"deep", {{"a", {1, {2}}}}}};
  const UpdateRecord stored = ledger_.commit(make_update(1), record);
  EXPECT_EQ(stored.source, "caf\xef\xbf\xbd/\xef\xbf\xbd.jsonl");
  const UpdateRecord got = ledger_.find(stored.id);
  EXPECT_EQ(got.source, stored.source);
  EXPECT_EQ(got.method, record.method);
  EXPECT_TRUE(got.measurements.at("nan").is_null());  // JSON has no NaN
  EXPECT_EQ(got.measurements.at("text"), "☃");
  EXPECT_EQ(got.source_digest, "");
  EXPECT_EQ(got.tag, "");
}

TEST_F(LedgerTest, CommitRefusesNonsense) {
  const auto refused = [&](auto&& change) {
    UpdateRecord record = make_record(1);
    change(record);
    expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.commit(make_update(1), record); });
  };
  refused([](UpdateRecord& r) { r.items = -1; });
  refused([](UpdateRecord& r) { r.source_digest = "abc"; });
  refused([](UpdateRecord& r) { r.source_digest = std::string(64, 'A'); });
  refused([](UpdateRecord& r) { r.parent = "HEAD"; });
  refused([](UpdateRecord& r) { r.measurements = 3; });
  refused([](UpdateRecord& r) { r.measurements = {{"x", "\xff"}}; });
  refused([](UpdateRecord& r) { r.method = "\xff"; });
  refused([](UpdateRecord& r) { r.tag = "no spaces"; });
  refused([](UpdateRecord& r) { r.tag = "0123456789abcdef"; });
  refused([](UpdateRecord& r) { r.tag = std::string(129, 'a'); });
  expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.commit(Update(), make_record(1)); });
  EXPECT_TRUE(ledger_.updates().empty());
  EXPECT_TRUE(testing::names_under(ledger_.folder() / "updates").empty());
}

TEST_F(LedgerTest, TheSameUpdateOnlyOnce) {
  const std::string id = commit(1);
  const std::string message = expect_error(ErrorCode::kConflict, [&] { commit(1); });
  EXPECT_NE(message.find(id), std::string::npos);
  EXPECT_EQ(active(), Ids{id});
  EXPECT_TRUE(testing::same(ledger_.load(id), make_update(1)));
  EXPECT_EQ(testing::names_under(ledger_.folder() / "updates").size(), 1U);
}

TEST_F(LedgerTest, TheSameUpdateAgainComesBackInItsPlace) {
  const Ids ids = {commit(1), commit(2), commit(3)};
  ledger_.undo(3);
  EXPECT_EQ(commit(2), ids[1]);
  EXPECT_EQ(active(), Ids{ids[1]});
  EXPECT_EQ(ledger_.updates().size(), 3U);
  // As after every commit, there is nothing to redo.
  expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.redo(); });
  EXPECT_EQ(commit(1), ids[0]);
  EXPECT_EQ(active(), (Ids{ids[0], ids[1]}));  // ledger order, not the order of coming back
  // Its file comes back with it.
  ledger_.set_active(ids[2], false);
  std::filesystem::remove(ledger_.folder() / "updates" / (ids[2] + ".safetensors"));
  EXPECT_EQ(commit(3), ids[2]);
  EXPECT_TRUE(testing::same(ledger_.load(ids[2]), make_update(3)));
}

TEST_F(LedgerTest, UndoAndRedo) {
  const Ids ids = {commit(1), commit(2), commit(3), commit(4)};
  EXPECT_EQ(ledger_.undo(), Ids{ids[3]});
  EXPECT_EQ(ledger_.undo(2), (Ids{ids[2], ids[1]}));
  EXPECT_EQ(active(), Ids{ids[0]});
  expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.undo(2); });
  expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.undo(0); });
  expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.undo(-1); });
  expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.redo(4); });
  EXPECT_EQ(active(), Ids{ids[0]});
  reopen();
  EXPECT_EQ(ledger_.redo(), Ids{ids[1]});
  EXPECT_EQ(ledger_.redo(2), (Ids{ids[2], ids[3]}));
  EXPECT_EQ(active(), ids);
}

TEST_F(LedgerTest, CommitEndsTheRedoOrder) {
  const std::string a = commit(1);
  const std::string b = commit(2);
  ledger_.undo();
  const std::string c = commit(3);
  expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.redo(); });
  EXPECT_EQ(ledger_.updates().size(), 3U);  // b stays in the log
  EXPECT_EQ(active(), (Ids{a, c}));
  ledger_.set_active(b, true);  // and can still be had
  EXPECT_EQ(active(), (Ids{a, b, c}));
  EXPECT_EQ(ledger_.undo(3), (Ids{c, b, a}));
}

TEST_F(LedgerTest, RevertIsNotForRedo) {
  const Ids ids = {commit(1), commit(2), commit(3)};
  ledger_.set_active(ids[0], false);
  ledger_.set_active(ids[0], false);
  EXPECT_EQ(active(), (Ids{ids[1], ids[2]}));
  expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.redo(); });
  EXPECT_EQ(ledger_.undo(2), (Ids{ids[2], ids[1]}));
  ledger_.set_active(ids[2], true);  // leaves the redo order
  EXPECT_EQ(ledger_.redo(), Ids{ids[1]});
  expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.redo(); });
  expect_error(ErrorCode::kNotFound, [&] { ledger_.set_active("ffffffffffffffff", true); });
}

TEST_F(LedgerTest, RedoAfterARevertSaysHowToGetItBack) {
  const Ids ids = {commit(1), commit(2), commit(3)};
  const auto hint = [&] {
    try {
      ledger_.redo();
    } catch (const Error& error) {
      return error.hint();
    }
    return std::string("nothing was refused");
  };
  EXPECT_EQ(hint(), "`accrete log` lists them");
  ledger_.undo();
  ledger_.set_active(ids[0], false);
  // Not ids[2]: it is not what was taken back last.
  EXPECT_NE(hint().find("revert MODEL ID --again"), std::string::npos) << hint();
  EXPECT_NE(hint().find(ids[2] + ", " + ids[0]), std::string::npos) << hint();
  EXPECT_EQ(active(), Ids{ids[1]});
  ledger_.set_active(ids[2], true);
  EXPECT_NE(hint().find("`accrete revert MODEL " + ids[0] + " --again`"), std::string::npos)
      << hint();
  ledger_.set_active(ids[0], true);
  EXPECT_EQ(active(), ids);
}

TEST_F(LedgerTest, FindsByIdPrefixAndTag) {
  const std::string a = commit(1);
  const std::string b = commit(2);
  ledger_.tag(b, "best");
  EXPECT_EQ(ledger_.find(a).id, a);
  for (size_t digits = 4; digits <= 16; ++digits)
    EXPECT_EQ(ledger_.find(a.substr(0, digits)).id, a);
  EXPECT_EQ(ledger_.find("best").id, b);
  for (const std::string& unknown :
       {std::string("ffffffffffffffff"), std::string("bes"), std::string(), a.substr(0, 3), a + "0",
        std::string("%"), std::string("____"), std::string("' OR 1=1 --")})
    expect_error(ErrorCode::kNotFound, [&] { ledger_.find(unknown); });
  // A tag wins over a prefix.
  ledger_.tag(b, a.substr(0, 4));
  EXPECT_EQ(ledger_.find(a.substr(0, 4)).id, b);
  EXPECT_EQ(ledger_.find(a.substr(0, 5)).id, a);
}

TEST_F(LedgerTest, AmbiguousPrefixesAreRefused) {
  // Two updates whose ids begin with the same four digits: among a thousand there usually are some.
  std::map<std::string, uint64_t> seen;
  for (uint64_t number = 0;; ++number) {
    ASSERT_LT(number, 5000U);
    const auto [other, fresh] = seen.insert({testing::id_of(number).substr(0, 4), number});
    if (fresh) continue;
    const std::string a = commit(other->second);
    EXPECT_EQ(ledger_.find(other->first).id, a);
    const std::string b = commit(number);
    const std::string message =
        expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.find(other->first); });
    EXPECT_NE(message.find(a), std::string::npos) << message;
    EXPECT_NE(message.find(b), std::string::npos) << message;
    break;
  }
}

TEST_F(LedgerTest, Tags) {
  const std::string a = commit(1);
  const std::string b = commit(2);
  ledger_.tag(a, "one");
  ledger_.tag(a, "one");
  expect_error(ErrorCode::kConflict, [&] { ledger_.tag(b, "one"); });
  expect_error(ErrorCode::kConflict, [&] {
    UpdateRecord record = make_record(3);
    record.tag = "one";
    ledger_.commit(make_update(3), record);
  });
  ledger_.tag("one", "two");  // by its tag, and in its place
  EXPECT_EQ(ledger_.find(a).tag, "two");
  expect_error(ErrorCode::kNotFound, [&] { ledger_.find("one"); });
  ledger_.tag(b, "one");
  ledger_.tag(a, "");
  EXPECT_EQ(ledger_.find(a).tag, "");
  ledger_.tag(b, "");
  for (const char* bad : {" ", "a b", "a/b", "ü", "0123456789abcdef"})
    expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.tag(a, bad); });
  expect_error(ErrorCode::kNotFound, [&] { ledger_.tag("nobody", "x"); });
  EXPECT_EQ(ledger_.updates().size(), 2U);
}

ProbeRecord make_probe(const std::string& name) {
  ProbeRecord probe;
  probe.name = name;
  probe.floor = 0.95;
  probe.base = 1.0 / 3;
  probe.items = 2;
  probe.details = {{"metric", "f1"}};
  return probe;
}

TEST_F(LedgerTest, Probes) {
  const std::string items = "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n";
  ledger_.add_probe(make_probe("geography-1.0"), items);
  ProbeRecord other = make_probe("a");
  other.floor.reset();
  ledger_.add_probe(other, "");
  reopen();
  const auto probes = ledger_.probes();
  ASSERT_EQ(probes.size(), 2U);
  EXPECT_EQ(probes[0].name, "a");  // by name
  EXPECT_EQ(probes[0].floor, std::nullopt);
  EXPECT_EQ(ledger_.probe_items("a"), "");
  EXPECT_EQ(probes[1].file, "probes/geography-1.0.jsonl");
  EXPECT_EQ(probes[1].floor, 0.95);
  EXPECT_EQ(probes[1].base, 1.0 / 3);
  EXPECT_EQ(probes[1].items, 2);
  EXPECT_EQ(probes[1].details, make_probe("").details);
  EXPECT_EQ(ledger_.probe_items("geography-1.0"), items);
  EXPECT_EQ(read_file(ledger_.folder() / probes[1].file), items);

  expect_error(ErrorCode::kConflict, [&] { ledger_.add_probe(make_probe("a"), "x"); });
  EXPECT_EQ(ledger_.probe_items("a"), "");
  ledger_.add_probe(make_probe("a"), "x", true);
  EXPECT_EQ(ledger_.probe_items("a"), "x");
  EXPECT_EQ(ledger_.probes()[0].floor, 0.95);
  ledger_.remove_probe("a");
  EXPECT_FALSE(fs::exists(ledger_.folder() / "probes" / "a.jsonl"));
  expect_error(ErrorCode::kNotFound, [&] { ledger_.remove_probe("a"); });
  expect_error(ErrorCode::kNotFound, [&] { ledger_.probe_items("a"); });
  EXPECT_EQ(ledger_.probes().size(), 1U);
  ledger_.add_probe(make_probe("a"), "again");
  EXPECT_EQ(ledger_.probe_items("a"), "again");
}

TEST_F(LedgerTest, ProbesRefuseNonsense) {
  for (const char* name : {"", "a b", "../x", "a/b", "ü"})
    expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.add_probe(make_probe(name), ""); });
  const auto refused = [&](auto&& change) {
    ProbeRecord probe = make_probe("p");
    change(probe);
    expect_error(ErrorCode::kInvalidArgument, [&] { ledger_.add_probe(probe, ""); });
  };
  refused([](ProbeRecord& p) { p.base = std::nan(""); });
  refused([](ProbeRecord& p) { p.floor = std::numeric_limits<double>::infinity(); });
  refused([](ProbeRecord& p) { p.items = -1; });
  refused([](ProbeRecord& p) { p.details = nullptr; });
  EXPECT_TRUE(ledger_.probes().empty());
  EXPECT_TRUE(testing::names_under(ledger_.folder() / "probes").empty());
}

TEST_F(LedgerTest, OpenSaysWhatIsMissing) {
  const TemporaryFolder empty;
  for (const auto mode : {Ledger::Mode::kRead, Ledger::Mode::kWrite}) {
    const std::string message =
        expect_error(ErrorCode::kNotFound, [&] { Ledger::open(empty.path(), mode); });
    EXPECT_NE(message.find("accrete retrofit"), std::string::npos) << message;
    expect_error(ErrorCode::kNotFound, [&] { Ledger::open(empty / "no", mode); });
  }
  EXPECT_TRUE(testing::names_under(empty.path()).empty());
  expect_error(ErrorCode::kNotFound, [&] { Ledger::create(empty / "no"); });
  write_file_atomically(empty / "file", "");
  expect_error(ErrorCode::kNotFound, [&] { Ledger::create(empty / "file"); });
  {
    const Ledger closed = std::move(ledger_);
  }
  expect_error(ErrorCode::kConflict, [&] { Ledger::create(model_.path()); });
  reopen();
}

TEST_F(LedgerTest, EmptyFoldersComeBack) {
  // git does not keep empty folders.
  {
    const Ledger closed = std::move(ledger_);
  }
  fs::remove(model_.path() / "accrete" / "updates");
  fs::remove(model_.path() / "accrete" / "probes");
  fs::remove(model_.path() / "accrete" / "lock");
  EXPECT_TRUE(Ledger::open(model_.path(), Ledger::Mode::kRead).updates().empty());
  ledger_ = Ledger::open(model_.path(), Ledger::Mode::kWrite);
  commit(1);
  ledger_.add_probe(make_probe("p"), "x");
}

TEST_F(LedgerTest, ManyUpdatesStayFast) {
  // Not a benchmark: a guard against something quadratic.
  for (uint64_t number = 0; number < 300; ++number) commit(number);
  EXPECT_EQ(ledger_.undo(300).size(), 300U);
  EXPECT_EQ(ledger_.redo(300).size(), 300U);
  EXPECT_EQ(active().size(), 300U);
}

}  // namespace
}  // namespace accrete
