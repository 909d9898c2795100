// What the ledger's tests share: small updates, and a reference model of the ledger in memory.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "../base/testing.h"
#include "base/format.h"
#include "base/rng.h"
#include "ledger/combine.h"
#include "ledger/ledger.h"
#include "ledger/state_file.h"

namespace accrete::testing {

// A small update; the same number gives the same one.
inline Update make_update(uint64_t number, int64_t rows = 3, int64_t width = 4) {
  Rng rng(number, 77);
  Update update;
  for (const int block : {2, 5}) {
    LayerDelta layer;
    layer.block = block;
    layer.width = width;
    int64_t slot = 0;
    for (int64_t i = 0; i < rows; ++i) {
      slot += 1 + static_cast<int64_t>(rng.below(1000));
      layer.indices.push_back(slot);
    }
    for (int64_t i = 0; i < rows * width; ++i) layer.delta.push_back(rng.normal());
    update.layers.push_back(std::move(layer));
  }
  if (number % 3 == 1) update.anchors = {2, {rng.normal(), rng.normal(), 0, 1}, false, {}};
  if (number % 4 == 1) {
    update.taught.items = {{1, {"Who?", "Who is it?"}, {"Ada"}, "it", true, "", false, false, {}},
                           {2, {}, {}, "", false, "Once upon a time", false, false, {}}};
    update.taught.per_token = 2;
    update.taught.slots = {1, 7, 3, -1, 1, static_cast<int32_t>(number)};
    update.taught.weights = {0x3800, 0x3400, 0x3C00, 0, 0x3800, 0x0001};
    update.taught.owner = {0, 0, 1};
  }
  update.metadata = {{"seed", std::to_string(number)}, {"method", "test"}};
  return update;
}

inline UpdateRecord make_record(uint64_t number) {
  UpdateRecord record;
  record.items = static_cast<int64_t>(number % 10);
  record.source = accrete::format("facts-{}.jsonl", number);
  record.source_digest = std::string(64, static_cast<char>('a' + number % 6));
  record.seed = UINT64_MAX - number;
  record.method = "interference, preconditioned";
  record.tool_version = "0.1.0";
  record.measurements = {{"learned", 0.1 * static_cast<double>(number)}, {"kept", {1, 2.5, "x"}}};
  return record;
}

inline bool same(const Update& a, const Update& b) {
  return a.metadata == b.metadata && a.anchors.width == b.anchors.width &&
         a.anchors.queries == b.anchors.queries && a.anchors.parts == b.anchors.parts &&
         a.taught == b.taught &&
         std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(),
                    [](const LayerDelta& x, const LayerDelta& y) {
                      return x.block == y.block && x.width == y.width && x.indices == y.indices &&
                             x.delta == y.delta;
                    });
}

// One operation on a ledger, chosen beforehand so that it can be done twice.
struct Operation {
  enum class Kind { kCommit, kUndo, kRedo, kSetActive, kTag, kAddProbe, kRemoveProbe };
  Kind kind = Kind::kCommit;
  uint64_t number = 0;  // kCommit: which update. kSetActive, kTag: which record
  int64_t count = 0;    // kUndo, kRedo
  bool flag = false;    // kSetActive: the state. kAddProbe: replace
  std::string name;     // kTag, probes
};

// What the ledger should be: the straightforward way, in memory.
struct Reference {
  struct Entry {
    std::string id;
    uint64_t number = 0;
    bool active = true;
    std::string tag;
    bool operator==(const Entry&) const = default;
  };
  std::vector<Entry> entries;
  std::vector<size_t> redo;  // indices into entries, the last undone at the end
  std::map<std::string, std::string> probes;
  bool operator==(const Reference&) const = default;

  // The ids the operation returns, or the error it gives.
  struct Result {
    std::vector<std::string> ids;
    std::optional<ErrorCode> error;
    bool operator==(const Result&) const = default;
  };

  Result apply(const Operation& op);
  void forget_redo(size_t entry) { std::erase(redo, entry); }
};

inline std::string probe_text(const Operation& op) {
  return accrete::format("{{\"prompt\": \"{} {}\"}}\n", op.name, op.number);
}

// The id that an update gets, without a ledger.
inline const std::string& id_of(uint64_t number) {
  static std::map<uint64_t, std::string> known;
  auto& id = known[number];
  if (id.empty()) {
    const TemporaryFolder folder(TemporaryFolder::Place::kMemory);
    id = write_update(folder.path(), make_update(number));
  }
  return id;
}

