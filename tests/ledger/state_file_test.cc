#include "ledger/state_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "../base/testing.h"
#include "base/format.h"
#include "base/rng.h"
#include "ledger/combine.h"
#include "ledger/ledger.h"

namespace accrete {
namespace {

constexpr int64_t kWidth = 6;

Update make_state_update(uint64_t seed, Reach reach, int64_t slots = 40) {
  Rng rng = Rng(seed).split(3);
  Update u;
  for (const int block : {1, 4}) {
    LayerDelta layer;
    layer.block = block;
    layer.width = kWidth;
    for (int64_t s = 0; s < slots; ++s)
      if (rng.uniform() < 0.3) layer.indices.push_back(s);
    if (layer.indices.empty()) layer.indices.push_back(0);
    for (size_t i = 0; i < layer.indices.size() * kWidth; ++i)
      layer.delta.push_back(rng.below(9) == 0 ? -0.0F : static_cast<float>(rng.normal()));
    u.layers.push_back(std::move(layer));
  }
  if (reach != Reach::kEverywhere) {
    u.anchors.width = 2;
    u.anchors.text = reach == Reach::kText;
    for (int i = 0; i < 4; ++i) u.anchors.queries.push_back(static_cast<float>(rng.normal()));
  }
  TaughtItem item;
  item.line = static_cast<int64_t>(seed);
  item.prompts = {"Where is it?"};
  item.answers = {"There"};
  u.taught.items.push_back(item);
  u.metadata["seed"] = std::to_string(seed);
  return u;
}

class StateFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (uint64_t i = 0; i < 7; ++i) {
      updates_.push_back(make_state_update(i, kReaches[i % 3]));
      ids_.push_back(accrete::format("{:016x}", i));
    }
  }
  std::vector<NamedUpdate> named(size_t n) const {
    std::vector<NamedUpdate> out;
    for (size_t i = 0; i < n; ++i) out.push_back({ids_[i], &updates_[i]});
    return out;
  }
  std::vector<std::string> ids(size_t n) const { return {ids_.begin(), ids_.begin() + n}; }

  // Bit for bit what fold_updates gives for the first n, gated and not.
  void expect_state(size_t n) {
    const auto state = StateFile::open(folder_.path(), ids(n));
    ASSERT_TRUE(state) << n;
    ASSERT_EQ(state->records().size(), n);
    ASSERT_EQ(state->width(), kWidth);
    size_t tables = 0;
    for (const Reach reach : kReaches) {
      std::vector<Update> group;
      for (size_t i = 0; i < n; ++i)
        if (reach_of(updates_[i]) == reach) group.push_back(updates_[i]);
      const Update sum = fold_updates(group);
      for (const LayerDelta& layer : sum.layers) {
        ++tables;
        const auto it =
            std::find_if(state->tables().begin(), state->tables().end(),
                         [&](const auto& t) { return t.block == layer.block && t.reach == reach; });
        ASSERT_NE(it, state->tables().end());
        ASSERT_EQ(it->keys, layer.indices);
        for (size_t i = 0; i < layer.indices.size(); ++i)
          ASSERT_EQ(0, std::memcmp(state->table().data() + it->rows[i] * kWidth,
                                   layer.delta.data() + i * kWidth, kWidth * sizeof(float)))
              << "slot " << layer.indices[i];
      }
    }
    EXPECT_EQ(state->tables().size(), tables);
    for (size_t i = 0; i < n; ++i) {
      const Update& outline = state->records()[i].outline;
      EXPECT_EQ(outline.taught, updates_[i].taught);
      EXPECT_EQ(outline.anchors.queries, updates_[i].anchors.queries);
      ASSERT_EQ(outline.layers.size(), updates_[i].layers.size());
      for (size_t l = 0; l < outline.layers.size(); ++l) {
        EXPECT_EQ(outline.layers[l].indices, updates_[i].layers[l].indices);
        EXPECT_EQ(outline.layers[l].width, kWidth);
        EXPECT_TRUE(outline.layers[l].delta.empty());
      }
    }
  }
  std::filesystem::path file() const { return folder_.path() / kStateFile; }

