// Pre-tokenisation: text to the pieces that BPE merges within.
//
// Understands ByteLevel, Digits, Split and Sequence of tokenizer.json, the last of them a
// ByteLevel: its change of alphabet is left out, because bpe.h works on bytes. The regexes of GPT-2
// and of the cl100k family (Llama 3, Qwen) run as hand-written scanners, any other through regex.h.
//
// Non-goals: offsets.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

namespace accrete::text {

// Receives the pieces in their order; a view lives until the call returns.
class PieceSink {
 public:
  virtual ~PieceSink() = default;
  virtual void piece(std::string_view bytes) = 0;
};

class PreTokenizer {
 public:
  // Throws kFormat, kUnsupported.
  explicit PreTokenizer(const nlohmann::json& json);

  // `text` is valid UTF-8.
  void split(std::string_view text, PieceSink& sink) const;

  class Stage;

 private:
  void add(const nlohmann::json& part, int depth);

  std::vector<std::shared_ptr<const Stage>> stages_;
  bool byte_level_ = false;
};

}  // namespace accrete::text
