// The memory layers and the background log on disk: `accrete/memory.json`, `memory.safetensors` and
// `background.safetensors` (docs/formats.md).
//
// Non-goals: updates (ledger/).
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "memory/access_log.h"
#include "model/language_model.h"

namespace accrete {

using AccessLogs = std::map<int64_t, AccessLog>;  // by block

bool has_memory_files(const std::filesystem::path& folder);

// `info` goes into memory.json beside the layers' shapes: corpus, seed, base digest.
void save_memory(const std::filesystem::path& folder, const MemoryLayers& layers,
                 const AccessLogs& background, const nlohmann::json& info);

// Layers with empty overlays. Throws kFormat (with the file and the key), kUnsupported (a newer
// version).
MemoryLayers load_memory(const std::filesystem::path& folder, const ModelConfig& config);
AccessLogs load_background(const std::filesystem::path& folder, const MemoryLayers& layers);

// The accesses that one update was taught with, beside its file: what later updates should leave
// alone. Advisory: a missing one is not an error.
void save_update_log(const std::filesystem::path& file,
                     const std::map<int64_t, Accesses>& accesses);
// Joins them to `logs` with weight `weight` a token. Throws kFormat.
void append_update_log(const std::filesystem::path& file, const MemoryLayers& layers, double weight,
                       AccessLogs& logs);
nlohmann::json load_memory_info(const std::filesystem::path& folder);

}  // namespace accrete