  testing::TemporaryFolder folder_;
  std::vector<Update> updates_;
  std::vector<std::string> ids_;
};

TEST_F(StateFileTest, SaysTheSumBitForBitHoweverItWasWritten) {
  write_state(folder_.path(), named(5));
  expect_state(5);
  std::filesystem::remove(file());
  for (size_t i = 0; i < 5; ++i)
    ASSERT_TRUE(append_state(folder_.path(), ids(i), {ids_[i], &updates_[i]}));
  expect_state(5);
}

TEST_F(StateFileTest, EveryBeginningIsAState) {
  write_state(folder_.path(), named(6));
  for (size_t n = 1; n <= 6; ++n) expect_state(n);
}

TEST_F(StateFileTest, ACommitAfterAnUndoDoesNotDisturbWhoHasTheFileMapped) {
  write_state(folder_.path(), named(5));
  const auto before = StateFile::open(folder_.path(), ids(5));
  ASSERT_TRUE(before);
  const auto old_size = std::filesystem::file_size(file());
  const std::vector<float> table(before->table().begin(), before->table().end());
  // 4 was undone; 5 comes in its place, behind it.
  std::swap(ids_[4], ids_[5]);
  std::swap(updates_[4], updates_[5]);
  ASSERT_TRUE(append_state(folder_.path(), ids(4), {ids_[4], &updates_[4]}));
  EXPECT_GT(std::filesystem::file_size(file()), old_size);
  expect_state(5);
  EXPECT_EQ(0, std::memcmp(table.data(), before->table().data(), table.size() * sizeof(float)));
  // 5 is undone, and 4 taught again: the file has said it all the time.
  const auto size = std::filesystem::file_size(file());
  std::swap(ids_[4], ids_[5]);
  std::swap(updates_[4], updates_[5]);
  ASSERT_TRUE(append_state(folder_.path(), ids(4), {ids_[4], &updates_[4]}));
  EXPECT_EQ(std::filesystem::file_size(file()), size);
  expect_state(5);
}

TEST_F(StateFileTest, ARevertInTheMiddleLeavesWhatDoesNotDependOnIt) {
  const size_t gated = 1, summed = 3;
  ASSERT_NE(reach_of(updates_[gated]), Reach::kEverywhere);
  ASSERT_EQ(reach_of(updates_[summed]), Reach::kEverywhere);
  const auto revert = [&](size_t which) {
    ids_.erase(ids_.begin() + static_cast<ptrdiff_t>(which));
    updates_.erase(updates_.begin() + static_cast<ptrdiff_t>(which));
  };
  write_state(folder_.path(), named(7));
  revert(gated);
  expect_state(6);
  revert(summed - 1);
  for (size_t n = 1; n < 5; ++n) expect_state(n);
  // The last one is a sum with the reverted one.
  EXPECT_FALSE(StateFile::open(folder_.path(), ids(5)));
  ASSERT_TRUE(append_state(folder_.path(), ids(4), {ids_[4], &updates_[4]}));
  expect_state(5);
}

TEST_F(StateFileTest, AFileThatIsMostlyOfTheUndoneIsWrittenAnew) {
  write_state(folder_.path(), named(4));
  const auto mapped = StateFile::open(folder_.path(), ids(4));
  const std::vector<float> table(mapped->table().begin(), mapped->table().end());
  const auto of_four = std::filesystem::file_size(file());
  uintmax_t size = of_four;
  bool smaller = false;
  for (uint64_t i = 0; i < 12; ++i) {
    ids_[4] = accrete::format("{:016x}", 100 + i);
    updates_[4] = make_state_update(100 + i, kReaches[i % 3]);
    ASSERT_TRUE(append_state(folder_.path(), ids(4), {ids_[4], &updates_[4]}));
    expect_state(5);
    const auto now = std::filesystem::file_size(file());
    smaller = smaller || now < size;
    EXPECT_LT(now, 4 * of_four);
    size = now;
  }
  EXPECT_TRUE(smaller);
  EXPECT_EQ(0, std::memcmp(table.data(), mapped->table().data(), table.size() * sizeof(float)));
}

