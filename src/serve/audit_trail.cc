#include "serve/audit_trail.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>

#include "base/error.h"
#include "base/format.h"
#include "base/utc.h"

namespace accrete::serve {
namespace {

constexpr size_t kMostText = 160;

// A text of a user's, cut between characters.
std::string cut(const std::string& text) {
  if (text.size() <= kMostText) return text;
  size_t end = kMostText;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "…";
}

}  // namespace

AuditTrail::AuditTrail(std::filesystem::path file, Options options)
    : file_(std::move(file)), options_(options) {
  open();
}

AuditTrail::~AuditTrail() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void AuditTrail::open() {
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  struct stat about{};
  if (descriptor_ < 0 || ::fstat(descriptor_, &about) != 0)
    throw Error(ErrorCode::kIo,
                accrete::format("{}: cannot write there: {}", file_.string(), std::strerror(errno)),
                "give a file in a folder that is there and can be written to");
  size_ = about.st_size;
}

void AuditTrail::rotate() {
  ::close(descriptor_);
  descriptor_ = -1;
  const auto numbered = [&](int n) {
    return std::filesystem::path(file_.string() + "." + std::to_string(n));
  };
  std::error_code ignored;  // a file that cannot be moved is written on
  for (int n = options_.kept - 1; n >= 1; --n)
    std::filesystem::rename(numbered(n), numbered(n + 1), ignored);
  std::filesystem::rename(file_, numbered(1), ignored);
  open();
}

void AuditTrail::add(const nlohmann::ordered_json& entry) {
  nlohmann::ordered_json line = {{"time", utc_now()}};
  for (const auto& [name, value] : entry.items())
    line[name] = value.is_string() ? nlohmann::ordered_json(cut(value.get<std::string>())) : value;
  const std::string text =
      line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  const std::lock_guard lock(mutex_);
  if (descriptor_ < 0) open();
  if (size_ > 0 && size_ + static_cast<int64_t>(text.size()) > options_.bytes) rotate();
  const ssize_t written = ::write(descriptor_, text.data(), text.size());
  if (written == static_cast<ssize_t>(text.size()) && ::fdatasync(descriptor_) == 0) {
    size_ += written;
    return;
  }
  const int reason = written < 0 || written == static_cast<ssize_t>(text.size()) ? errno : ENOSPC;
  // A part of a line would spoil the next one.
  if (written > 0 && ::ftruncate(descriptor_, size_) != 0) size_ += written;
  throw Error(ErrorCode::kIo,
              accrete::format("{}: cannot write there: {}", file_.string(), std::strerror(reason)),
              "free some space on the disk");
}

}  // namespace accrete::serve
