// A Hugging Face model folder: config.json, weights, tokenizer files. And the conversion of a GGUF
// file into one.
//
// Non-goals: the hub, other architectures' weight names (model/ reads those).
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/progress.h"
#include "io/gguf.h"
#include "io/safetensors.h"

namespace accrete {

enum class CopyWeights {
  kLink,  // hard-linked when they can be: for folders that only accrete works on
  kCopy,  // for folders whose files other programs may change in place
};

// Copies what makes up a model (config, generation config, weights and index, tokenizer files,
// chat template, modeling-free README and licence files), not caches, `.git`, `accrete/` or
// pickles. `to` must not exist or be empty.
void copy_hf_folder(const std::filesystem::path& from, const std::filesystem::path& to,
                    const Reporter& reporter = {}, CopyWeights weights = CopyWeights::kLink);

// Writes a folder that `transformers` opens with AutoModelForCausalLM / AutoTokenizer from a GGUF
// of the Llama family (general.architecture "llama"): float32 weights under their Hugging Face
// names (attention q and k un-permuted from GGUF's interleaved rotary layout), config.json,
// generation_config.json, tokenizer.json, tokenizer_config.json with the chat template.
// Throws kUnsupported for other architectures or tokenizers, kFormat for missing keys or shapes.
void convert_gguf_to_hf(const std::filesystem::path& gguf, const std::filesystem::path& to,
                        const Reporter& reporter = {});

// The tokenizer.json (byte-level BPE) that a GGUF's `tokenizer.ggml.*` metadata describes.
nlohmann::json tokenizer_json_from_gguf(const GgufFile& file);

}  // namespace accrete
