// Where the reader is (model/reader.h), when nobody says so or somebody does.
//
// Non-goals: fetching it (scripts/fetch_reader.sh does).
#pragma once

#include <filesystem>
#include <string>

namespace accrete {

// The reader's folder: `given` (what --reader says); else $ACCRETE_READER; else the first that is
// there of models/all-MiniLM-L6-v2 beside data_folder(), which is the source tree's, and reader in
// data_folder(), which is the installation's. Throws kNotFound with where it looked.
std::filesystem::path find_reader(const std::string& given);

}  // namespace accrete
