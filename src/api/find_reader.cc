#include "api/find_reader.h"

#include <cstdlib>
#include <system_error>

#include "api/installation.h"
#include "base/error.h"
#include "base/format.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHint =
    "run `make setup`, which fetches the reader (scripts/fetch_reader.sh), or name a sentence "
    "encoder's folder with --reader FOLDER or ACCRETE_READER";

bool is_reader(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / "config.json", ignored);
}

fs::path named(const std::string& folder, const char* by) {
  if (!is_reader(folder))
    throw Error(ErrorCode::kNotFound,
                accrete::format("{}, which {} names, is no reader: there is no config.json in it",
                                folder, by),
                kHint);
  return folder;
}

}  // namespace

fs::path find_reader(const std::string& given) {
  if (!given.empty()) return named(given, "--reader");
  if (const char* folder = std::getenv("ACCRETE_READER"); folder != nullptr && *folder != '\0')
    return named(folder, "ACCRETE_READER");
  fs::path data;
  try {
    data = fs::absolute(data_folder()).lexically_normal();
  } catch (const Error& error) {
    throw Error(error.code(), accrete::format("no reader: {}", error.what()), kHint);
  }
  if (data.filename().empty()) data = data.parent_path();  // it ended with a slash
  std::string looked;
  for (const fs::path& folder :
       {data.parent_path() / "models" / "all-MiniLM-L6-v2", data / "reader"}) {
    if (is_reader(folder)) return folder;
    looked += (looked.empty() ? "" : " nor ") + folder.string();
  }
  throw Error(ErrorCode::kNotFound, accrete::format("there is no reader: neither {}", looked),
              kHint);
}

}  // namespace accrete
