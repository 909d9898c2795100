// The ledger's records as rows: binding, reading, and what is refused in either direction.
//
// A row that was read is checked as strictly as one to be written: a ledger that somebody edited by
// hand, or a failing disk, must not turn into a wrong model. Every row carries a checksum over its
// other columns for the same reason: one flipped bit could deactivate an update unnoticed.
//
// Non-goals: queries (ledger.cc), signatures.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "ledger/ledger.h"
#include "ledger/sqlite.h"

namespace accrete {

inline constexpr std::string_view kUpdateColumns =
    "seq, id, time, active, undone, items, source, source_digest, parent, seed, method, "
    "tool_version, row_count, measurements, checksum, tag";
inline constexpr std::string_view kProbeColumns =
    "name, file, digest, floor, base, items, details, checksum";

// A row of the table `updates`.
struct UpdateRow {
  UpdateRecord record;
  int64_t undone = 0;  // place in the redo order; 0: not in it
};

// Throw kInvalidArgument with the field's name: what a caller may not store. Id, order and time of
// an update are not looked at (the ledger fills them in).
void check_new_record(const UpdateRecord& record);
void check_new_record(const ProbeRecord& record);
// Empty, or [A-Za-z0-9_.-]+ of at most 128 characters that could not be an id.
void check_tag(const std::string& tag);

// A statement's parameters: the columns above, in their order, numbered from 1.
void bind_update_row(Statement& statement, const UpdateRow& row);
void bind_probe_row(Statement& statement, const ProbeRecord& record, const std::string& digest);

// The columns above, in their order. Throw kFormat, with the database's name.
UpdateRow read_update_row(const Statement& statement, const std::filesystem::path& database);
ProbeRecord read_probe_row(const Statement& statement, const std::filesystem::path& database,
                           std::string* digest);

// `probes/<name>.jsonl`.
std::string probe_file(const std::string& name);
// Throws kFormat unless the file is one that the ledger itself would write: a doctored row must not
// make us remove something else.
void check_own_file(const std::string& file, const std::filesystem::path& database);
// The text with U+FFFD in place of what is not UTF-8: a path may hold any bytes, JSON may not.
std::string well_formed(const std::string& text);

}  // namespace accrete
