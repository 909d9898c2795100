#include "learn/pretrain/run_log.h"

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "io/tensorboard.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void open(std::ofstream& out, const fs::path& path, int64_t bytes) {
  std::error_code error;
  if (bytes > 0) {
    const auto size = fs::file_size(path, error);
    if (error || static_cast<int64_t>(size) < bytes)
      throw Error(ErrorCode::kFormat, accrete::format("{} is shorter than it was", path.string()),
                  "remove the run's folder to begin again");
    fs::resize_file(path, static_cast<uintmax_t>(bytes), error);
  }
  out.open(path, bytes > 0 ? std::ios::binary | std::ios::app : std::ios::binary);
  if (error || !out)
    throw Error(ErrorCode::kIo, accrete::format("cannot write {}", path.string()),
                "check the permissions and the space left");
}

}  // namespace

RunLog::RunLog(const fs::path& folder, int64_t log_bytes, int64_t event_bytes)
    : folder_(folder), log_bytes_(log_bytes), event_bytes_(event_bytes) {
  open(log_, folder / "log.jsonl", log_bytes);
  open(events_, folder / "events.out.tfevents.0.accrete", event_bytes);
  if (event_bytes_ > 0) return;
  const std::string first = tfrecord(version_event(now()));
  events_ << first;
  event_bytes_ += static_cast<int64_t>(first.size());
}

void RunLog::write(int64_t step, double seconds,
                   const std::vector<std::pair<std::string, double>>& values) {
  nlohmann::ordered_json line = {{"step", step}};
  std::string events;
  for (const auto& [name, value] : values) {
    if (!std::isfinite(value)) continue;
    line[name] = value;
    events += tfrecord(scalar_event(now(), step, name, static_cast<float>(value)));
  }
  line["seconds"] = seconds;
  const std::string text = line.dump() + "\n";
  log_ << text;
  events_ << events;
  log_bytes_ += static_cast<int64_t>(text.size());
  event_bytes_ += static_cast<int64_t>(events.size());
}

void RunLog::flush() {
  log_.flush();
  events_.flush();
  if (!log_ || !events_)
    throw Error(ErrorCode::kIo, accrete::format("cannot write the logs in {}", folder_.string()),
                "check the permissions and the space left");
}

}  // namespace accrete
