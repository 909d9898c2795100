// A state on trial: an overlay in place of a model's for as long as this lives, however the scope
// is left.
//
// Non-goals: several at a time in one model: they would see one another.
#pragma once

#include <utility>

#include "model/language_model.h"

namespace accrete {

class OverlayTrial {
 public:
  OverlayTrial(LanguageModel& model, Overlay overlay)
      : model_(model), before_(model.memory().overlay) {
    model_.use_overlay(std::move(overlay));
  }
  ~OverlayTrial() { model_.use_overlay(std::move(before_)); }
  OverlayTrial(const OverlayTrial&) = delete;
  OverlayTrial& operator=(const OverlayTrial&) = delete;

 private:
  LanguageModel& model_;
  Overlay before_;
};

}  // namespace accrete
