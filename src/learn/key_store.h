// Keys and values of token prefixes, kept between steps: in memory up to a limit, beyond it in a
// temporary file without a name, which disappears with the process.
//
// What is read back is what was put in, byte for byte, wherever it lies. When no file can be
// written (no space, no temporary folder), everything stays in memory.
//
// Non-goals: computing them (suffix_task.h), sharing between processes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace accrete {

class KeyStore {
 public:
  // `limit` bytes in memory; `folder` of the file, empty: the system's for temporary files.
  explicit KeyStore(int64_t limit, std::filesystem::path folder = {});
  ~KeyStore();
  KeyStore(const KeyStore&) = delete;
  KeyStore& operator=(const KeyStore&) = delete;

  // Returns the entry's number.
  int64_t put(std::span<const float> values);
  // The entry's values: in memory, or read into `room`, which must outlive the use. Throws kIo when
  // the file cannot be read back.
  const float* get(int64_t entry, std::vector<float>& room) const;

  int64_t bytes_in_memory() const { return in_memory_; }
  int64_t bytes_on_disk() const { return on_disk_; }

 private:
  bool spill(std::span<const float> values, int64_t& offset);

  struct Entry {
    std::vector<float> values;  // empty when on disk
    int64_t offset = 0;
    int64_t size = 0;
  };
  int64_t limit_;
  std::filesystem::path folder_;
  std::vector<Entry> entries_;
  int64_t in_memory_ = 0, on_disk_ = 0;
  int file_ = -1;
  bool no_file_ = false;
};

}  // namespace accrete
