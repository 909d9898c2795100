// The regular expressions of tokenizer.json, matched by PCRE2 as Oniguruma matches them.
//
// Hugging Face `tokenizers` compiles patterns with Oniguruma (Ruby syntax). A pattern is parsed
// here and rewritten for PCRE2 with every class spelled out as ranges of code points, so that the
// two agree whatever the age of PCRE2's own Unicode tables. What the two would read differently
// (\w, \b, anchors, look-behind, back references, nested classes, ...) is refused.
//
// Non-goals: captures, search in invalid UTF-8.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace accrete::text {

class Regex {
 public:
  // Throws kFormat for a pattern that is broken, kUnsupported for one that is not understood.
  static Regex compile(std::string_view pattern);
  // Matches exactly this string, which is not empty.
  static Regex literal(std::string_view text);

  struct Match {
    size_t begin;
    size_t end;
  };
  // All matches in `text` (valid UTF-8) from left to right; none is empty. Throws kUnsupported when
  // the pattern backtracks beyond reason.
  void find_all(std::string_view text, std::vector<Match>& matches) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;  // immutable, shared between threads
};

// The PCRE2 pattern for an Oniguruma pattern; compile() uses it.
std::string translate_oniguruma(std::string_view pattern);

}  // namespace accrete::text
