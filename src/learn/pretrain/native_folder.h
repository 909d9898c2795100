// The folder of a pretrained model: the base's files, and `accrete/` with the background's access
// log and a gate that fits the learned keys.
//
// Non-goals: training.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/progress.h"
#include "learn/pretrain/config.h"
#include "learn/pretrain/gate_fit.h"
#include "learn/pretrain/mixture.h"
#include "learn/pretrain/network.h"

namespace accrete {

// The tokenizer that a config names, cut to its vocabulary. Throws kNotFound, kFormat.
nlohmann::json pretrain_tokenizer(const PretrainConfig& config);

// Writes everything into the empty folder `folder`. The background is drawn from the mixture that
// was trained on.
GateFit write_native_folder(const std::filesystem::path& folder, const PretrainConfig& config,
                            const TrainingNetwork& network, const TrainingText& text,
                            const nlohmann::json& tokenizer, int32_t end_of_text,
                            const nlohmann::json& info, const Reporter& reporter);

}  // namespace accrete
