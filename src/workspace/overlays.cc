#include "workspace/overlays.h"

#include <map>
#include <system_error>

#include "base/error.h"
#include "ledger/ledger.h"
#include "ledger/overlay_folder.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

// What the active updates leave: which facts are there, and whether each is a passage.
std::map<std::string, bool> facts_of(const Ledger& ledger,
                                     const std::vector<UpdateRecord>& active) {
  std::map<std::string, bool> out;
  for (const UpdateRecord& record : active) {
    const Update update = ledger.load(record.id);
    for (const TaughtItem& item : update.taught.items)
      for (const std::string& id : item.replaces) out.erase(id);
    for (const TaughtItem& item : update.taught.items)
      if (!item.prompts.empty()) out[fact_id(item)] = item.passage();
  }
  return out;
}

int64_t bytes_below(const fs::path& folder) {
  int64_t out = 0;
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(folder, error))
    if (entry.is_regular_file(error)) out += static_cast<int64_t>(entry.file_size(error));
  return out;
}

api::OverlayInfo info_of(const fs::path& folder) {
  api::OverlayInfo out;
  out.name = folder.filename().string();
  out.created = read_overlay(folder).created;
  out.bytes = bytes_below(folder);
  const Ledger ledger = Ledger::open(folder, Ledger::Mode::kRead);
  const auto active = ledger.active();
  out.updates = static_cast<int64_t>(active.size());
  for (const auto& [id, passage] : facts_of(ledger, active)) ++(passage ? out.passages : out.facts);
  return out;
}

}  // namespace

api::OverlayInfo Overlays::create(const std::string& name) const {
  create_overlay(model_, name);
  return show(name);
}

std::vector<api::OverlayInfo> Overlays::list() const {
  (void)read_fact_model(model_);
  std::vector<api::OverlayInfo> out;
  for (const std::string& name : overlay_names(model_)) {
    try {
      out.push_back(show(name));
    } catch (const Error& error) {
      out.emplace_back().name = name;
      out.back().problem = error.what();
    }
  }
  return out;
}

api::OverlayInfo Overlays::show(const std::string& name) const {
  return info_of(find_overlay(model_, name));
}

api::ErasedOverlay Overlays::erase(const std::string& name) const {
  const ErasedOverlay erased = erase_overlay(model_, name);
  return {name, erased.files, erased.bytes};
}

}  // namespace accrete
