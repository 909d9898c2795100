// The ledger's database: its tables, how it is made, and what is checked when it is opened.
//
// Non-goals: what the rows mean (ledger.cc).
#pragma once

#include <filesystem>

#include "ledger/sqlite.h"

namespace accrete {

// "accr", in the database header: tells our databases from others.
inline constexpr int kLedgerApplicationId = 0x61636372;
// In the header's user_version. Raise it with every change of the tables, and migrate.
inline constexpr int kLedgerSchemaVersion = 1;

// Makes an empty ledger at `path`, which must not exist: complete or not at all, whenever it is
// interrupted. Throws kIo.
void create_ledger_database(const std::filesystem::path& path);

// Opens and checks it: header, version, tables, and SQLite's own consistency check. A reader needs
// no right to write; in a folder that it cannot write to it gets a copy of the state at this
// moment. Throws kFormat (damaged, foreign, newer), kIo, kConflict.
Database open_ledger_database(const std::filesystem::path& path, bool writable);

}  // namespace accrete
