#include "ledger/overlay_folder.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/utc.h"
#include "io/strict_json.h"
#include "io/utf8.h"
#include "ledger/ledger.h"
#include "ledger/writer_lock.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOverlays = "overlays";
constexpr const char* kRecord = "overlay.json";
constexpr int kVersion = 1;

fs::path folder_of_overlays(const fs::path& model) {
  return model / "accrete" / kOverlays;
}

void check_name(const std::string& name) {
  if (!is_overlay_name(name))
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} cannot name an overlay", shown(name)),
                "use small letters, digits, '_', '.' and '-', a letter or digit first, at most 64");
}

std::string text_field(const nlohmann::json& json, const char* key, const fs::path& file) {
  const auto at = json.find(key);
  if (at == json.end() || !at->is_string())
    throw Error(
        ErrorCode::kFormat, accrete::format("{}: {} is not a text", file.string(), key),
        "the file was changed; a backup brings it back, `accrete overlay erase` removes it");
  return at->get<std::string>();
}

// With the lock of the folder of overlays held: what a crash left.
void remove_leftovers(const fs::path& overlays) {
  std::error_code error;
  std::vector<fs::path> gone;
  for (const auto& entry : fs::directory_iterator(overlays, error))
    if (entry.is_directory() && !fs::exists(entry.path() / kRecord)) gone.push_back(entry.path());
  for (const fs::path& path : gone) fs::remove_all(path, error);
}

[[noreturn]] void throw_io(const char* what, const fs::path& path, const std::error_code& error) {
  throw Error(ErrorCode::kIo,
              accrete::format("cannot {} {}: {}", what, path.string(), error.message()),
              "check the permissions of the model's folder and the free disk space");
}

}  // namespace

bool is_overlay_name(std::string_view name) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !name.empty() && name.size() <= 64 && plain(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return plain(c) || c == '_' || c == '.' || c == '-'; });
}

bool is_overlay_folder(const fs::path& folder) {
  std::error_code ignored;
  return folder.parent_path().filename() == kOverlays && fs::exists(folder / kRecord, ignored);
}

fs::path ledger_folder(const fs::path& folder) {
  return is_overlay_folder(folder) ? folder : folder / "accrete";
}

FactModelRecord read_fact_model(const fs::path& model) {
  const fs::path file = model / "accrete" / "memory.json";
  std::error_code ignored;
  if (!fs::exists(file, ignored))
    throw Error(ErrorCode::kNotFound,
                accrete::format("{} is not a model with a memory", model.string()),
                "check the path, or make one with `accrete retrofit SRC MODEL`");
  const auto json = read_json_object(file);
  const auto kind = json.find("kind");
  if (kind == json.end() || *kind != "questions")
    throw Error(
        ErrorCode::kUnsupported,
        accrete::format("{} has no memory of facts, so it has no overlays and takes no files of "
                        "facts",
                        model.string()),
        "models that `accrete retrofit` makes have a memory of facts");
  FactModelRecord out;
  out.base_digest = text_field(json, "base_digest", file);
  out.reader_digest = text_field(json, "reader_digest", file);
  const auto block = json.find("block");
  if (block == json.end() || !block->is_number_integer())
    throw Error(ErrorCode::kFormat, accrete::format("{}: block is not a number", file.string()),
                "run `accrete retrofit` again into a new folder");
  out.block = block->get<int64_t>();
  return out;
}

std::vector<std::string> overlay_names(const fs::path& model) {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_of_overlays(model), error)) {
    const std::string name = entry.path().filename().string();
    if (is_overlay_name(name) && is_overlay_folder(entry.path())) out.push_back(name);
  }
  std::sort(out.begin(), out.end());
  return out;
}

OverlayRecord read_overlay(const fs::path& folder) {
  const fs::path file = folder / kRecord;
  const auto json = read_json_object(file);
  const auto version = json.find("version");
  if (version == json.end() || *version != kVersion)
    throw Error(ErrorCode::kFormat,
                accrete::format("{}: not an overlay of version {}", file.string(), kVersion),
                "a later accrete made it, or it was changed");
  return {text_field(json, "base_digest", file), text_field(json, "reader_digest", file),
          text_field(json, "created", file)};
}

fs::path find_overlay(const fs::path& model, const std::string& name) {
  check_name(name);
  const FactModelRecord now = read_fact_model(model);
  const fs::path folder = folder_of_overlays(model) / name;
  if (!is_overlay_folder(folder))
    throw Error(ErrorCode::kNotFound, accrete::format("{} has no overlay {}", model.string(), name),
                accrete::format("`accrete overlay create {} {}` makes it", model.string(), name));
  const OverlayRecord made = read_overlay(folder);
  const char* other = made.base_digest != now.base_digest       ? "base"
                      : made.reader_digest != now.reader_digest ? "reader"
                                                                : nullptr;
  if (other != nullptr)
    throw Error(
        ErrorCode::kConflict,
        accrete::format("overlay {} of {} was made for another {}", name, model.string(), other),
        "teach it anew: `accrete overlay erase` removes it, and `accrete show --overlay` of "
        "the model that it was made for has its questions and answers");
  return folder;
}

void create_overlay(const fs::path& model, const std::string& name) {
  check_name(name);
  const FactModelRecord now = read_fact_model(model);
  const fs::path overlays = folder_of_overlays(model), folder = overlays / name;
  std::error_code error;
  fs::create_directories(overlays, error);
  if (error) throw_io("make the folder", overlays, error);
  const WriterLock lock(overlays / ".lock");
  if (is_overlay_folder(folder))
    throw Error(ErrorCode::kConflict,
                accrete::format("{} has an overlay {} already", model.string(), name),
                "choose another name");
  remove_leftovers(overlays);
  fs::create_directory(folder, error);
  if (error) throw_io("make the folder", folder, error);
  try {
    (void)Ledger::create_in(folder);
    const nlohmann::ordered_json json = {{"version", kVersion},
                                         {"base_digest", now.base_digest},
                                         {"reader_digest", now.reader_digest},
                                         {"created", utc_now()}};
    write_file_atomically(folder / kRecord, json.dump(2) + "\n");
    sync_folder(overlays);
  } catch (...) {
    fs::remove_all(folder, error);
    throw;
  }
}

ErasedOverlay erase_overlay(const fs::path& model, const std::string& name) {
  check_name(name);
  const fs::path overlays = folder_of_overlays(model), folder = overlays / name;
  if (!is_overlay_folder(folder))
    throw Error(ErrorCode::kNotFound, accrete::format("{} has no overlay {}", model.string(), name),
                accrete::format("`accrete overlay list {}` names them", model.string()));
  const WriterLock lock(overlays / ".lock");
  ErasedOverlay out;
  {
    const WriterLock own(folder / "lock");  // nobody is teaching it
    std::error_code error;
    for (const auto& entry : fs::recursive_directory_iterator(folder, error))
      if (entry.is_regular_file(error)) {
        ++out.files;
        out.bytes += static_cast<int64_t>(entry.file_size(error));
      }
    // Without its record it is no overlay any more, and what is left is removed here or by the
    // next.
    fs::remove(folder / kRecord, error);
    if (error) throw_io("remove", folder / kRecord, error);
    sync_folder(folder);
  }
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) throw_io("remove", folder, error);
  remove_leftovers(overlays);
  sync_folder(overlays);
  return out;
}

}  // namespace accrete
