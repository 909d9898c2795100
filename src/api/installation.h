// Where accrete is installed, and which version it is.
//
// Non-goals: settings of the user's.
#pragma once

#include <filesystem>

namespace accrete {

// The data folder that comes with accrete (the background corpus, the benchmark's sets):
// $ACCRETE_DATA; else the first that is there of the one beside the running program, the source
// tree's, and the one under the prefix that was configured. Throws kNotFound with where it looked.
std::filesystem::path data_folder();

}  // namespace accrete
