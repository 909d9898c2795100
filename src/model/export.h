// Export: a model as a folder that `transformers` opens.
//
// Without active updates that is the base alone, an ordinary Hugging Face folder. With facts,
// config.json gets a model type of its own, and beside the base's weights lie the facts and the
// code that reads, chooses and tells them (export_facts.h): docs/formats.md.
//
// A pretrained model whose memory is in place of an FFN is refused: transformers has no class for
// it.
//
// Non-goals: folding updates into dense weights (a fact is no function of them), taking the ledger
// or the probes along, reading such a folder back.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/progress.h"

namespace accrete {

struct ExportResult {
  std::vector<std::string> updates;  // ids, in ledger order
  std::vector<std::string> files;    // names in the folder, sorted
};

// `to` must not exist or be an empty folder; it is there completely or not at all. The weights are
// copied, never linked, so that what other programs do to them does not reach `model`. Throws
// kNotFound (no model), kInvalidArgument (`to` is in use), kUnsupported (updates on an architecture
// that modeling_accrete_facts.py does not know, a native model), kFormat, kIo, kInterrupted.
ExportResult export_model(const std::filesystem::path& model, const std::filesystem::path& to,
                          const Reporter& reporter = {});

}  // namespace accrete
