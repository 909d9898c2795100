// A folder that appears under its name only when it is complete.
//
// Non-goals: replacing a folder that has content.
#pragma once

#include <filesystem>

namespace accrete {

class StagedFolder {
 public:
  // Makes a temporary folder beside `to` (and the folders above it). `to` must not exist or be an
  // empty folder: else kInvalidArgument. Throws kIo.
  explicit StagedFolder(const std::filesystem::path& to);
  // Removes what was not committed.
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  // Where to put the files; do not make folders in it.
  const std::filesystem::path& path() const { return staging_; }
  // Syncs the files and gives the folder its name. Throws kIo; then nothing is there.
  void commit();

 private:
  std::filesystem::path to_;
  std::filesystem::path staging_;
};

}  // namespace accrete
