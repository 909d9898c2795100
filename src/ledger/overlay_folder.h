// Overlays on disk: the facts of one person or tenant, beside what all share.
//
// `<model>/accrete/overlays/NAME/` holds overlay.json, which names the base and the reader that its
// facts were made for, and a ledger of its own: ledger.db, updates/, probes/, lock. It is there
// when its overlay.json is; what a crash left of one that was being made or erased is removed by
// the next who makes or erases one.
//
// Non-goals: what an overlay says to a question (model/fact_memory.h), the ledger's rows.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace accrete {

struct OverlayRecord {
  std::string base_digest, reader_digest;
  std::string created;  // UTC, ISO 8601
};

// [a-z0-9][a-z0-9_.-]{0,63}: one way to write a name, and never a path.
bool is_overlay_name(std::string_view name);

// Whether this is an overlay's own folder.
bool is_overlay_folder(const std::filesystem::path& folder);
// Where the ledger of a model's or an overlay's folder lies: `accrete` in the former, the latter
// itself.
std::filesystem::path ledger_folder(const std::filesystem::path& folder);

// What a model says of itself to overlays and files of facts: digests, and the block whose output
// values are added to. Throws kNotFound (no model with a memory), kUnsupported (a memory of rows),
// kFormat.
struct FactModelRecord {
  std::string base_digest, reader_digest;
  int64_t block = 0;
};
FactModelRecord read_fact_model(const std::filesystem::path& model);

// The names of a model's overlays, sorted.
std::vector<std::string> overlay_names(const std::filesystem::path& model);
// Strict. Throws kNotFound, kFormat.
OverlayRecord read_overlay(const std::filesystem::path& folder);
// The folder of an overlay of this model. Throws kInvalidArgument (no name for one), kNotFound
// (hint: how it is made), kConflict (made for another base or reader), kUnsupported (a model of
// rows), kFormat.
std::filesystem::path find_overlay(const std::filesystem::path& model, const std::string& name);
// Makes an empty one. Throws as find_overlay does, kConflict (it is there, or somebody is making or
// erasing one), kIo.
void create_overlay(const std::filesystem::path& model, const std::string& name);

struct ErasedOverlay {
  int64_t files = 0, bytes = 0;
};
// Removes everything of it, damaged or not; it is gone at once, whatever happens afterwards. Throws
// kInvalidArgument, kNotFound, kConflict (somebody is writing to it), kIo.
ErasedOverlay erase_overlay(const std::filesystem::path& model, const std::string& name);

}  // namespace accrete
