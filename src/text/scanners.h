// The two regexes that nearly every byte-level BPE tokenizer splits with, written out by hand.
//
// Each returns the end of the match that begins at `at`; every character begins one, so that the
// matches cover the text. Tests hold them against the same regex in PCRE2.
#pragma once

#include <cstddef>
#include <string_view>

namespace accrete::text {

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
size_t gpt2_match(std::string_view text, size_t at);

// The same for the family of cl100k, which differ in the digits they take together.
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
size_t cl100k_match(std::string_view text, size_t at, int most_digits);

}  // namespace accrete::text
