// The memory layers and the background log on disk: `accrete/memory.json` and
// `background.safetensors` (docs/formats.md). Their keys are read from the base, of which they are
// part.
//
// Non-goals: updates (ledger/).
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

#include "memory/access_log.h"
#include "model/language_model.h"

namespace accrete {

bool has_memory_files(const std::filesystem::path& folder);
// `info` goes into memory.json beside the keys' shapes: corpus, seed, base digest.
void save_memory(const std::filesystem::path& folder, const Memory& memory,
                 const AccessLog& background, const nlohmann::json& info);

// With an empty overlay. Throws kFormat (with the file and the key), kUnsupported (a newer version,
// or keys that were fitted).
Memory load_memory(const std::filesystem::path& folder, const ModelConfig& config);
AccessLog load_background(const std::filesystem::path& folder, const ProductKeys& keys);
nlohmann::json load_memory_info(const std::filesystem::path& folder);
// Memory layers that were fitted to a model, as an earlier accrete made them: read no more.
bool is_fitted(const nlohmann::json& info);

// The accesses that one update was taught with, beside its file: what later updates should leave
// alone.
void save_accesses(const std::filesystem::path& file, const Accesses& accesses);
// Throws kFormat when they do not fit `keys`.
Accesses load_accesses(const std::filesystem::path& file, const ProductKeys& keys);

}  // namespace accrete