TEST_F(StateFileTest, AnotherStateIsNotItsBusiness) {
  write_state(folder_.path(), named(3));
  EXPECT_FALSE(StateFile::open(folder_.path(), ids(4)));
  EXPECT_FALSE(
      append_state(folder_.path(), std::vector<std::string>{ids_[5]}, {ids_[4], &updates_[4]}));
  expect_state(3);
  std::filesystem::remove(file());
  EXPECT_FALSE(StateFile::open(folder_.path(), ids(1)));
}

TEST_F(StateFileTest, ATornFileIsAStateOfFewerUpdatesOrOfNone) {
  write_state(folder_.path(), named(4));
  const auto whole = std::filesystem::file_size(file());
  std::vector<int64_t> ends;
  const auto state = StateFile::open(folder_.path(), ids(4));
  ASSERT_TRUE(state);
  for (const auto& r : state->records()) ends.push_back(r.end * 4 * kWidth);
  ASSERT_EQ(static_cast<int64_t>(whole), ends.back());
  for (uintmax_t size = whole; size-- > 0;) {
    std::filesystem::resize_file(file(), size);
    for (size_t n = 1; n <= 4; ++n)
      ASSERT_EQ(StateFile::open(folder_.path(), ids(n)).has_value(),
                ends[n - 1] <= static_cast<int64_t>(size))
          << size << " bytes, " << n;
  }
}

TEST_F(StateFileTest, ADamagedOutlineIsNoticed) {
  write_state(folder_.path(), named(2));
  const int64_t begin = StateFile::open(folder_.path(), ids(1))->records()[0].end * 4 * kWidth;
  for (int64_t at = begin; at < begin + 300; ++at) {
    std::fstream out(file(), std::ios::in | std::ios::out | std::ios::binary);
    out.seekg(at);
    const int old = out.get();
    out.seekp(at);
    out.put(static_cast<char>(old ^ 0x21));
    out.close();
    ASSERT_FALSE(StateFile::open(folder_.path(), ids(2))) << at;
    ASSERT_TRUE(StateFile::open(folder_.path(), ids(1))) << at;
    std::fstream back(file(), std::ios::in | std::ios::out | std::ios::binary);
    back.seekp(at);
    back.put(static_cast<char>(old));
  }
  expect_state(2);
}

TEST_F(StateFileTest, WhatACrashLeftBehindTheLastRecordIsWrittenOver) {
  write_state(folder_.path(), named(3));
  {
    std::ofstream out(file(), std::ios::app | std::ios::binary);
    out << std::string(5000, 'x');
  }
  expect_state(3);
  ASSERT_TRUE(append_state(folder_.path(), ids(3), {ids_[3], &updates_[3]}));
  expect_state(4);
}

TEST_F(StateFileTest, TheLedgerKeepsIt) {
  std::filesystem::create_directories(folder_.path() / "m");
  Ledger ledger = Ledger::create(folder_.path() / "m");
  std::vector<std::string> active;
  const auto check = [&] {
    active.clear();
    for (const auto& r : ledger.active()) active.push_back(r.id);
    return StateFile::open(ledger.folder(), active).has_value();
  };
  for (size_t i = 0; i < 4; ++i) {
    ledger.commit(updates_[i], {});
    EXPECT_TRUE(check()) << i;
  }
  ledger.undo(2);
  EXPECT_TRUE(check());
  ledger.redo(1);
  EXPECT_TRUE(check());
  ledger.commit(updates_[4], {});
  EXPECT_TRUE(check());
  EXPECT_EQ(active.size(), 4U);
  ledger.set_active(active[1], false);  // gated: nothing depends on it
  EXPECT_TRUE(check());
  ledger.commit(updates_[6], {});  // a sum with 0
  EXPECT_TRUE(check());
  ledger.set_active(active[0], false);  // the next teach writes it anew
  EXPECT_FALSE(check());
  ledger.commit(updates_[5], {});
  EXPECT_FALSE(check());
}

}  // namespace
}  // namespace accrete
