// The lock that makes one process at a time the writer of a model.
//
// flock(2) on a file that also holds the writer's process id, for the message. The kernel drops the
// lock when the process dies, however it dies, so there is no stale lock to remove. The lock
// belongs to the open file: two objects in one process exclude each other too, and a forked child
// shares its parent's.
//
// Non-goals: waiting, readers (they need no lock), machines that share a folder without flock.
#pragma once

#include <filesystem>

namespace accrete {

class WriterLock {
 public:
  // Creates the file if there is none. Throws kConflict (someone else has it; the message names the
  // process id), kIo.
  explicit WriterLock(const std::filesystem::path& path);
  ~WriterLock();
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

  // Whether the constructor made the file.
  bool created() const { return created_; }

 private:
  int fd_ = -1;
  bool created_ = false;
};

}  // namespace accrete
