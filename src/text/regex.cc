#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"
#include "base/format.h"
#include "text/unicode.h"

namespace accrete::text {
namespace {

constexpr size_t kJitStackStart = 32 << 10;
constexpr size_t kJitStackLimit = 8 << 20;

std::string pcre2_message(int code) {
  char buffer[256] = "";
  pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(buffer), sizeof(buffer));
  return buffer;
}

// What a thread needs for matching; never shared.
struct Scratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kJitStackStart, kJitStackLimit, nullptr);

  Scratch() {
    if (!data || !context) throw std::bad_alloc();
    if (stack) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Scratch() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  bool jit = false;

  Code() = default;
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
};

Regex Regex::compile(std::string_view pattern) {
  const std::string translated = translate_oniguruma(pattern);
  auto code = std::make_shared<Code>();
  int error = 0;
  PCRE2_SIZE offset = 0;
  // No PCRE2_UCP: the classes are spelled out already.
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                             PCRE2_UTF | PCRE2_NO_AUTO_CAPTURE | PCRE2_NEVER_BACKSLASH_C, &error,
                             &offset, nullptr);
  if (!code->code) {
    throw Error(ErrorCode::kUnsupported,
                accrete::format("tokenizer: PCRE2 refuses the regex {:?}: {}", pattern,
                                pcre2_message(error)),
                "accrete reads byte-level BPE tokenizers (GPT-2, Llama 3, SmolLM2, Qwen families)");
  }
  uint32_t matches_empty = 0;
  pcre2_pattern_info(code->code, PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty) {
    throw Error(ErrorCode::kUnsupported,
                accrete::format("tokenizer: the regex {:?} can match nothing", pattern),
                "accrete reads byte-level BPE tokenizers (GPT-2, Llama 3, SmolLM2, Qwen families)");
  }
  code->jit = pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE) == 0;
  Regex regex;
  regex.code_ = std::move(code);
  return regex;
}

Regex Regex::literal(std::string_view text) {
  std::string pattern;
  for (size_t at = 0; at < text.size();) {
    const auto [c, size] = unicode::decode(text.data() + at);
    pattern += accrete::format("\\x{{{:x}}}", static_cast<uint32_t>(c));
    at += size;
  }
  return compile(pattern);
}

void Regex::find_all(std::string_view text, std::vector<Match>& matches) const {
  static thread_local Scratch scratch;
  const auto match = code_->jit ? pcre2_jit_match : pcre2_match;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t at = 0;
  while (at < text.size()) {
    const int result = match(code_->code, subject, text.size(), at, PCRE2_NO_UTF_CHECK,
                             scratch.data, scratch.context);
    if (result == PCRE2_ERROR_NOMATCH) return;
    if (result < 0) {
      throw Error(ErrorCode::kUnsupported,
                  accrete::format("tokenizer: the regex failed on a text of {} bytes: {}",
                                  text.size(), pcre2_message(result)),
                  "the pattern backtracks too much; split the text");
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch.data);
    matches.push_back({bounds[0], bounds[1]});
    at = bounds[1];
  }
}

}  // namespace accrete::text
