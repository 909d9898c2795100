// Runs a program of one's own beside the server: at low priority, with its lines handed on as they
// come, and an end that is always waited for.
//
// Non-goals: shells, standard input.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace accrete::serve {

struct ChildResult {
  int status = 0;      // its exit status; 128 + the signal that ended it
  std::string output;  // standard output, at most 16 MB
  std::string errors;  // the end of standard error, at most 8 KB
};

// `line` gets each line of standard error. `cancelled` is polled a few times a second: true sends
// SIGINT, and SIGKILL when the program is still there ten seconds later. Nothing that this process
// has open is passed on. Throws kIo (it cannot be started).
ChildResult run_child(const std::vector<std::string>& command, const std::filesystem::path& folder,
                      int niceness, const std::function<void(std::string_view line)>& line,
                      const std::function<bool()>& cancelled);

}  // namespace accrete::serve
