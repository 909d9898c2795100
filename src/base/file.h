// Files: whole reads, read-only maps and writes that a crash cannot tear.
//
// Non-goals: directories as archives, asynchronous IO.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace accrete {

// The whole file. Throws kNotFound, kIo.
std::string read_file(const std::filesystem::path& path);

// A read-only memory map, closed by the destructor. An empty file maps to an empty span.
class MappedFile {
 public:
  // Throws kNotFound, kIo.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// A file that appears under its name only when commit() has written, synced and renamed it; until
// then, and if it is destroyed uncommitted, the old file (if any) stays as it was.
class AtomicFile {
 public:
  // Opens a temporary file beside `path`. Throws kIo.
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends. Throws kIo (a full disk, for example).
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // fsync, rename, fsync of the folder. Throws kIo; then nothing has changed.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
};

// AtomicFile in one call.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

}  // namespace accrete
