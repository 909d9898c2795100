// An update file that was made elsewhere: which one it is, and whether it was made for this model.
//
// Non-goals: reading it (update_file.h), what is taken over of it (learn/fact_merge.h,
// vector/vector_merge.h).
#pragma once

#include <filesystem>
#include <string>

#include "io/safetensors.h"

namespace accrete {

// The id that a ledger gives an update of these bytes. Throws as MappedFile.
std::string update_id_of(const std::filesystem::path& file);

// What somebody can do who has a file that says nothing of it, and one that was made for another.
struct MadeForHints {
  std::string absent, other;
};
// Throws kConflict unless the file's `key` is `ours`; `what` that is, in a word.
void require_made_for(const std::filesystem::path& file, const Metadata& metadata, const char* key,
                      const std::string& ours, const char* what, const MadeForHints& hints);

}  // namespace accrete
