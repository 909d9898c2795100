#include "ledger/merge_file.h"

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/sha256.h"

namespace accrete {

std::string update_id_of(const std::filesystem::path& file) {
  return sha256_hex(MappedFile(file).bytes()).substr(0, 16);
}

void require_made_for(const std::filesystem::path& file, const Metadata& metadata, const char* key,
                      const std::string& ours, const char* what, const MadeForHints& hints) {
  const auto at = metadata.find(key);
  if (at == metadata.end())
    throw Error(ErrorCode::kConflict,
                accrete::format("{} does not say for which {} it was made", file.string(), what),
                hints.absent);
  if (at->second != ours)
    throw Error(ErrorCode::kConflict,
                accrete::format("{} was made for another {}", file.string(), what), hints.other);
}

}  // namespace accrete
