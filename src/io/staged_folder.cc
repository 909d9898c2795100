#include "io/staged_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(std::string_view what, const fs::path& path, const std::string& why) {
  throw Error(ErrorCode::kIo, accrete::format("cannot {} {}: {}", what, path.string(), why),
              "check the permissions and the space left");
}

void sync_file(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("open", path, std::strerror(errno));
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  if (result != 0) fail("sync", path, std::strerror(error));
}

}  // namespace

StagedFolder::StagedFolder(const fs::path& to) : to_(to.lexically_normal()) {
  if (to_.filename().empty()) to_ = to_.parent_path();  // "model/"
  std::error_code error;
  const fs::file_status status = fs::symlink_status(to_, error);
  const bool usable = status.type() == fs::file_type::not_found ||
                      (status.type() == fs::file_type::directory && fs::is_empty(to_, error));
  if (!usable)
    throw Error(ErrorCode::kInvalidArgument, accrete::format("{} is already there", to_.string()),
                "give a name that is free, or an empty folder");
  if (to_.has_parent_path()) fs::create_directories(to_.parent_path(), error);
  const fs::path name = create_temporary_beside(to_);
  fs::remove(name, error);
  if (!fs::create_directory(name, error)) fail("create the folder", name, error.message());
  staging_ = name;
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  if (!staging_.empty()) fs::remove_all(staging_, ignored);
}

void StagedFolder::commit() {
  std::error_code error;
  for (fs::directory_iterator it(staging_, error), end; !error && it != end; it.increment(error))
    sync_file(it->path());
  if (error) fail("list", staging_, error.message());
  sync_file(staging_);  // the folder's own entries
  rename_durably(staging_, to_);
  staging_.clear();
}

}  // namespace accrete