inline Reference::Result Reference::apply(const Operation& op) {
  switch (op.kind) {
    case Operation::Kind::kCommit: {
      const std::string& id = id_of(op.number);
      const auto present = std::find_if(entries.begin(), entries.end(),
                                        [&](const Entry& entry) { return entry.id == id; });
      if (present != entries.end() && present->active) return {{}, ErrorCode::kConflict};
      if (present != entries.end())
        present->active = true;  // in its old place
      else
        entries.push_back({id, op.number, true, ""});
      redo.clear();
      return {{id}, {}};
    }
    case Operation::Kind::kUndo: {
      std::vector<size_t> active;
      for (size_t i = entries.size(); i > 0; --i)
        if (entries[i - 1].active) active.push_back(i - 1);
      if (op.count < 1 || static_cast<size_t>(op.count) > active.size())
        return {{}, ErrorCode::kInvalidArgument};
      Result result;
      for (int64_t i = 0; i < op.count; ++i) {
        const size_t entry = active[static_cast<size_t>(i)];
        entries[entry].active = false;
        redo.push_back(entry);
        result.ids.push_back(entries[entry].id);
      }
      return result;
    }
    case Operation::Kind::kRedo: {
      if (op.count < 1 || static_cast<size_t>(op.count) > redo.size())
        return {{}, ErrorCode::kInvalidArgument};
      std::vector<size_t> last;
      for (int64_t i = 0; i < op.count; ++i) {
        last.push_back(redo.back());
        redo.pop_back();
      }
      std::sort(last.begin(), last.end());
      Result result;
      for (const size_t entry : last) {
        entries[entry].active = true;
        result.ids.push_back(entries[entry].id);
      }
      return result;
    }
    case Operation::Kind::kSetActive: {
      if (op.number >= entries.size()) return {{}, ErrorCode::kNotFound};
      Entry& entry = entries[op.number];
      if (entry.active != op.flag) {
        entry.active = op.flag;
        if (op.flag)
          forget_redo(op.number);
        else
          redo.clear();
      }
      return {};
    }
    case Operation::Kind::kTag: {
      if (op.number >= entries.size()) return {{}, ErrorCode::kNotFound};
      for (size_t i = 0; i < entries.size(); ++i)
        if (i != op.number && !op.name.empty() && entries[i].tag == op.name)
          return {{}, ErrorCode::kConflict};
      entries[op.number].tag = op.name;
      return {};
    }
    case Operation::Kind::kAddProbe:
      if (!op.flag && probes.contains(op.name)) return {{}, ErrorCode::kConflict};
      probes[op.name] = probe_text(op);
      return {};
    case Operation::Kind::kRemoveProbe:
      if (probes.erase(op.name) == 0) return {{}, ErrorCode::kNotFound};
      return {};
  }
  return {};
}

// The same operation on a ledger; `reference` is its state before.
inline Reference::Result apply(Ledger& ledger, const Reference& reference, const Operation& op) {
  const auto id = [&] {
    return op.number < reference.entries.size() ? reference.entries[op.number].id
                                                : std::string("ffffffffffffffff");
  };
  try {
    switch (op.kind) {
      case Operation::Kind::kCommit:
        return {{ledger.commit(make_update(op.number), make_record(op.number)).id}, {}};
      case Operation::Kind::kUndo:
        return {ledger.undo(op.count), {}};
      case Operation::Kind::kRedo:
        return {ledger.redo(op.count), {}};
      case Operation::Kind::kSetActive:
        ledger.set_active(id(), op.flag);
        return {};
      case Operation::Kind::kTag:
        ledger.tag(id(), op.name);
        return {};
      case Operation::Kind::kAddProbe: {
        ProbeRecord probe;
        probe.name = op.name;
        probe.base = 0.5;
        probe.items = 1;
        ledger.add_probe(probe, probe_text(op), op.flag);
        return {};
      }
      case Operation::Kind::kRemoveProbe:
        ledger.remove_probe(op.name);
        return {};
    }
  } catch (const Error& error) {
    return {{}, error.code()};
  }
  return {};
}

inline Operation random_operation(Rng& rng, const Reference& reference, uint64_t& next_number) {
  using Kind = Operation::Kind;
  Operation op;
  const auto some_entry = [&] { return rng.below(reference.entries.size() + 1); };
  const uint64_t die = rng.below(100);
  if (die < 35) {
    op.kind = Kind::kCommit;
    // Now and then one that is there already.
    op.number = rng.below(8) == 0 && next_number > 0 ? rng.below(next_number) : next_number++;
  } else if (die < 50) {
    op.kind = Kind::kUndo;
    op.count = static_cast<int64_t>(rng.below(4));
  } else if (die < 65) {
    op.kind = Kind::kRedo;
    op.count = static_cast<int64_t>(rng.below(4));
  } else if (die < 80) {
    op.kind = Kind::kSetActive;
    op.number = some_entry();
    op.flag = rng.below(2) == 0;
  } else if (die < 87) {
    op.kind = Kind::kTag;
    op.number = some_entry();
    op.name = rng.below(4) == 0 ? "" : accrete::format("tag-{}", rng.below(5));
  } else if (die < 95) {
    op.kind = Kind::kAddProbe;
    op.number = rng.next_u32();
    op.name = accrete::format("probe-{}", rng.below(4));
    op.flag = rng.below(2) == 0;
  } else {
    op.kind = Kind::kRemoveProbe;
    op.name = accrete::format("probe-{}", rng.below(4));
  }
  return op;
}

