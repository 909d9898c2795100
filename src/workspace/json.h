// Reports as JSON: what the command line prints with --json and the server answers. Keys and their
// order are a contract.
//
// Non-goals: reading JSON, text for people (src/cli).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "accrete/types.h"

namespace accrete {

nlohmann::ordered_json to_json(const api::RetrofitReport& report);
nlohmann::ordered_json to_json(const api::UpgradeReport& report);
nlohmann::ordered_json to_json(const api::Info& info);
nlohmann::ordered_json to_json(const api::Answer& answer);
nlohmann::ordered_json to_json(const api::Explanation& explanation);
nlohmann::ordered_json to_json(const api::EvalReport& report);  // without its questions
nlohmann::ordered_json to_json(const api::EvalReport::Question& question);
nlohmann::ordered_json to_json(const api::TeachReport& report);
nlohmann::ordered_json to_json(const api::PlanReport& report);
nlohmann::ordered_json to_json(const api::UpdateInfo& update);
nlohmann::ordered_json to_json(const std::vector<api::UpdateInfo>& log);
nlohmann::ordered_json to_json(const api::UpdateDetails& update);
nlohmann::ordered_json to_json(const api::ActiveReport& report);
nlohmann::ordered_json to_json(const api::TagReport& report);
nlohmann::ordered_json to_json(const api::Digest& digest);
nlohmann::ordered_json to_json(const api::DiffReport& report);
nlohmann::ordered_json to_json(const api::AuditReport& report);
nlohmann::ordered_json to_json(const api::CompactReport& report);
nlohmann::ordered_json to_json(const api::MadeReport& report);
nlohmann::ordered_json to_json(const api::ForgetReport& report);
nlohmann::ordered_json to_json(const api::ExportReport& report);
nlohmann::ordered_json to_json(const api::OverlayInfo& overlay);
nlohmann::ordered_json to_json(const std::vector<api::OverlayInfo>& overlays);
nlohmann::ordered_json to_json(const api::ErasedOverlay& report);
nlohmann::ordered_json to_json(const api::FactsFile& report);
nlohmann::ordered_json to_json(const api::MergeReport& report);
nlohmann::ordered_json to_json(const api::ProbeInfo& probe);  // of a new one: without its floor
nlohmann::ordered_json to_json(const std::vector<api::ProbeInfo>& probes);
nlohmann::ordered_json to_json(const api::DiscoverReport& report);
nlohmann::ordered_json to_json(const api::CheckReport& report);

}  // namespace accrete
