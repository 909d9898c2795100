#include "api/installation.h"

#include <cstdlib>
#include <system_error>

#include "accrete/types.h"
#include "base/error.h"
#include "base/format.h"

namespace accrete {

std::filesystem::path data_folder() {
  namespace fs = std::filesystem;
  if (const char* given = std::getenv("ACCRETE_DATA"); given != nullptr && *given != '\0')
    return given;
  std::error_code ec;
  // An installation may be moved as a whole, so the program's own place comes first.
  const fs::path program = fs::read_symlink("/proc/self/exe", ec);
  std::string looked;
  for (const fs::path& folder : {(program.parent_path() / ACCRETE_DATA_FROM_BIN).lexically_normal(),
                                 fs::path(ACCRETE_SOURCE_DATA), fs::path(ACCRETE_INSTALLED_DATA)}) {
    if (fs::exists(folder / "background.txt.zst", ec)) return folder;
    looked += (looked.empty() ? "" : ", ") + folder.string();
  }
  throw Error(ErrorCode::kNotFound,
              accrete::format("the data that come with accrete are in none of {}", looked),
              "set ACCRETE_DATA to the folder with background.txt.zst");
}

std::string_view api::version() {
  return ACCRETE_VERSION;
}

}  // namespace accrete