// What differs between a ledger and what it should be; empty if nothing does. The redo order shows
// only through redo(), so it is not compared here.
inline std::string difference(const Ledger& ledger, const Reference& reference) {
  const auto updates = ledger.updates();
  if (updates.size() != reference.entries.size())
    return accrete::format("{} updates, expected {}", updates.size(), reference.entries.size());
  std::vector<std::string> active;
  for (size_t i = 0; i < updates.size(); ++i) {
    const UpdateRecord& got = updates[i];
    const Reference::Entry& want = reference.entries[i];
    if (got.id != want.id || got.active != want.active || got.tag != want.tag)
      return accrete::format("update {}: {} {} '{}', expected {} {} '{}'", i, got.id, got.active,
                             got.tag, want.id, want.active, want.tag);
    const UpdateRecord made = make_record(want.number);
    if (got.order != static_cast<int64_t>(i + 1) || got.items != made.items ||
        got.source != made.source || got.source_digest != made.source_digest ||
        got.seed != made.seed || got.method != made.method || got.rows != 6 ||
        got.tool_version != made.tool_version || got.measurements != made.measurements)
      return accrete::format("update {}: its fields differ", i);
    if (want.active) active.push_back(want.id);
  }
  std::vector<std::string> got_active;
  for (const UpdateRecord& record : ledger.active()) got_active.push_back(record.id);
  if (got_active != active) return "active() differs";
  std::map<std::string, std::string> probes;
  for (const ProbeRecord& probe : ledger.probes())
    probes[probe.name] = ledger.probe_items(probe.name);
  if (probes != reference.probes) return "the probes differ";
  return {};
}

// The same for the folder: no file is missing, damaged or left over. For a ledger that was opened
// for writing after whatever happened.
// Empty when the state file says nothing of the ledger's state, or what the update files say.
inline std::string state_file_difference(const Ledger& ledger) {
  std::vector<std::string> ids;
  std::vector<Update> updates;
  for (const UpdateRecord& record : ledger.active()) {
    ids.push_back(record.id);
    updates.push_back(ledger.load(record.id));
  }
  const auto state = StateFile::open(ledger.folder(), ids);
  if (!state) return {};
  for (const Reach reach : kReaches) {
    std::vector<Update> group;
    for (const Update& u : updates)
      if (reach_of(u) == reach) group.push_back(u);
    for (const LayerDelta& layer : fold_updates(group).layers) {
      const auto table =
          std::find_if(state->tables().begin(), state->tables().end(),
                       [&](const auto& t) { return t.block == layer.block && t.reach == reach; });
      if (table == state->tables().end() || table->keys != layer.indices)
        return "the state file has other slots";
      const auto d = static_cast<size_t>(layer.width);
      for (size_t i = 0; i < layer.indices.size(); ++i)
        if (std::memcmp(state->table().data() + static_cast<size_t>(table->rows[i]) * d,
                        layer.delta.data() + i * d, d * sizeof(float)) != 0)
          return "the state file has other values";
    }
  }
  return {};
}

inline std::string folder_difference(const Ledger& ledger, const Reference& reference) {
  std::set<std::string> expected = {"ledger.db", "lock", "updates", "probes"};
  for (const Reference::Entry& entry : reference.entries) {
    expected.insert("updates/" + update_file_name(entry.id));
    if (!same(ledger.load(entry.id), make_update(entry.number)))
      return entry.id + " has another content";
  }
  for (const auto& [name, items] : reference.probes) expected.insert("probes/" + name + ".jsonl");
  auto names = names_under(ledger.folder());
  names.erase("ledger.db-wal");
  names.erase("ledger.db-shm");
  if (names.erase(kStateFile) > 0)
    if (auto what = state_file_difference(ledger); !what.empty()) return what;
  if (names == expected) return {};
  std::string text = "files:";
  for (const std::string& name : names)
    if (!expected.contains(name)) text += " +" + name;
  for (const std::string& name : expected)
    if (!names.contains(name)) text += " -" + name;
  return text;
}

}  // namespace accrete::testing
