// The state file: the rows of all active updates as a model reads them, kept beside the ledger so
// that opening a model and teaching it cost the same after a thousand updates as after one.
//
// `<model>/accrete/state.bin` is derived: it says nothing that the ledger and the update files do
// not say, it may be removed at any time, and whoever finds it missing, torn or of another state
// takes the update files instead (`accrete digest` always does). It holds one record an update: the
// update's outline (all but the values of its rows) and its rows. Of a gated update, which stays a
// part by itself, these are its own, whatever else is active. Of others they are, for every slot
// that it writes, the sum of all active updates so far: a slot that is written again gets a new
// row, and the record says what it was summed with. Records are found by id wherever they lie. So
// the file only grows, readers that have it mapped are never disturbed, and an undo, a redo or a
// revert needs no work; when more than half of it would be of updates that are not active, the next
// commit writes it anew. Rows are those of fold_updates() bit for bit.
//
// Layout (docs/formats.md): units of 4 d bytes, so that all of it is one table of rows [units, d].
//
// Non-goals: locks (the ledger's writer lock is held by whoever writes), other states than those
// in ledger order.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "ledger/update_file.h"

namespace accrete {

inline constexpr const char* kStateFile = "state.bin";

class StateFile {
 public:
  // The rows of one memory layer, of the updates of one reach.
  struct Table {
    int block = 0;
    Reach reach = Reach::kEverywhere;
    std::vector<int64_t> keys;  // slots, or of gated updates row keys; strictly ascending
    std::vector<int32_t> rows;  // of table(), one a key
  };
  struct Record {
    std::string id;
    Update outline;   // layers without delta
    int64_t end = 0;  // units from the beginning of the file
  };

  enum class Detail {
    kAll,
    kRows,  // what reading the rows takes: outlines without indices and what was taught
  };
  // What the file says of the state that `active` (ids in ledger order) makes. nullopt: there is no
  // such file, or it does not say. Never throws for what is in the file.
  static std::optional<StateFile> open(const std::filesystem::path& accrete_folder,
                                       std::span<const std::string> active,
                                       Detail detail = Detail::kAll);

  const std::vector<Record>& records() const { return records_; }
  std::vector<Record> take_records() { return std::move(records_); }
  const std::vector<Table>& tables() const { return tables_; }
  std::vector<Table> take_tables() { return std::move(tables_); }
  int64_t width() const { return width_; }
  // The whole file as rows [units, width].
  std::span<const float> table() const;
  // Keeps what table() points at.
  std::shared_ptr<const MappedFile> map() const { return map_; }

 private:
  std::shared_ptr<const MappedFile> map_;
  int64_t width_ = 0;
  std::vector<Record> records_;
  std::vector<Table> tables_;
};

struct NamedUpdate {
  std::string id;
  const Update* update = nullptr;
};

// Writes the file anew for these updates, in ledger order. Throws kIo, kInvalidArgument.
void write_state(const std::filesystem::path& accrete_folder, std::span<const NamedUpdate> active);

// One more update behind those that are active. False, and nothing has changed, when the file does
// not say what the state before it is. Throws kIo; the file then says what it said before.
bool append_state(const std::filesystem::path& accrete_folder,
                  std::span<const std::string> active_before, const NamedUpdate& added);

}  // namespace accrete
