// The normalizer of tokenizer.json: none, NFC, or sequences of these. And NFD, for WordPiece.
//
// Non-goals: NFKC and NFKD, case folding, stripping, replacing.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace accrete::text {

class Normalizer {
 public:
  // Throws kFormat, kUnsupported.
  explicit Normalizer(const nlohmann::json& json);

  // `text` (valid UTF-8) normalised: itself when nothing changes, else kept in `storage`.
  std::string_view apply(std::string_view text, std::string& storage) const;

 private:
  void add(const nlohmann::json& part, int depth);

  bool nfc_ = false;
};

// The text in NFD.
std::u32string decomposed(std::u32string_view text);

}  // namespace accrete::text
