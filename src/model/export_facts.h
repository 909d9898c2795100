// Export of a memory of facts: the files that `transformers` needs beside the base.
//
// Facts go as one safetensors file and one of their texts and settings, the reader as its folder,
// and python/modeling_accrete_facts.py computes what model/ask.h does (docs/formats.md).
//
// Non-goals: the base's files and config.json (export.h).
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "model/language_model.h"

namespace accrete {

// The file that defines the classes, without ".py".
inline constexpr const char* kFactsModule = "modeling_accrete_facts";

// Writes them into `folder`, which must not hold them yet, with the facts of `model`. Returns what
// config.json says of them. Throws kIo, and what FactMemory::reader() throws.
nlohmann::json write_exported_facts(const LanguageModel& model,
                                    const std::vector<std::string>& updates,
                                    const std::filesystem::path& folder);

}  // namespace accrete
