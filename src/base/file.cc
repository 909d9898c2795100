#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>  // rename
#include <cstring>
#include <random>
#include <utility>

#include "base/error.h"
#include "base/format.h"

namespace accrete {
namespace {

[[noreturn]] void throw_errno(const char* what, const std::filesystem::path& path) {
  const int e = errno;
  const bool missing = e == ENOENT || e == ENOTDIR;
  std::string hint;
  if (missing) hint = "check the path";
  if (e == EACCES || e == EPERM) hint = "check the permissions of the file and of its folder";
  if (e == EROFS) hint = "the file system is mounted read-only";
  if (e == ENOSPC || e == EDQUOT) hint = "free some disk space and run the command again";
  if (e == EFBIG) hint = "the file would exceed the allowed size (see `ulimit -f`)";
  throw Error(missing ? ErrorCode::kNotFound : ErrorCode::kIo,
              accrete::format("cannot {} {}: {}", what, path.string(), std::strerror(e)), hint);
}

class FileDescriptor {
 public:
  FileDescriptor(const std::filesystem::path& path, int flags)
      // O_NONBLOCK: a named pipe without a writer must give an error below, not hang here.
      : fd_(::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0) throw_errno("open", path);
    struct stat st{};
    if (::fstat(fd_, &st) != 0 || !S_ISREG(st.st_mode)) {
      const bool folder = S_ISDIR(st.st_mode);
      ::close(fd_);
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("{} is {}, not a file", path.string(),
                                  folder ? "a folder" : "something special"),
                  "name a regular file");
    }
    size_ = static_cast<size_t>(st.st_size);
  }
  ~FileDescriptor() { ::close(fd_); }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }
  size_t size() const { return size_; }

 private:
  int fd_;
  size_t size_ = 0;
};

constexpr std::string_view kTemporaryMark = ".tmp-";
constexpr size_t kTemporaryDigits = 6;
constexpr std::string_view kTemporaryAlphabet = "0123456789abcdefghijklmnopqrstuvwxyz";

// mkostemp would make the file private to its owner; an ordinary open follows the umask.
int open_temporary(const std::filesystem::path& path, std::filesystem::path& name) {
  std::random_device random;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    std::string text = path.string() + std::string(kTemporaryMark);
    for (size_t i = 0; i < kTemporaryDigits; ++i)
      text += kTemporaryAlphabet[random() % kTemporaryAlphabet.size()];
    const int fd = ::open(text.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) {
      name = text;
      return fd;
    }
    if (errno != EEXIST) break;
  }
  throw_errno("create a temporary file beside", path);
}

}  // namespace

void sync_folder(const std::filesystem::path& folder) {
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // some file systems do not let folders be opened; the rename has happened
  const int result = ::fsync(fd);
  const int e = errno;
  ::close(fd);
  // Others (EINVAL, ...) mean that this file system cannot sync folders at all.
  if (result != 0 && (e == EIO || e == ENOSPC || e == EDQUOT)) {
    errno = e;
    throw_errno("sync the folder", folder);
  }
}

std::string read_file(const std::filesystem::path& path) {
  FileDescriptor fd(path, O_RDONLY);
  // Until the end rather than for size() bytes: files of /proc and /sys say that they are empty.
  std::string content(fd.size() + 1, '\0');
  size_t done = 0;
  for (;;) {
    if (done == content.size()) content.resize(2 * content.size() + 4096);
    const ssize_t n = ::read(fd.get(), content.data() + done, content.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_errno("read", path);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  content.resize(done);
  return content;
}

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  FileDescriptor fd(path, O_RDONLY);
  size_ = fd.size();
  if (size_ == 0) return;
  void* p = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (p == MAP_FAILED) throw_errno("map", path);
  data_ = static_cast<const std::byte*>(p);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  fd_ = open_temporary(path_, temporary_);
  struct stat st{};
  if (::stat(path_.c_str(), &st) == 0 && S_ISREG(st.st_mode)) ::fchmod(fd_, st.st_mode & 07777);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw_errno("write", path_);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) throw_errno("sync", path_);
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0) throw_errno("close", path_);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) throw_errno("replace", path_);
  temporary_.clear();
  sync_folder(path_.parent_path());
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

std::filesystem::path create_temporary_beside(const std::filesystem::path& path) {
  std::filesystem::path name;
  ::close(open_temporary(path, name));
  return name;
}

bool is_temporary_name(std::string_view name) {
  if (name.size() < kTemporaryMark.size() + kTemporaryDigits) return false;
  const std::string_view digits = name.substr(name.size() - kTemporaryDigits);
  name.remove_suffix(kTemporaryDigits);
  return name.ends_with(kTemporaryMark) &&
         digits.find_first_not_of(kTemporaryAlphabet) == std::string_view::npos;
}

void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) throw_errno("replace", to);
  sync_folder(to.parent_path());
}

}  // namespace accrete
