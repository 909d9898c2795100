// accrete: the program. What needs no tensors is done here, in milliseconds: help, completion, the
// ledger's log and what is active. For everything else the library of all verbs is loaded, and
// libtorch with it; `bench` is another program, which this one becomes.
#include <dlfcn.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "cli/cli.h"
#include "cli/verbs.h"

namespace {

using namespace accrete;
namespace fs = std::filesystem;

// Verbs that are whole in this program. They are in the library as well, for its help.
constexpr cli::AddVerb kLightVerbs[] = {cli::add_log, cli::add_undo};
constexpr const char* kLightNames[] = {"log", "show", "undo", "redo", "revert", "tag"};

// Where the library is: beside the program in the build, or where it was installed, wherever that
// was moved to.
fs::path library_folder() {
  std::error_code ec;
  const fs::path program = fs::read_symlink("/proc/self/exe", ec).parent_path();
  const fs::path built = program / "lib" / "accrete";
  if (fs::exists(built / cli::kVerbsLibrary, ec)) return built;
  return (program / ACCRETE_LIBRARY_FROM_BIN).lexically_normal();
}

// What is printed for these arguments, if it was written down when the program was built, and since
// the library was.
bool print_text(const fs::path& folder, const std::vector<std::string>& arguments) {
  std::string path, kind;
  if (arguments.size() == 2 && arguments[0] == "completion") {
    kind = "completion";
    path = arguments[1];
  } else if (!arguments.empty() && (arguments.back() == "--help" || arguments.back() == "-h")) {
    kind = "help";
    for (size_t i = 0; i + 1 < arguments.size(); ++i) path += (i > 0 ? " " : "") + arguments[i];
  } else {
    return false;
  }
  std::error_code ec;
  const fs::path file = folder / cli::kTextsFile;
  const auto written = fs::last_write_time(file, ec);
  if (ec || written < fs::last_write_time(folder / cli::kVerbsLibrary, ec) || ec) return false;
  const auto texts = nlohmann::json::parse(read_file(file), nullptr, false);
  if (!texts.is_object() || texts.value("version", "") != cli::kVersion) return false;
  const auto& of_kind = texts.value(kind, nlohmann::json::object());
  if (!of_kind.contains(path)) return false;
  const auto text = of_kind[path].get<std::string>();
  std::fwrite(text.data(), 1, text.size(), stdout);
  return true;
}

// Replaces this program by that of the benchmarks; returns when it cannot be started.
int run_bench(const fs::path& folder, char** argv) {
  const fs::path file = folder / cli::kBenchProgram;
  ::execv(file.c_str(), argv);
  std::fprintf(stderr, "accrete: cannot start %s: %s\n  try: install accrete again\n", file.c_str(),
               std::strerror(errno));
  return 1;
}

int run_library(const fs::path& folder, int argc, char** argv) {
  const fs::path file = folder / cli::kVerbsLibrary;
  void* library = ::dlopen(file.c_str(), RTLD_LAZY | RTLD_LOCAL);
  void* entry = library == nullptr ? nullptr : ::dlsym(library, "accrete_verbs_main");
  if (entry == nullptr) {
    std::fprintf(stderr,
                 "accrete: cannot load %s: %s\n  try: install accrete and its libtorch again\n",
                 file.c_str(), ::dlerror());
    return 1;
  }
  return reinterpret_cast<decltype(&accrete_verbs_main)>(entry)(argc, argv);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const fs::path folder = library_folder();
  try {
    if (print_text(folder, arguments)) return 0;
  } catch (const Error&) {  // the library has the same texts
  }
  if (arguments.size() == 1 && arguments[0] == "--version") {
    std::printf("accrete %s\n", cli::kVersion);
    return 0;
  }
  for (const char* name : kLightNames)
    if (!arguments.empty() && arguments[0] == name) return cli::run_verbs(kLightVerbs, argc, argv);
  // How OpenMP's threads wait: briefly, then asleep. They would spin for milliseconds at the end of
  // each parallel region, and on a machine with other work to do take the core from the thread they
  // wait for: on two cores shared with a compiler, answering took five times longer. The setting is
  // read when libtorch is loaded. One of the user's wins.
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) ::setenv("GOMP_SPINCOUNT", "1000", 0);
  if (!arguments.empty() && arguments[0] == "bench") return run_bench(folder, argv);
  return run_library(folder, argc, argv);
}
