// Files: whole reads, read-only maps and writes that a crash cannot tear.
//
// Non-goals: directories as archives, asynchronous IO.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace accrete {

// The whole file. Throws kNotFound, kIo, kInvalidArgument (a folder, a pipe, a device).
std::string read_file(const std::filesystem::path& path);

// A read-only memory map, closed by the destructor. An empty file maps to an empty span. The map
// follows the file: do not truncate a file that someone has mapped, replace it (AtomicFile does).
class MappedFile {
 public:
  // Throws as read_file does.
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
// then, and if it is destroyed uncommitted, the old file (if any) stays as it was. A crash may
// leave the temporary file (`<name>.tmp-XXXXXX`, see is_temporary_name) behind, nothing else.
//
// A new file's permissions follow the umask; a replaced file keeps those it had.
class AtomicFile {
 public:
  // Opens a temporary file beside `path`. Throws kNotFound (no such folder), kIo.
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends. Throws kIo (a full disk, for example).
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // fsync, rename, fsync of the folder. Throws kIo; then nothing has changed (except where the last
  // step fails: the new file is in place, but a power cut may still undo that).
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
};

// AtomicFile in one call.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

// Makes an empty file `<path>.tmp-XXXXXX` with a name that nobody else has. Throws kNotFound, kIo.
std::filesystem::path create_temporary_beside(const std::filesystem::path& path);
// Whether a file's name ends as the temporary files above do: a crash's leftover if nobody writes.
bool is_temporary_name(std::string_view name);

// Renames within a file system and syncs the target's folder, so that the new name survives a power
// cut. The content must have been synced before. Throws kNotFound, kIo.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

// Makes the names in a folder survive a power cut, where the file system can. Throws kIo.
void sync_folder(const std::filesystem::path& folder);

}  // namespace accrete
