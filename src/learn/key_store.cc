#include "learn/key_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "base/error.h"
#include "base/format.h"

namespace accrete {

KeyStore::KeyStore(int64_t limit, std::filesystem::path folder)
    : limit_(limit), folder_(std::move(folder)) {}

KeyStore::~KeyStore() {
  if (file_ >= 0) ::close(file_);
}

bool KeyStore::spill(std::span<const float> values, int64_t& offset) {
  if (no_file_) return false;
  if (file_ < 0) {
    std::error_code ec;
    const auto folder = folder_.empty() ? std::filesystem::temp_directory_path(ec) : folder_;
    std::string name = (folder / "accrete-XXXXXX").string();
    if (!ec) file_ = ::mkostemp(name.data(), O_CLOEXEC);
    if (file_ < 0) {
      no_file_ = true;
      return false;
    }
    ::unlink(name.c_str());
  }
  const auto bytes = std::as_bytes(values);
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t n = ::pwrite(file_, bytes.data() + at, bytes.size() - at,
                               static_cast<off_t>(on_disk_ + static_cast<int64_t>(at)));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {  // a full disk: what comes now stays in memory
      no_file_ = true;
      return false;
    }
    at += static_cast<size_t>(n);
  }
  offset = on_disk_;
  on_disk_ += static_cast<int64_t>(bytes.size());
  return true;
}

int64_t KeyStore::put(std::span<const float> values) {
  Entry entry;
  entry.size = static_cast<int64_t>(values.size());
  const auto bytes = static_cast<int64_t>(values.size_bytes());
  if (in_memory_ + bytes <= limit_ || !spill(values, entry.offset)) {
    entry.values.assign(values.begin(), values.end());
    in_memory_ += bytes;
  }
  entries_.push_back(std::move(entry));
  return static_cast<int64_t>(entries_.size()) - 1;
}

const float* KeyStore::get(int64_t number, std::vector<float>& room) const {
  const Entry& entry = entries_[static_cast<size_t>(number)];
  if (static_cast<int64_t>(entry.values.size()) == entry.size) return entry.values.data();
  room.resize(static_cast<size_t>(entry.size));
  const auto bytes = std::as_writable_bytes(std::span(room));
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t n = ::pread(file_, bytes.data() + at, bytes.size() - at,
                              static_cast<off_t>(entry.offset + static_cast<int64_t>(at)));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      throw Error(ErrorCode::kIo,
                  accrete::format("cannot read back a temporary file: {}",
                                  n < 0 ? std::strerror(errno) : "it became shorter"),
                  "is the disk full? TMPDIR names another place for temporary files");
    at += static_cast<size_t>(n);
  }
  return room.data();
}

}  // namespace accrete
