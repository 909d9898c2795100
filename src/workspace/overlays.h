// Overlays of a model as verbs: made, listed, looked at, erased. By the disk alone, without
// libtorch.
//
// What is done with one that is there (asking, teaching, exporting) is the workspace's, opened with
// its name.
//
// Non-goals: the model (workspace.h), printing.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "accrete/types.h"

namespace accrete {

class Overlays {
 public:
  explicit Overlays(std::filesystem::path model) : model_(std::move(model)) {}

  // Throw as the functions of ledger/overlay_folder.h do.
  api::OverlayInfo create(const std::string& name) const;
  // By name. One that cannot be used is listed with its problem.
  std::vector<api::OverlayInfo> list() const;
  api::OverlayInfo show(const std::string& name) const;
  // Everything of it, on the disk too.
  api::ErasedOverlay erase(const std::string& name) const;

 private:
  std::filesystem::path model_;
};

}  // namespace accrete
