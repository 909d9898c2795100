// What a training run writes down as it goes: log.jsonl, one object a step or evaluation, and the
// same numbers as TensorBoard events. Both only grow; a resumed run cuts them back to where its
// checkpoint was.
//
// Non-goals: progress for people (Reporter).
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace accrete {

class RunLog {
 public:
  // In `folder`, from the given lengths on (0: from the beginning). Throws kIo, and kFormat where a
  // log is shorter than that.
  RunLog(const std::filesystem::path& folder, int64_t log_bytes, int64_t event_bytes);

  // Values that are not finite are left out.
  void write(int64_t step, double seconds,
             const std::vector<std::pair<std::string, double>>& values);
  // Everything so far is handed to the system. Throws kIo.
  void flush();
  int64_t log_bytes() const { return log_bytes_; }
  int64_t event_bytes() const { return event_bytes_; }

 private:
  std::filesystem::path folder_;
  std::ofstream log_, events_;
  int64_t log_bytes_, event_bytes_;
};

}  // namespace accrete
